package httpbackend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"usher/backends/setting"
)

// dialer connects to one backend, and to where it redirects. It resolves names anew for every connection. Safe for
// concurrent use.
type dialer struct {
	// plain connects to the configured address, which may be anywhere, and checked to the targets of redirects.
	plain, checked  net.Dialer
	tls             *setting.TLSFiles
	tlsTimeout      time.Duration
	allowedNetworks []netip.Prefix
	// own is where the configured address led last.
	own atomic.Pointer[netip.Addr]
}

// newDialer returns the dialer. A nil resolver is the system's.
func newDialer(cfg Config, files *setting.TLSFiles, resolver *net.Resolver) *dialer {
	d := &dialer{
		plain: net.Dialer{Timeout: cfg.DialTimeout, Resolver: resolver}, tls: files, tlsTimeout: cfg.TLSTimeout,
		allowedNetworks: cfg.AllowedNetworks,
	}
	d.checked = d.plain
	d.checked.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		resolved, err := netip.ParseAddrPort(address)
		if err != nil || !d.allows(resolved.Addr()) {
			return &refusedAddressError{resolved.Addr()}
		}
		return nil
	}
	return d
}

// refusedAddressError is a redirect into a network that the operator has not allowed.
type refusedAddressError struct{ address netip.Addr }

func (e *refusedAddressError) Error() string {
	return fmt.Sprintf("redirect refused: %s is no address of the internet; add its network to allowed_networks if it is right", e.address)
}

// allows reports whether a redirect may lead to the address. It is checked after its name was resolved, so that no name
// leads into the operator's network.
func (d *dialer) allows(address netip.Addr) bool {
	own := d.own.Load()
	return setting.AllowsAddress(d.allowedNetworks, address) ||
		own != nil && (*own == address.Unmap() || setting.SharesPrivateNetwork(*own, address))
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if isRedirected(ctx) {
		return setting.Dial(ctx, &d.checked, network, address)
	}
	conn, err := setting.Dial(ctx, &d.plain, network, address)
	if err != nil {
		return nil, err
	}
	if to, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		own := to.Addr().Unmap()
		d.own.Store(&own)
	}
	return conn, nil
}

// handshakeError marks an error of the TLS handshake, which net/http does not.
type handshakeError struct{ error }

func (e handshakeError) Unwrap() error { return e.error }

// dialTLS connects and completes the handshake within the timeout. The target of a redirect has a name of its own, and
// gets no client certificate.
func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.tlsTimeout)
	defer cancel()
	tlsConn, err := d.tls.Handshake(ctx, conn, address, func(cfg *tls.Config) {
		if isRedirected(ctx) {
			cfg.ServerName, cfg.Certificates = "", nil
		}
	})
	if err != nil {
		return nil, handshakeError{err}
	}
	return tlsConn, nil
}
