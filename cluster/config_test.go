package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
	"usher/cluster/redisclient"
)

// unused is a line about a setting that a node without addresses does not use.
func unused(setting, it string) string {
	return setting + ": set, and not used, because redis.addresses is empty; name the servers, or take " + it + " out\n"
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		edit func(*Config)
		want string
	}{
		"a node alone": {func(c *Config) { *c = DefaultConfig() }, ""},
		"a cluster":    {func(*Config) {}, ""},
		"by a socket":  {func(c *Config) { c.Redis.Addresses = []string{"/run/redis.sock"} }, ""},
		"no keys":      {func(c *Config) { c.EncryptionKeys = nil }, `encryption_keys: none; want at least one, the same on every node, such as { id: a, secret: "file:/etc/usher/cluster.key" }`},
		"all of Redis but its addresses": {
			func(c *Config) {
				c.Redis = redisclient.Config{
					SentinelMaster: "m", Cluster: true, Username: "u", Password: "p", SentinelUsername: "s", SentinelPassword: "p", Database: 1,
					TLS: redisclient.TLSConfig{Enabled: true}, KeyPrefix: "other", PoolSize: 8,
				}
			},
			unused("encryption_keys", "them") + unused("redis.sentinel_master", "it") + unused("redis.cluster", "it") +
				unused("redis.username", "it") + unused("redis.password", "it") + unused("redis.sentinel_username", "it") +
				unused("redis.sentinel_password", "it") + unused("redis.database", "it") + unused("redis.tls", "it") +
				unused("redis.key_prefix", "it") + strings.TrimSuffix(unused("redis.pool_size", "it"), "\n"),
		},
		"bad keys": {
			func(c *Config) {
				c.EncryptionKeys = []setting.Key{{ID: "a", Secret: "short"}, {ID: "a", Secret: "a secret of the cluster"}, {ID: "a b", Secret: "a secret of the cluster"}}
			},
			"encryption_keys[0].secret: has 5 bytes; want at least 16\n" +
				"encryption_keys[1].id: \"a\": want 1 to 16 letters and digits, unlike any other key's\n" +
				"encryption_keys[2].id: \"a b\": want 1 to 16 letters and digits, unlike any other key's",
		},
		"the shortest times": {
			func(c *Config) {
				c.RedisTimeout, c.HeartbeatInterval, c.SessionTTL = 5*time.Millisecond, time.Second, time.Minute
			}, "",
		},
		"the longest times": {
			func(c *Config) {
				c.RedisTimeout, c.HeartbeatInterval, c.SessionTTL = 10*time.Second, 10*time.Minute, 30*24*time.Hour
			}, "",
		},
		"times": {
			func(c *Config) {
				c.RedisTimeout, c.HeartbeatInterval, c.SessionTTL = 0, time.Millisecond, 1000*time.Hour
			},
			"redis_timeout: 0s is out of range; want 5ms to 10s\nheartbeat_interval: 1ms is out of range; want 1s to 10m0s\nsession_ttl: 1000h0m0s is out of range; want 1m0s to 720h0m0s",
		},
		"no address": {func(c *Config) { c.Redis.Addresses = []string{"redis"} }, `redis.addresses[0]: "redis" is no address; want "host:port", or the path of a socket`},
		"several addresses of one": {
			func(c *Config) { c.Redis.Addresses = []string{"a:1", "b:1"} },
			"redis.addresses: 2 of them; want one, unless redis.sentinel_master or redis.cluster says what they are",
		},
		"both kinds": {
			func(c *Config) { c.Redis.SentinelMaster, c.Redis.Cluster = "m", true },
			`redis.sentinel_master: "m": a Redis Cluster has no Sentinels; want redis.cluster or this`,
		},
		"databases of a cluster": {func(c *Config) { c.Redis.Cluster, c.Redis.Database = true, 3 }, "redis.database: 3; a Redis Cluster has only 0"},
		"users without passwords": {
			func(c *Config) { c.Redis.Username, c.Redis.SentinelUsername = "u", "s" },
			"redis.username: \"u\" needs redis.password\nredis.sentinel_username: \"s\" needs redis.sentinel_password",
		},
		"half of TLS": {
			func(c *Config) { c.Redis.TLS.CertFile = "x.pem" },
			"redis.tls.cert_file: needs key_file beside it, and the other way round\nredis.tls.enabled: false, but other settings of redis.tls are set",
		},
		"a prefix that would break keys": {func(c *Config) { c.Redis.KeyPrefix = "a{b" }, `redis.key_prefix: "a{b": want 1 to 64 letters, digits, dots, _ and -`},
		"a tiny pool":                    {func(c *Config) { c.Redis.PoolSize = 1 }, "redis.pool_size: 1 is out of range; want 8 to 10000"},
		"a database that is none":        {func(c *Config) { c.Redis.Database = -1 }, "redis.database: -1 is no database"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := DefaultConfig()
			c.Redis.Addresses = []string{"127.0.0.1:6379"}
			c.EncryptionKeys = []setting.Key{{ID: "a", Secret: "a secret of the cluster"}}
			test.edit(&c)
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfig_CheckStateDir(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	isNone := func(dir string) string {
		return fmt.Sprintf("cluster.state_dir: %q is no folder; make it, writable for the user that runs usher", dir)
	}
	for dir, want := range map[string]string{"": "", folder: "", file + "x": isNone(file + "x"), file: isNone(file)} {
		c := DefaultConfig()
		c.StateDir = dir
		err := c.CheckStateDir()
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
			t.Errorf("%q: got %v, want %s", dir, err, want)
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%q: the settings are refused where no node runs: %v", dir, err)
		}
	}
}
