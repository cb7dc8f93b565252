package netns_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/bench/soak/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout bounds waits. Only a failing test reaches it, and what is cut off.
const timeout = 20 * time.Second

func network(t *testing.T, names ...string) (*netns.Network, []*netns.Host) {
	t.Helper()
	n, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	var hosts []*netns.Host
	for _, name := range names {
		h, err := n.Add(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	return n, hosts
}

// serve serves some text in a host.
func serve(t *testing.T, h *netns.Host) {
	t.Helper()
	l, err := h.Listen(t.Context(), ":80")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 100_000))
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// get fetches the text from a host to another over a connection of its own.
func get(ctx context.Context, from, to *netns.Host) (size int64, err error) {
	client := http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.Address.String(), http.NoBody)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return io.Copy(io.Discard, answer.Body)
}

// TestNetwork_Set_BreaksOnePair cuts one pair of three hosts, whose other pairs go on.
func TestNetwork_Set_BreaksOnePair(t *testing.T) {
	n, hosts := network(t, "a", "b", "c")
	serve(t, hosts[1])
	serve(t, hosts[2])
	whole, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	wantServed := func(when string, to *netns.Host) {
		t.Helper()
		if size, err := get(whole, hosts[0], to); err != nil || size != 100_000 {
			t.Errorf("%s, %s: %d bytes, %v; want all 100000", when, to.Name, size, err)
		}
	}
	wantServed("before", hosts[1])
	n.Set(hosts[1], hosts[0], netns.Link{IsCut: true})
	short, cancelShort := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancelShort()
	if _, err := get(short, hosts[0], hosts[1]); err == nil || short.Err() == nil {
		t.Errorf("cut: %v; want no answer at all", err)
	}
	wantServed("cut from b", hosts[2])
	n.Set(hosts[0], hosts[1], netns.Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.05})
	begun := time.Now()
	wantServed("late and with losses", hosts[1])
	if waited := time.Since(begun); waited < 40*time.Millisecond { // the handshake, and the request with its answer
		t.Errorf("answered within %v; want two round trips of at least 20 ms", waited)
	}
	n.Set(hosts[0], hosts[1], netns.Link{})
	wantServed("mended", hosts[1])
}

// TestHost_IsApart requires that a host has a network and mounts of its own, in which its processes are.
func TestHost_IsApart(t *testing.T) {
	_, hosts := network(t, "a", "b")
	folder := t.TempDir()
	if err := hosts[0].Run(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1m", "soak", folder); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hosts[0].Path(folder+"/full"), make([]byte, 2<<20), 0o600); err == nil {
		t.Error("2 MB fit on a disk of 1 MB")
	}
	if err := hosts[0].Run(t.Context(), "test", "-e", folder+"/full"); err != nil {
		t.Errorf("a process of the host does not see the file: %v", err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
		t.Errorf("this process sees %v, %v; want an empty folder", entries, err)
	}
	if err := hosts[1].Run(t.Context(), "test", "-e", folder+"/full"); err == nil {
		t.Error("the other host sees the file")
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range own {
		if strings.HasPrefix(address.String(), hosts[0].Address.String()) {
			t.Errorf("the machine's own network has the host's address %s", address)
		}
	}
}
