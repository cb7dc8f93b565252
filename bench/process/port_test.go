package process

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func reserved(t *testing.T) *Port {
	t.Helper()
	p, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p
}

// TestReservePort_NoPortTwice reserves more ports than would differ by chance.
func TestReservePort_NoPortTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		p := reserved(t)
		if seen[p.Address] {
			t.Fatalf("%s was returned twice", p.Address)
		}
		seen[p.Address] = true
	}
}

// TestPort_IsKept_WhileServerIsDown has a server listen on its port, end, and listen again. Nobody else gets the port meanwhile.
func TestPort_IsKept_WhileServerIsDown(t *testing.T) {
	p := reserved(t)
	port := int(netip.MustParseAddrPort(p.Address).Port())
	wantTaken := func(when string) {
		t.Helper()
		if other, err := reserve(port); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: %v, %v; want the port to be taken", when, other, err)
		}
	}
	wantTaken("before the server")
	for range 2 {
		server, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.Address)
		if err != nil {
			t.Fatal(err)
		}
		wantTaken("while it listens")
		if second, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", p.Address); err == nil {
			t.Errorf("a second server listens on %s", second.Addr())
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		wantTaken("after its end")
	}
}

func TestPort_Release_GivesBack(t *testing.T) {
	p, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
	p.Release()
	again, err := reserve(int(netip.MustParseAddrPort(p.Address).Port()))
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}
