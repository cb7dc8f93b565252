package listener

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"

	"usher/backends/setting"
)

// ProxyProtocol configures the PROXY protocol, versions 1 and 2, by which a load balancer tells whose connection it passes on.
type ProxyProtocol struct {
	// From are the networks whose connections may begin with a header. Empty: nobody's may.
	From []netip.Prefix `yaml:"from"`
}

// Warnings says what allowed settings cost.
func (c ProxyProtocol) Warnings() error {
	var errs []error
	for i, p := range c.From {
		if setting.IsEverybody(p) {
			errs = append(errs, fmt.Errorf("from[%d]: %s believes anybody's PROXY header: viewers choose their address, and with it the limits "+
				"and bans that apply to them; list your load balancers alone", i, p))
		}
	}
	return errors.Join(errs...)
}

// Limits bound connections.
type Limits struct {
	// MaxConnections is how many connections may be open.
	MaxConnections int `yaml:"max_connections"`
	// MaxConnectionsPerAddress is how many of them one subscriber may have; 0: any number.
	MaxConnectionsPerAddress int `yaml:"max_connections_per_address"`
}

// otherFiles is how many files a node needs besides its viewers' connections: to origins, backends, Redis and other nodes.
const otherFiles = 2000

// possible returns the limits that the process can keep. Without files for its connections a node would accept none at all.
func (l Limits) possible(log *slog.Logger) Limits {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Max >= uint64(max(l.MaxConnections, 0))+otherFiles {
		return l
	}
	most := int(files.Max)
	able := max(most/2, most-otherFiles)
	log.Info("fewer connections than limits.max_connections: the process may open too few files; raise LimitNOFILE= or ulimit -n",
		slog.Int("max_connections", l.MaxConnections), slog.Int("possible", able), slog.Uint64("open_files", files.Max))
	l.MaxConnections = able
	return l
}

// DefaultLimits returns the limits that hold unless the file overrides them.
func DefaultLimits() Limits { return Limits{MaxConnections: 100_000, MaxConnectionsPerAddress: 2000} }

// Validate reports every invalid setting.
func (l Limits) Validate() error {
	var errs []error
	if l.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("max_connections: %d; want at least 1", l.MaxConnections))
	}
	if l.MaxConnectionsPerAddress < 0 {
		errs = append(errs, fmt.Errorf("max_connections_per_address: %d; want at least 1, or 0 for no limit", l.MaxConnectionsPerAddress))
	}
	return errors.Join(errs...)
}
