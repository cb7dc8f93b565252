package cluster

import (
	"errors"
	"fmt"
	"os"
	"time"

	"usher/backends/setting"
	"usher/cluster/events"
	"usher/cluster/redisclient"
)

// Config configures how a node shares sessions with others.
type Config struct {
	// NodeName is the name that the node is shown by; empty: the host's name.
	NodeName string `yaml:"node_name"`
	// Redis is what the nodes share; without addresses the node is a single one.
	Redis redisclient.Config `yaml:"redis"`
	// EncryptionKeys encrypt what Redis holds of viewers. The first one encrypts, all of them decrypt. To rotate them, add a
	// new key at the end of every node's list, then move it to the head, and remove the old key when nothing is left that it
	// encrypted. The first key also hashes users, so a change of it lets users exceed their limits for one grace period.
	EncryptionKeys []setting.Key `yaml:"encryption_keys"`
	// RedisTimeout is the longest that a request waits for Redis.
	RedisTimeout time.Duration `yaml:"redis_timeout"`
	// HeartbeatInterval is how often a node reports which sessions it has seen.
	HeartbeatInterval time.Duration `yaml:"heartbeat_interval"`
	// SessionTTL is how long a session is remembered after its decision has expired, and when it was last seen: for longer than until it
	// is found to be idle.
	SessionTTL time.Duration `yaml:"session_ttl"`
	// StateDir is the folder in which the node keeps bans and orders on breakers over a restart; empty: none. Every node has its own.
	StateDir string `yaml:"state_dir"`
	// Memory bounds what a node remembers of ended sessions while it has no Redis.
	Memory MemoryConfig `yaml:"memory"`
}

// DefaultConfig returns the defaults: a single node.
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

// Validate reports every setting that cannot work, by its path below the cluster's.
func (c Config) Validate() error {
	errs := []error{c.validateKeys(), c.validateTimes()}
	if c.Enabled() {
		errs = append(errs, c.Redis.Validate())
	} else {
		errs = append(errs, c.Redis.ValidateUnused(DefaultConfig().Redis))
	}
	return errors.Join(errs...)
}

// CheckStateDir returns why no node could keep its bans in the folder. It changes nothing there, and accepts a folder that
// a running node uses. The error begins with the setting.
func (c Config) CheckStateDir() error {
	if c.StateDir == "" {
		return nil
	}
	if info, err := os.Stat(c.StateDir); err != nil || !info.IsDir() {
		return fmt.Errorf("cluster.state_dir: %q is no folder; make it, writable for the user that runs usher", c.StateDir)
	}
	if err := events.CheckBanFile(c.banFile()); err != nil {
		return fmt.Errorf("cluster.state_dir: %w", err)
	}
	return nil
}

func (c Config) validateKeys() error {
	var errs []error
	if c.Enabled() && len(c.EncryptionKeys) == 0 {
		errs = append(errs, errors.New("encryption_keys: none; want at least one, the same on every node, such as { id: a, secret: \"file:/etc/usher/cluster.key\" }"))
	}
	if !c.Enabled() && len(c.EncryptionKeys) > 0 {
		errs = append(errs, errors.New("encryption_keys: set, and not used, because redis.addresses is empty; name the servers, or take them out"))
	}
	errs = append(errs, setting.ValidateKeys("encryption_keys", c.EncryptionKeys))
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
