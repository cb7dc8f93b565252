package systemd

import (
	"net"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is a listener that only has an address.
type at struct {
	net.Listener

	addr net.Addr
}

func (l at) Addr() net.Addr { return l.addr }

func (at) Close() error { return nil }

func TestSockets_Take_ByNameAndAddress(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name, address string
		isTaken, isOK bool
	}{
		"the address of all":                      {"all", ":8080", true, true},
		"all, spelt as IPv6":                      {"all", "[::]:8080", true, true},
		"all, spelt as IPv4":                      {"all", "0.0.0.0:8080", true, true},
		"a service's name":                        {"all", ":http-alt", true, true},
		"another port":                            {"all", ":8081", false, false},
		"one address, and systemd has all":        {"all", "127.0.0.1:8080", false, false},
		"one address":                             {"one", "127.0.0.1:8080", true, true},
		"a host's name":                           {"one", "localhost:8080", true, true},
		"all, and systemd has one":                {"one", ":8080", false, false},
		"a socket that is no port":                {"path", ":8080", false, false},
		"an address that is none":                 {"all", "8080", false, false},
		"a name that systemd passes no socket of": {"none", ":8080", false, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Sockets{left: []socket{
				{at{addr: &net.TCPAddr{IP: net.IPv6unspecified, Port: 8080}}, "all"},
				{at{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}}, "one"},
				{at{addr: &net.UnixAddr{Name: "/run/usher"}}, "path"},
			}}
			before := len(s.left)
			got, err := s.Take(t.Context(), test.name, "listen", test.address)
			if (got != nil) != test.isTaken || (err == nil) != test.isOK {
				t.Errorf("took %v, %v; want one: %t, no error: %t", got, err, test.isTaken, test.isOK)
			}
			if isLess := len(s.left) < before; isLess != test.isTaken {
				t.Errorf("%d left of %d", len(s.left), before)
			}
			if s.Unused() == nil {
				t.Error("the sockets that are left are no error")
			}
		})
	}
}

func TestNotifier_Nil_TellsNobody(t *testing.T) {
	t.Parallel()
	var n *Notifier
	n.Ready("serving")
	n.Reloading()
}
