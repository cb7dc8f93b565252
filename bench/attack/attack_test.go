package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// serving is the first argument of this program where it attacks by [Serve].
const serving = "attack"

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != serving {
		goleak.VerifyTestMain(m)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Serve(ctx, os.Args[2:], os.Stdout); err != nil {
		panic(err)
	}
}

// victim serves a playlist with a segment that does not end, and notes what it is asked. Connections that send no whole request
// in a second are closed.
type victim struct {
	*httptest.Server
	open, closed atomic.Int64
	mu           sync.Mutex
	asked        map[string]int // by path
	protocols    map[string]int
	addresses    map[string]bool
}

func newVictim(t *testing.T, isTLS bool) *victim {
	t.Helper()
	v := &victim{asked: map[string]int{}, protocols: map[string]int{}, addresses: map[string]bool{}}
	v.Server = httptest.NewUnstartedServer(v)
	v.Config.ReadHeaderTimeout = time.Second
	v.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			v.open.Add(1)
		case http.StateClosed:
			v.open.Add(-1)
			v.closed.Add(1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	v.EnableHTTP2 = isTLS
	if isTLS {
		v.StartTLS()
	} else {
		v.Start()
	}
	t.Cleanup(v.Close)
	return v
}

func (v *victim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.asked[r.URL.Path]++
	v.protocols[r.Proto]++
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	v.addresses[host] = true
	if forwarded := r.Header.Get("X-Forwarded-For"); forwarded != "" {
		v.addresses[forwarded] = true
	}
	v.mu.Unlock()
	switch {
	case r.URL.Path == "/endless.ts":
		for piece := make([]byte, 1<<20); r.Context().Err() == nil; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	case r.URL.Path == "/list.m3u8" && strings.HasPrefix(r.FormValue("token"), "good-"):
		_, _ = io.WriteString(w, "#EXTM3U\n#EXTINF:2,\nendless.ts\n")
	case r.ContentLength > 0:
		_, _ = io.Copy(io.Discard, r.Body)
	default:
		http.Error(w, "no", http.StatusForbidden)
	}
}

func (v *victim) look(look func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	look()
}

// attack attacks the victim until end is called; then done receives.
func (v *victim) attack(t *testing.T, kind string, connections int) (a *Attack, end context.CancelFunc, done <-chan error) {
	t.Helper()
	a, err := Parse(kind, fmt.Sprint(connections))
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, v.URL, "/list.m3u8?token={token}") }()
	return a, end, ended
}

func TestAttack_Run(t *testing.T) {
	t.Parallel()
	const connections = 8
	for kind, tt := range map[string]struct {
		isTLS bool
		// isOn reports whether the victim notices the attack.
		isOn func(v *victim, a *Attack) bool
	}{
		"slow-headers": {false, func(v *victim, a *Attack) bool {
			return v.closed.Load() == connections && a.Stats().Closed == connections
		}},
		"slow-bodies":  {false, func(v *victim, _ *Attack) bool { return v.asked["/list.m3u8"] == connections }},
		"slow-readers": {false, func(v *victim, _ *Attack) bool { return v.asked["/endless.ts"] == connections }},
		"idle": {true, func(v *victim, a *Attack) bool {
			return v.asked["/"] == connections && v.open.Load() == connections && a.Stats().Connections == connections
		}},
		"resets":         {true, func(v *victim, a *Attack) bool { return v.protocols["HTTP/2.0"] > 100 && a.Stats().Resets >= 100 }},
		"tokens":         {false, func(v *victim, a *Attack) bool { return len(v.addresses) > connections/2 && a.Stats().Answers > 100 }},
		"tokens-unpaced": {false, func(v *victim, a *Attack) bool { return len(v.addresses) > connections/2 && a.Stats().Answers > 100 }},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, tt.isTLS)
			a, end, done := v.attack(t, kind, connections)
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for isOn := false; !isOn; {
				select {
				case <-tick.C:
					v.look(func() { isOn = tt.isOn(v, a) })
				case err := <-done:
					t.Fatalf("ended: %v", err)
				}
			}
			end()
			if err := <-done; err != nil {
				t.Errorf("error %v", err)
			}
			if got := a.Stats(); got.Connections != 0 || got.Served != 0 {
				t.Errorf("at its end: %+v, want no connection and no playlist", got)
			}
		})
	}
}

// TestAttack_Run_ResetsWithoutHTTP2 attacks a server that has no streams: none count as reset.
func TestAttack_Run_ResetsWithoutHTTP2(t *testing.T) {
	t.Parallel()
	v := newVictim(t, false)
	a, end, done := v.attack(t, "resets", 2)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for a.Stats().Closed < 2 {
		<-tick.C
	}
	end()
	if err := <-done; err != nil || a.Stats().Resets > 0 {
		t.Errorf("%v, %+v; want no streams reset", err, a.Stats())
	}
}

// TestAttack_RunBy has a process of its own attack, and says what it did: a flood as fast as it can, and one with a rate.
func TestAttack_RunBy(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v := newVictim(t, false)
	former := (*Attack)(nil)
	for _, kind := range []string{"tokens-unpaced", "tokens"} {
		a, err := Parse(kind, "5")
		if err != nil {
			t.Fatal(err)
		}
		a.Follow(former)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.RunBy(ctx, []string{self, serving}, v.URL, "/list.m3u8?token={token}") }()
		tick := time.NewTicker(5 * time.Millisecond)
		for a.Stats().Answers < 100 {
			select {
			case <-tick.C:
			case err := <-done:
				t.Fatalf("%s ended: %v", kind, err)
			}
		}
		tick.Stop()
		if a.PID() == 0 || a.PID() == os.Getpid() {
			t.Errorf("%s by process %d", kind, a.PID())
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := a.Stats(); a.PID() != 0 || got.Connections != 0 || (got.Refused > 0) != (former == nil) {
			t.Errorf("%s at its end: process %d, %+v", kind, a.PID(), got)
		}
		former = a
	}
}

// TestAttack_RunBy_Wrong has programs that do not attack.
func TestAttack_RunBy_Wrong(t *testing.T) {
	t.Parallel()
	a, err := Parse("tokens", "5")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"true", "false", "/missing"} {
		if err := a.RunBy(t.Context(), []string{program}, "http://127.0.0.1:1", "/"); !errors.Is(err, errEnded) || !strings.Contains(err.Error(), program) {
			t.Errorf("%s: %v", program, err)
		}
	}
	for _, arguments := range [][]string{{}, {"tokens", "5", "0", "http://127.0.0.1:1"}, {"tokens", "0", "0", "", ""}, {"tokens", "5", "fast", "", ""}} {
		if err := Serve(t.Context(), arguments, io.Discard); err == nil {
			t.Errorf("%q: want an error", arguments)
		}
	}
}

// TestAttack_Follow_HalfOfRefused has floods be half as fast as the server refused the one before, if that was as fast as it answered.
func TestAttack_Follow_HalfOfRefused(t *testing.T) {
	t.Parallel()
	v := newVictim(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	former, err := Parse("tokens-unpaced", "3")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- former.Run(ctx, v.URL, "/list.m3u8?token={token}") }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for former.Stats().Answers < 100 {
		<-tick.C
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	least := float64(former.Stats().Answers) / time.Since(begun).Seconds() / 2
	for kind, isHalf := range map[string]bool{"tokens": true, "tokens-unpaced": false, "idle": false} {
		a, err := Parse(kind, "3")
		if err != nil {
			t.Fatal(err)
		}
		if a.Follow(former); (a.rate >= least-1) != isHalf { // it is of whole answers
			t.Errorf("%s: %.1f a second, at least %.1f: want %t", kind, a.rate, least, isHalf)
		}
		next, err := Parse("tokens", "3")
		if err != nil {
			t.Fatal(err)
		}
		if next.Follow(a); next.rate != 0 {
			t.Errorf("tokens after %s that did not run: %.0f a second, want to measure", kind, next.rate)
		}
		if next.Follow(nil); next.rate != 0 {
			t.Errorf("tokens after nothing: %.0f a second, want to measure", next.rate)
		}
	}
}

// TestAttack_Run_OpenDoor counts the playlists that a server gives to tokens that nobody has.
func TestAttack_Run_OpenDoor(t *testing.T) {
	t.Parallel()
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "#EXTM3U\n") }))
	defer open.Close()
	a, err := Parse("tokens", "3")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, open.URL, "/?token={token}") }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for a.Stats().Served == 0 {
		<-tick.C
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestParse_Wrong(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"slow 5", "tokens 0", "tokens many", "idle -1", " 3"} {
		kind, count, _ := strings.Cut(text, " ")
		if _, err := Parse(kind, count); err == nil {
			t.Errorf("%q: want an error", text)
		}
	}
	if _, err := Parse("idle", "100000000"); !errors.Is(err, ErrTooFewFiles) {
		t.Errorf("a hundred million connections: got %v, want ErrTooFewFiles", err)
	}
}

// TestAttack_Run_NoPlaylist has slow readers whom nobody lets in: they open no connection, and end when they are told to.
func TestAttack_Run_NoPlaylist(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		http.NotFound(w, r)
	}))
	defer empty.Close()
	a, err := Parse("slow-readers", "2")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, empty.URL, "/") }()
	<-asked
	<-asked // again
	cancel()
	if err := <-done; err != nil || a.Stats() != (Stats{}) {
		t.Errorf("error %v, %+v; want none, and no connection", err, a.Stats())
	}
}
