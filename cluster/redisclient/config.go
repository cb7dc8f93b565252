package redisclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/backends/setting"
)

// Config configures the connection to one Redis server, to a group of servers under Sentinel, or to a Redis Cluster.
type Config struct {
	// Addresses are the server's "host:port" or the path of its socket; with SentinelMaster those of the Sentinels; with
	// Cluster those of some masters.
	Addresses []string `yaml:"addresses"`
	// SentinelMaster is the name of the group, as the Sentinels call it; empty: no Sentinels.
	SentinelMaster string `yaml:"sentinel_master"`
	// Cluster says that the addresses are those of a Redis Cluster.
	Cluster bool `yaml:"cluster"`
	// Username and Password are those of an ACL user; without a username, those of the default user.
	Username string         `yaml:"username"`
	Password setting.Secret `yaml:"password"`
	// SentinelUsername and SentinelPassword are for the Sentinels themselves.
	SentinelUsername string         `yaml:"sentinel_username"`
	SentinelPassword setting.Secret `yaml:"sentinel_password"`
	// Database is the number of the database; a Redis Cluster has only 0.
	Database int       `yaml:"database"`
	TLS      TLSConfig `yaml:"tls"`
	// KeyPrefix begins the names of all keys and channels.
	KeyPrefix string `yaml:"key_prefix"`
	// PoolSize is the most connections to each server.
	PoolSize int `yaml:"pool_size"`
}

// TLSConfig configures TLS to Redis. Changed files are loaded without a restart, for new connections.
type TLSConfig struct {
	// Enabled turns TLS on, also to Sentinels.
	Enabled           bool `yaml:"enabled"`
	setting.TLSConfig `yaml:",inline"`
}

// Validate reports every setting that cannot work, by its path below the cluster's.
func (c Config) Validate() error {
	var errs problems
	c.validateServers(&errs)
	errs.reject(c.Username != "" && c.Password == "", "redis.username: %q needs redis.password", c.Username)
	errs.reject(c.SentinelUsername != "" && c.SentinelPassword == "",
		"redis.sentinel_username: %q needs redis.sentinel_password", c.SentinelUsername)
	if err := c.TLS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("redis.%w", err))
	}
	errs.reject(!c.TLS.Enabled && c.TLS != TLSConfig{}, "redis.tls.enabled: false, but other settings of redis.tls are set")
	errs.reject(!regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`).MatchString(c.KeyPrefix),
		"redis.key_prefix: %q: want 1 to 64 letters, digits, dots, _ and -", c.KeyPrefix)
	errs.reject(c.PoolSize < 8 || c.PoolSize > 10_000, "redis.pool_size: %d is out of range; want 8 to 10000", c.PoolSize)
	return errors.Join(errs...)
}

// ValidateUnused reports every setting that is not its default, for a node without addresses: it would run alone, and nothing
// would say that the rest is ignored.
func (c Config) ValidateUnused(defaults Config) error {
	var errs problems
	for _, s := range []struct {
		key   string
		isSet bool
	}{
		{"sentinel_master", c.SentinelMaster != defaults.SentinelMaster},
		{"cluster", c.Cluster != defaults.Cluster},
		{"username", c.Username != defaults.Username},
		{"password", c.Password != defaults.Password},
		{"sentinel_username", c.SentinelUsername != defaults.SentinelUsername},
		{"sentinel_password", c.SentinelPassword != defaults.SentinelPassword},
		{"database", c.Database != defaults.Database},
		{"tls", c.TLS != defaults.TLS},
		{"key_prefix", c.KeyPrefix != defaults.KeyPrefix},
		{"pool_size", c.PoolSize != defaults.PoolSize},
	} {
		errs.reject(s.isSet, "redis.%s: set, and not used, because redis.addresses is empty; name the servers, or take it out", s.key)
	}
	return errors.Join(errs...)
}

// Warnings says what a Redis on the internet costs. Addresses with a name may be there as well.
func (c Config) Warnings() error {
	var errs problems
	for i, a := range c.Addresses {
		host, _, _ := net.SplitHostPort(a)
		if !setting.IsPublic(host) {
			continue
		}
		errs.reject(!c.TLS.Enabled, "addresses[%d]: %q is a public address, and tls.enabled is false: anyone on the way reads "+
			"and changes sessions and bans; turn TLS on", i, a)
		errs.reject(c.Password == "", "addresses[%d]: %q is a public address, and password is empty: anyone who reaches it lets "+
			"viewers in and ends sessions; set a password", i, a)
	}
	return errors.Join(errs...)
}

// problems are what is wrong with a configuration.
type problems []error

func (p *problems) reject(isWrong bool, format string, args ...any) {
	if isWrong {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

// validateServers reports which settings contradict one another on what the servers are.
func (c Config) validateServers(errs *problems) {
	for i, a := range c.Addresses {
		if strings.HasPrefix(a, "/") {
			continue
		}
		if strings.Contains(a, "@") { // an address without a secret is named
			*errs = append(*errs, fmt.Errorf(`redis.addresses[%d]: has a user or a password, which redis.username and redis.password have; `+
				`want "host:port", or the path of a socket`, i))
		} else if err := setting.ValidateServer(a); err != nil {
			*errs = append(*errs, fmt.Errorf("redis.addresses[%d]: %w, or the path of a socket", i, err))
		}
	}
	hasSentinels := c.SentinelMaster != ""
	errs.reject(hasSentinels && c.Cluster,
		"redis.sentinel_master: %q: a Redis Cluster has no Sentinels; want redis.cluster or this", c.SentinelMaster)
	errs.reject(len(c.Addresses) > 1 && !hasSentinels && !c.Cluster,
		"redis.addresses: %d of them; want one, unless redis.sentinel_master or redis.cluster says what they are", len(c.Addresses))
	errs.reject(c.Database < 0, "redis.database: %d is no database", c.Database)
	errs.reject(c.Database > 0 && c.Cluster, "redis.database: %d; a Redis Cluster has only 0", c.Database)
}

// dialer reads the certificate files, and returns what connects with them as they are at the time. It returns nil if TLS is off.
// The timeout bounds connecting, and the handshake.
func (c TLSConfig) dialer(timeout time.Duration, log *slog.Logger) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	if !c.Enabled {
		return nil, nil
	}
	files, err := c.Open(log)
	if err != nil {
		return nil, fmt.Errorf("redis.%w", err)
	}
	plain := redis.NewDialer(&redis.Options{DialTimeout: timeout})
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := plain(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return files.Handshake(ctx, conn, address, nil)
	}, nil
}
