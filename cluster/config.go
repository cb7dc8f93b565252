package cluster

import (
	"errors"
	"fmt"
	"time"

	"usher/backends"
	"usher/cluster/redisclient"
)

// Config is how a node finds the others.
type Config struct {
	// NodeName is the name that the node is shown by; empty: the host's.
	NodeName string `yaml:"node_name"`
	// Redis is what the nodes share; without addresses the node is alone.
	Redis redisclient.Config `yaml:"redis"`
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

// DefaultConfig is what holds where the file is silent: a node alone.
func DefaultConfig() Config {
	return Config{
		Memory:            DefaultMemoryConfig(),
		Redis:             redisclient.Config{KeyPrefix: "usher", PoolSize: 32},
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
		errs = append(errs, c.Redis.Validate())
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
