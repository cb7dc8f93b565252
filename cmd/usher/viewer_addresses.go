package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"usher/actors"
	"usher/actors/session"
	"usher/backends"
)

// addressSample is of how many sessions the addresses are compared.
const addressSample = 50

// addressWatch warns if all viewers come from one private address: that of a proxy that trusted_proxies does not list, or
// that does not report its viewers. Such viewers share what is bounded by address, and the backend decides on the proxy's
// address instead of theirs. It looks at sessions as they are opened, and at nothing else.
type addressWatch struct {
	*actors.Registry
	log *slog.Logger

	mu       sync.Mutex
	trusted  []netip.Prefix
	sessions map[backends.SessionID]struct{} // of the present sample
	address  netip.Prefix                    // of its first session
	isMixed  bool
	shared   netip.Prefix // of the last whole sample; zero: it has several addresses, or a public one
	isLogged bool
}

func newAddressWatch(r *actors.Registry, trusted []netip.Prefix, log *slog.Logger) *addressWatch {
	return &addressWatch{Registry: r, log: log, trusted: trusted, sessions: map[backends.SessionID]struct{}{}}
}

// setTrusted sets trusted_proxies. The viewers are looked at anew.
func (w *addressWatch) setTrusted(networks []netip.Prefix) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Equal(w.trusted, networks) {
		return
	}
	w.trusted, w.shared, w.isLogged = networks, netip.Prefix{}, false
	clear(w.sessions)
}

// Open opens a session as the registry does.
func (w *addressWatch) Open(ctx context.Context, r session.OpenRequest) (session.Handle, error) {
	w.record(r.Request)
	return w.Registry.Open(ctx, r)
}

// record adds a session to the sample.
func (w *addressWatch) record(r *backends.Request) {
	address := backends.SubscriberPrefix(r.Address)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sessions) == 0 {
		w.address, w.isMixed = address, false
	}
	w.sessions[r.Session] = struct{}{}
	w.isMixed = w.isMixed || address != w.address
	if len(w.sessions) < addressSample {
		return
	}
	clear(w.sessions)
	w.shared = netip.Prefix{}
	if w.isMixed || !isPrivate(address.Addr()) {
		return
	}
	w.shared = address
	if !w.isLogged {
		w.isLogged = true
		w.log.Warn("all viewers come from one private address; check trusted_proxies",
			slog.String("address", address.Addr().String()), slog.Any("trusted_proxies", w.trusted), slog.String("advice", w.advice()))
	}
}

// advice returns what to do about the shared address.
func (w *addressWatch) advice() string {
	for _, network := range w.trusted {
		if network.Contains(w.shared.Addr()) {
			return "it is in trusted_proxies, so have this proxy send X-Forwarded-For"
		}
	}
	return "if it is a proxy's, list it in trusted_proxies and have it send X-Forwarded-For; if it is an edge's, have it send the viewer's address"
}

// warnings returns what an operator should act on, for /readyz?verbose.
func (w *addressWatch) warnings() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.shared.IsValid() {
		return nil
	}
	return []string{fmt.Sprintf("all viewers come from one private address, %s: %s", w.shared.Addr(), w.advice())}
}

// isPrivate reports whether no viewer on the internet can have the address.
func isPrivate(a netip.Addr) bool {
	carrierNAT := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || carrierNAT.Contains(a)
}
