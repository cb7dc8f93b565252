//go:build !race

package front

import (
	"bytes"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"

	"usher/gateway"
)

// Allocations are counted without the race detector, under which pools drop items on purpose.

// TestServer_Plain_Allocations compares what a cached response costs over a socket with what the gateway alone costs.
func TestServer_Plain_Allocations(t *testing.T) {
	s := newTestServer(t, plainFront, nil)
	s.upstream.Files["/play/a001/index.m3u8"] = longPlaylist()
	for name, test := range map[string]struct {
		uri  string
		most float64 // the gateway's own
	}{
		"a segment":                {"/~" + s.ticket + "/play/a001/seg-17.ts", 0},
		"a playlist with a ticket": {"/~" + s.ticket + "/play/a001/index.m3u8", 0},
		"a playlist by its URL":    {"/play/a001/index.m3u8?token=1", 0},
	} {
		s.want(t, http.StatusOK, test.uri)
		v := newRawViewer(t, s.address, test.uri)
		v.do(t)
		n := testing.AllocsPerRun(500, func() { v.do(t) })
		if n > test.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, test.most)
		}
		t.Logf("%s: %v allocations", name, n)
	}
}

// rawClient gets a path from the address and keeps the connection. It is a bare socket, so that it takes no memory of this process.
func rawClient(t *testing.T, address, path string) (fd int) {
	t.Helper()
	to := netip.MustParseAddrPort(address)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("GET "+path+" HTTP/1.1\r\nHost: tv\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4<<10)
	if n, err := unix.Read(fd, answer); err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
		t.Fatalf("got %q, %v", answer[:max(n, 0)], err)
	}
	return fd
}

// TestServer_Plain_IdleConnection_Memory measures connections that have had a response and are idle.
func TestServer_Plain_IdleConnection_Memory(t *testing.T) {
	const most, connections = 6 << 10, 1000
	s := newTestServer(t, plainFront, func(c *gateway.Config) { c.Limits.Connections.MaxConnectionsPerAddress = 0 })
	used := func() uint64 {
		var m runtime.MemStats
		for range 4 { // a stack shrinks by half in a cycle
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := used()
	for range connections {
		fd := rawClient(t, s.address, "/~"+s.ticket+"/play/a001/seg-17.ts")
		defer func() { _ = unix.Close(fd) }()
	}
	if got := (used() - before) / connections; got > most {
		t.Errorf("%d bytes for each idle connection, want at most %d", got, most)
	} else {
		t.Logf("%d bytes for each idle connection", got)
	}
}

// TestServer_Plain_IdleConnection_Stack measures what a cached playlist leaves of its connection's stack, before the collector
// shrinks it. Half of it is gone when a function on the way copies what it could fill in place: perf probe runtime.morestack tells which.
func TestServer_Plain_IdleConnection_Stack(t *testing.T) {
	const most, connections = 4500, 1000 // stacks are 4 or 8 kB
	s := newTestServer(t, plainFront, func(c *gateway.Config) { c.Limits.Connections.MaxConnectionsPerAddress = 0 })
	s.upstream.Files["/play/a001/index.m3u8"] = longPlaylist()
	s.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1") // so that it is cached, and its session is open
	used := func() int {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.StackInuse)
	}
	runtime.GC() // what other tests have left
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := used()
	for range connections {
		fd := rawClient(t, s.address, "/play/a001/index.m3u8?token=1")
		defer func() { _ = unix.Close(fd) }()
	}
	if got := (used() - before) / connections; got > most {
		t.Errorf("the stack of an idle connection has %d bytes, want at most %d", got, most)
	} else {
		t.Logf("%d bytes of stack", got)
	}
}
