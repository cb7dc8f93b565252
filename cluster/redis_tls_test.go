package cluster

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends/backendtest/testtls"
	"usher/backends/setting"
	"usher/bench/process"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

func TestRedis_TLS(t *testing.T) {
	t.Parallel()
	port, err := process.ReservePort()
	must(t, err)
	t.Cleanup(port.Release)
	_, number, err := net.SplitHostPort(port.Address)
	must(t, err)
	ca := testtls.NewAuthority(t)
	theirs, ours := ca.Issue(t, "redis.example.com", nil), ca.Issue(t, "usher.example.com", nil)
	redistest.Start(t, "--tls-port", number, "--tls-cert-file", theirs.CertFile, "--tls-key-file", theirs.KeyFile,
		"--tls-ca-cert-file", ca.File, "--tls-auth-clients", "yes")

	c := DefaultConfig()
	c.EncryptionKeys = []setting.Key{{ID: "a", Secret: "a secret of the cluster"}}
	c.Redis.Addresses = []string{port.Address}
	c.RedisTimeout = 5 * time.Second
	c.Redis.TLS = redisclient.TLSConfig{
		Enabled: true, TLSConfig: setting.TLSConfig{CAFile: ca.File, CertFile: ours.CertFile, KeyFile: ours.KeyFile, ServerName: "redis.example.com"},
	}
	tests := map[string]struct {
		edit func(*redisclient.TLSConfig)
		want bool
	}{
		"valid":                       {func(*redisclient.TLSConfig) {}, true},
		"the address in place of":     {func(c *redisclient.TLSConfig) { c.ServerName = "" }, true},
		"another name":                {func(c *redisclient.TLSConfig) { c.ServerName = "other.example.com" }, false},
		"any name":                    {func(c *redisclient.TLSConfig) { c.ServerName, c.InsecureSkipVerify = "other.example.com", true }, true},
		"an unknown authority":        {func(c *redisclient.TLSConfig) { c.CAFile = "" }, false},
		"without our own certificate": {func(c *redisclient.TLSConfig) { c.CertFile, c.KeyFile = "", "" }, false},
		"without TLS":                 {func(c *redisclient.TLSConfig) { *c = redisclient.TLSConfig{} }, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := c
			test.edit(&c.Redis.TLS)
			if !test.want {
				c.RedisTimeout = time.Second
			}
			s := newStore(t, c, slog.New(slog.DiscardHandler))
			_, err := s.AcquireLease(t.Context(), session.LeaseRequest{ID: idOf(1), Lease: leaseFor})
			if (err == nil) != test.want {
				t.Errorf("acquire a lease: %v", err)
			}
		})
	}
}
