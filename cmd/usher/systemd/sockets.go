package systemd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Sockets are the listeners that the process was started with. It is not safe for concurrent use.
type Sockets struct{ left []net.Listener }

// Inherited returns the listeners that systemd passed to the process, and forgets that it did. Without systemd there are none.
func Inherited() (*Sockets, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	s := &Sockets{}
	for i, l := range all {
		if l == nil {
			s.Close()
			return nil, fmt.Errorf("socket %d of systemd takes no connections; want ListenStream= in the socket unit", i)
		}
		s.left = append(s.left, l)
	}
	return s, nil
}

// Take returns the listener whose address a setting names, "host:port", or nil. A host of neither side means all of them.
func (s *Sockets) Take(ctx context.Context, address string) net.Listener {
	wanted, err := resolve(ctx, address)
	if err != nil {
		return nil // to listen there says why
	}
	i := slices.IndexFunc(s.left, func(l net.Listener) bool {
		at, isTCP := l.Addr().(*net.TCPAddr)
		return isTCP && at.Port == wanted.Port && (at.IP.Equal(wanted.IP) || isAll(at.IP) && isAll(wanted.IP))
	})
	if i < 0 {
		return nil
	}
	taken := s.left[i]
	s.left = slices.Delete(s.left, i, i+1)
	return taken
}

func resolve(ctx context.Context, address string) (*net.TCPAddr, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil || host == "" {
		return &net.TCPAddr{Port: port}, err
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	return &net.TCPAddr{IP: ips[0].IP, Port: port}, nil
}

// isAll reports whether an address means all of the machine.
func isAll(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }

// Unused returns an error for each listener that nobody took: viewers would wait in it for ever.
func (s *Sockets) Unused() error {
	var errs []error
	for _, l := range s.left {
		errs = append(errs, fmt.Errorf("systemd passes a socket at %s, which is the address of no listener; want it as listen, admin.listen or "+
			"ext_authz.listen, or without the ListenStream= in the socket unit", l.Addr()))
	}
	return errors.Join(errs...)
}

// Close closes the listeners that nobody took.
func (s *Sockets) Close() {
	for _, l := range s.left {
		_ = l.Close()
	}
	s.left = nil
}

// The states that systemd is told.
const (
	Ready    = daemon.SdNotifyReady
	Stopping = daemon.SdNotifyStopping
)

// Notify tells systemd a state. Without systemd it does nothing.
func Notify(state string, log *slog.Logger) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", slog.String("state", state), slog.Any("error", err))
	}
}
