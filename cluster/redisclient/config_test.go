package redisclient

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/backends/setting"
)

func TestNew_UnreadableTLSFiles(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, os.WriteFile(empty, nil, 0o600))
	for name, test := range map[string]struct {
		config TLSConfig
		want   string
	}{
		"no authority":        {TLSConfig{true, setting.TLSConfig{CAFile: empty + "x"}}, "redis.tls.ca_file: open " + empty},
		"an empty authority":  {TLSConfig{true, setting.TLSConfig{CAFile: empty}}, "redis.tls.ca_file: no certificate in " + empty},
		"no certificate":      {TLSConfig{true, setting.TLSConfig{CertFile: empty, KeyFile: empty}}, "redis.tls.cert_file: "},
		"no TLS, so no files": {TLSConfig{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := New(Config{Addresses: []string{"127.0.0.1:1"}, TLS: test.config}, time.Second, slog.New(slog.DiscardHandler))
			if client != nil {
				client.Close()
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"one server":             {func(*Config) {}, ""},
		"a socket":               {func(c *Config) { c.Addresses = []string{"/run/redis.sock"} }, ""},
		"no server":              {func(c *Config) { c.Addresses = nil }, ""},
		"a URL with a password":  {func(c *Config) { c.Addresses = []string{"redis://usher:S3k1@10.0.0.9:6379"} }, `redis.addresses[0]: has a user or a password, which redis.username and redis.password have; want "host:port", or the path of a socket`},
		"no address":             {func(c *Config) { c.Addresses = []string{"redis"} }, `redis.addresses[0]: "redis" is no address; want "host:port", or the path of a socket`},
		"a group with Sentinels": {func(c *Config) { c.SentinelMaster, c.Addresses = "m", []string{"a:1", "b:1"} }, ""},
		"a Redis Cluster":        {func(c *Config) { c.Cluster, c.Addresses = true, []string{"a:1", "b:1"} }, ""},
		"a Redis Cluster with Sentinels": {
			func(c *Config) { c.SentinelMaster, c.Cluster = "m", true },
			`redis.sentinel_master: "m": a Redis Cluster has no Sentinels; want redis.cluster or this`,
		},
		"two servers without a kind": {
			func(c *Config) { c.Addresses = []string{"a:1", "b:1"} },
			"redis.addresses: 2 of them; want one, unless redis.sentinel_master or redis.cluster says what they are",
		},
		"another database":              {func(c *Config) { c.Database = 3 }, ""},
		"a negative database":           {func(c *Config) { c.Database = -1 }, "redis.database: -1 is no database"},
		"the database of a cluster":     {func(c *Config) { c.Cluster = true }, ""},
		"another database of a cluster": {func(c *Config) { c.Cluster, c.Database = true, 1 }, "redis.database: 1; a Redis Cluster has only 0"},
		"a password alone":              {func(c *Config) { c.Password, c.SentinelPassword = "p", "p" }, ""},
		"users with passwords": {func(c *Config) {
			c.Username, c.Password, c.SentinelUsername, c.SentinelPassword = "u", "p", "u", "p"
		}, ""},
		"a user without a password":            {func(c *Config) { c.Username = "u" }, `redis.username: "u" needs redis.password`},
		"a Sentinels' user without a password": {func(c *Config) { c.SentinelUsername = "u" }, `redis.sentinel_username: "u" needs redis.sentinel_password`},
		"TLS":                                  {func(c *Config) { c.TLS.Enabled = true }, ""},
		"TLS with an authority":                {func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, "ca.pem" }, ""},
		"an authority without TLS":             {func(c *Config) { c.TLS.CAFile = "ca.pem" }, "redis.tls.enabled: false, but other settings of redis.tls are set"},
		"half of a certificate":                {func(c *Config) { c.TLS.Enabled, c.TLS.CertFile = true, "c.pem" }, "redis.tls.cert_file: needs key_file beside it, and the other way round"},
		"the longest prefix":                   {func(c *Config) { c.KeyPrefix = strings.Repeat("a", 64) }, ""},
		"no prefix":                            {func(c *Config) { c.KeyPrefix = "" }, `redis.key_prefix: "": want 1 to 64 letters, digits, dots, _ and -`},
		"a prefix that would break keys":       {func(c *Config) { c.KeyPrefix = "a{b" }, `redis.key_prefix: "a{b": want 1 to 64 letters, digits, dots, _ and -`},
		"the least pool":                       {func(c *Config) { c.PoolSize = 8 }, ""},
		"the largest pool":                     {func(c *Config) { c.PoolSize = 10_000 }, ""},
		"less than the least pool":             {func(c *Config) { c.PoolSize = 7 }, "redis.pool_size: 7 is out of range; want 8 to 10000"},
		"more than the largest pool":           {func(c *Config) { c.PoolSize = 10_001 }, "redis.pool_size: 10001 is out of range; want 8 to 10000"},
	} {
		c := Config{Addresses: []string{"127.0.0.1:6379"}, KeyPrefix: "usher", PoolSize: 32}
		test.edit(&c)
		got := ""
		if err := c.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestConfig_Warnings(t *testing.T) {
	t.Parallel()
	const open, plain = `addresses[0]: "8.8.8.8:6379" is a public address, and password is empty`, `addresses[0]: "8.8.8.8:6379" is a public address, and tls.enabled is false`
	for name, test := range map[string]struct {
		address  string
		isTLS    bool
		password setting.Secret
		want     []string
	}{
		"on this machine":                  {"127.0.0.1:6379", false, "", nil},
		"on a private network":             {"10.0.0.7:6379", false, "", nil},
		"a socket":                         {"/run/redis.sock", false, "", nil},
		"on the internet":                  {"8.8.8.8:6379", false, "", []string{plain, open}},
		"on the internet by TLS":           {"8.8.8.8:6379", true, "", []string{open}},
		"on the internet with a password":  {"8.8.8.8:6379", false, "p", []string{plain}},
		"on the internet with all of that": {"8.8.8.8:6379", true, "p", nil},
	} {
		c := Config{Addresses: []string{test.address}, Password: test.password, TLS: TLSConfig{Enabled: test.isTLS}}
		var got []string
		if err := c.Warnings(); err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: got %q, want it to begin with %q", name, got[i], want)
			}
		}
	}
}

func TestConfig_Warnings_EachAddress(t *testing.T) {
	t.Parallel()
	c := Config{Addresses: []string{"10.0.0.7:6379", "8.8.8.8:6379", "8.8.4.4:6379"}, Password: "p"}
	err := c.Warnings()
	if err == nil || strings.Contains(err.Error(), "addresses[0]") || !strings.Contains(err.Error(), "addresses[1]") || !strings.Contains(err.Error(), "addresses[2]") {
		t.Errorf("got %v, want warnings of the second and the third address", err)
	}
}
