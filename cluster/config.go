package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"usher/backends"
)

// Config is how a node finds the others.
type Config struct {
	// NodeName is the name that the node is shown by; empty: the host's.
	NodeName string `yaml:"node_name"`
	// Redis is what the nodes share; without addresses the node is alone.
	Redis RedisConfig `yaml:"redis"`
	// EncryptionKeys seal what Redis holds of viewers. The first one seals, all of them open: a new key goes to the end of every
	// node's list first, then to its head, and the old one out once nothing is left that it sealed. The first one also
	// keys the hashes that users are known by, so a change of it lets users exceed their limits for one soft window.
	EncryptionKeys []backends.Key `yaml:"encryption_keys"`
	// RedisTimeout is the longest that anybody waits for Redis.
	RedisTimeout time.Duration `yaml:"redis_timeout"`
	// HeartbeatInterval is how often a node says which sessions it has seen.
	HeartbeatInterval time.Duration `yaml:"heartbeat_interval"`
	// SessionTTL is how long a session is remembered after its decision has run out.
	SessionTTL time.Duration `yaml:"session_ttl"`
	// Memory bounds what a node remembers of ended sessions while it has no Redis.
	Memory MemoryConfig `yaml:"memory"`
}

// RedisConfig is one Redis server, a group of them that Sentinels watch, or a Redis Cluster.
type RedisConfig struct {
	// Addresses are the server's "host:port", or the path of its socket; with SentinelMaster those of the Sentinels; with
	// Cluster those of some masters.
	Addresses []string `yaml:"addresses"`
	// SentinelMaster is the name of the group, as the Sentinels call it; empty: there are none.
	SentinelMaster string `yaml:"sentinel_master"`
	// Cluster says that the addresses are those of a Redis Cluster.
	Cluster bool `yaml:"cluster"`
	// Username and Password are those of an ACL user; without a name those of the default user.
	Username string          `yaml:"username"`
	Password backends.Secret `yaml:"password"`
	// SentinelUsername and SentinelPassword are for the Sentinels themselves.
	SentinelUsername string          `yaml:"sentinel_username"`
	SentinelPassword backends.Secret `yaml:"sentinel_password"`
	// Database is the number of the database; a Redis Cluster has only 0.
	Database int            `yaml:"database"`
	TLS      RedisTLSConfig `yaml:"tls"`
	// KeyPrefix begins the names of all keys and channels.
	KeyPrefix string `yaml:"key_prefix"`
	// PoolSize is how many connections to each server there may be at most.
	PoolSize int `yaml:"pool_size"`
}

// RedisTLSConfig is how a Redis that speaks TLS is believed, and how we show who we are.
type RedisTLSConfig struct {
	// Enabled speaks TLS, also with Sentinels.
	Enabled            bool `yaml:"enabled"`
	backends.TLSConfig `yaml:",inline"`
}

// DefaultConfig is what holds where the file is silent: a node alone.
func DefaultConfig() Config {
	return Config{
		Memory:            DefaultMemoryConfig(),
		Redis:             RedisConfig{KeyPrefix: "usher", PoolSize: 32},
		RedisTimeout:      100 * time.Millisecond,
		HeartbeatInterval: 20 * time.Second,
		SessionTTL:        30 * time.Minute,
	}
}

// Enabled reports whether the node shares its sessions with others.
func (c Config) Enabled() bool { return len(c.Redis.Addresses) > 0 }

// Validate names every setting that cannot work, by its path below the cluster's.
func (c Config) Validate() error {
	errs := []error{c.validateKeys(), c.validateTimes()}
	if c.Enabled() {
		errs = append(errs, c.Redis.validate())
	}
	return errors.Join(errs...)
}

func (c Config) validateKeys() error {
	var errs []error
	if c.Enabled() && len(c.EncryptionKeys) == 0 {
		errs = append(errs, errors.New("encryption_keys: none; want at least one, the same on every node, such as { id: a, secret: \"file:/etc/usher/cluster.key\" }"))
	}
	errs = append(errs, backends.ValidateKeys("encryption_keys", c.EncryptionKeys))
	return errors.Join(errs...)
}

func (c Config) validateTimes() error {
	var errs []error
	for _, d := range []struct {
		key              string
		value, low, high time.Duration
	}{
		{"redis_timeout", c.RedisTimeout, 5 * time.Millisecond, 10 * time.Second},
		{"heartbeat_interval", c.HeartbeatInterval, time.Second, 10 * time.Minute},
		{"session_ttl", c.SessionTTL, time.Minute, 30 * 24 * time.Hour},
	} {
		if d.value < d.low || d.value > d.high {
			errs = append(errs, fmt.Errorf("%s: %v is out of range; want %v to %v", d.key, d.value, d.low, d.high))
		}
	}
	return errors.Join(errs...)
}

func (c RedisConfig) validate() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for i, a := range c.Addresses {
		_, port, err := net.SplitHostPort(a)
		wrong((err != nil || port == "") && !strings.HasPrefix(a, "/"),
			`redis.addresses[%d]: %q is no address; want "host:port", or the path of a socket`, i, a)
	}
	sentinels := c.SentinelMaster != ""
	wrong(sentinels && c.Cluster, "redis.sentinel_master: %q: a Redis Cluster has no Sentinels; want redis.cluster or this", c.SentinelMaster)
	wrong(len(c.Addresses) > 1 && !sentinels && !c.Cluster,
		"redis.addresses: %d of them; want one, unless redis.sentinel_master or redis.cluster says what they are", len(c.Addresses))
	wrong(c.Database < 0, "redis.database: %d is no database", c.Database)
	wrong(c.Database > 0 && c.Cluster, "redis.database: %d; a Redis Cluster has only 0", c.Database)
	wrong(c.Username != "" && c.Password == "", "redis.username: %q needs redis.password", c.Username)
	wrong(c.SentinelUsername != "" && c.SentinelPassword == "",
		"redis.sentinel_username: %q needs redis.sentinel_password", c.SentinelUsername)
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("redis.%w", err))
	}
	wrong(!c.TLS.Enabled && c.TLS != RedisTLSConfig{}, "redis.tls.enabled: false, but other settings of redis.tls are set")
	wrong(!regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`).MatchString(c.KeyPrefix),
		"redis.key_prefix: %q: want 1 to 64 letters, digits, dots, _ and -", c.KeyPrefix)
	wrong(c.PoolSize < 8 || c.PoolSize > 10_000, "redis.pool_size: %d is out of range; want 8 to 10000", c.PoolSize)
	return errors.Join(errs...)
}

// load reads the files. The result is nil if TLS is off.
func (c RedisTLSConfig) load() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	loaded, err := c.Load()
	if err != nil {
		return nil, fmt.Errorf("redis.%w", err)
	}
	return loaded, nil
}
