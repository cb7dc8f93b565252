package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends/setting"
	"usher/bench/process"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// authority signs the certificates of a test.
type authority struct {
	t    *testing.T
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	var der []byte
	a.key, der = a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	var err error
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) make(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	must(a.t, err)
	return key, der
}

// sign makes a certificate for servers and clients, and returns the files of it and its key.
func (a *authority) sign(name string) (cert, key string) {
	a.t.Helper()
	private, der := a.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)
	text, err := x509.MarshalPKCS8PrivateKey(private)
	must(a.t, err)
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "PRIVATE KEY", text)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), name)
	must(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func TestRedis_TLS(t *testing.T) {
	t.Parallel()
	port, err := process.ReservePort()
	must(t, err)
	t.Cleanup(port.Release)
	_, number, err := net.SplitHostPort(port.Address)
	must(t, err)
	ca := newAuthority(t)
	cert, key := ca.sign("redis.example.com")
	ours, ourKey := ca.sign("usher.example.com")
	redistest.Start(t, "--tls-port", number, "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-ca-cert-file", ca.file, "--tls-auth-clients", "yes")

	c := DefaultConfig()
	c.EncryptionKeys = []setting.Key{{ID: "a", Secret: "a secret of the cluster"}}
	c.Redis.Addresses = []string{port.Address}
	c.RedisTimeout = 5 * time.Second
	c.Redis.TLS = redisclient.TLSConfig{
		Enabled: true, TLSConfig: setting.TLSConfig{CAFile: ca.file, CertFile: ours, KeyFile: ourKey, ServerName: "redis.example.com"},
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
