package setting

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"time"
)

// stagger is after how long without an answer the next address of a name is tried, as RFC 8305 recommends.
const stagger = 250 * time.Millisecond

// Dial connects as the dialer does, and to the first of a name's addresses that answers: the next one is tried when one fails, and
// after a moment in which none has answered. A net.Dialer gives the first of few addresses of one family two seconds, so that a server
// that is off takes all of a shorter timeout, though another one of its name would answer.
func Dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return d.DialContext(ctx, network, address)
	}
	if d.Timeout > 0 { // for all of them
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	addresses, err := cmp.Or(d.Resolver, net.DefaultResolver).LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return dialFirst(ctx, addresses, func(ctx context.Context, to netip.Addr) (net.Conn, error) {
		return d.DialContext(ctx, network, net.JoinHostPort(to.Unmap().String(), port))
	})
}

// dialled is what came of one address.
type dialled struct {
	conn net.Conn
	err  error
}

// dialFirst returns the connection that is there first, or the first error if there is none.
func dialFirst(ctx context.Context, to []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialled, len(to))
	next := time.NewTimer(0)
	defer next.Stop()
	var firstErr error
	for begun, ended := 0, 0; ended < len(to); {
		select {
		case <-next.C:
			if begun == len(to) {
				continue
			}
			address := to[begun]
			begun++
			go func() {
				conn, err := dial(ctx, address)
				results <- dialled{conn, err}
			}()
			next.Reset(stagger)
		case r := <-results:
			ended++
			if r.err == nil {
				go closeAll(results, begun-ended)
				return r.conn, nil
			}
			if firstErr == nil {
				firstErr = r.err
			}
			next.Reset(0)
		}
	}
	return nil, firstErr
}

// closeAll closes so many connections that came too late.
func closeAll(results <-chan dialled, count int) {
	for range count {
		if r := <-results; r.err == nil {
			_ = r.conn.Close()
		}
	}
}
