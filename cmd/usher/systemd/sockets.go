package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are the listeners that the process was started with. They are not safe for concurrent use.
type Sockets struct{ left []socket }

// socket is a listener, and the FileDescriptorName= of its unit.
type socket struct {
	net.Listener

	name string
}

// Inherited returns the listeners that systemd passed to the process, and removes them from the environment. Without systemd
// there are none.
func Inherited() (*Sockets, error) {
	s := &Sockets{}
	var errs []error
	for _, file := range activation.Files(true) {
		l, err := net.FileListener(file)
		_ = file.Close() // the listener has a file of its own
		if err != nil {
			errs = append(errs, fmt.Errorf("systemd passes %q, in which no connection arrives: want ListenStream= in the socket unit: %w", file.Name(), err))
			continue
		}
		s.left = append(s.left, socket{l, file.Name()})
	}
	if err := errors.Join(errs...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Take returns the listener of that name for a setting, or nil if there is none. The setting's address is "host:port"; a host of
// neither side means all of the machine.
func (s *Sockets) Take(ctx context.Context, name, setting, address string) (net.Listener, error) {
	i := slices.IndexFunc(s.left, func(l socket) bool { return l.name == name })
	if i < 0 {
		return nil, nil //nolint:nilnil // no listener is no error
	}
	at := s.left[i].Addr()
	if !isAt(ctx, at, address) {
		return nil, fmt.Errorf("%s: %q, but systemd passes the socket %q at %s; want one address in the setting and in ListenStream= of the socket unit",
			setting, address, name, at)
	}
	taken := s.left[i].Listener
	s.left = slices.Delete(s.left, i, i+1)
	return taken, nil
}

// isAt reports whether a listener has the address of a setting.
func isAt(ctx context.Context, at net.Addr, address string) bool {
	tcp, isTCP := at.(*net.TCPAddr)
	host, service, err := net.SplitHostPort(address)
	if err != nil || !isTCP {
		return false
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil || port != tcp.Port {
		return false
	}
	if host == "" {
		return tcp.IP.IsUnspecified()
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	return err == nil && slices.ContainsFunc(ips, func(a net.IPAddr) bool {
		return a.IP.Equal(tcp.IP) || a.IP.IsUnspecified() && tcp.IP.IsUnspecified()
	})
}

// Unused returns an error for each listener that nobody took.
func (s *Sockets) Unused() error {
	var errs []error
	for _, l := range s.left {
		errs = append(errs, fmt.Errorf("systemd passes the socket %q at %s, which no setting takes; want one ListenStream= with "+
			"FileDescriptorName=public for listen, admin for admin.listen, or ext_authz for ext_authz.listen", l.name, l.Addr()))
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
