package viewer

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"usher/bench/record"
	"usher/bench/viewer/wire"
)

// TestWheel compares the wheel with a sorted list.
func TestWheel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		viewers := make([]viewer, 64)
		w := newWheel(viewers)
		scheduled := map[uint32]time.Duration{}
		now := time.Duration(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			for slot := range uint32(len(viewers)) {
				if _, is := scheduled[slot]; is || rapid.IntRange(0, 3).Draw(t, "add") > 0 {
					continue
				}
				viewers[slot].due = now + time.Duration(rapid.Int64Range(-int64(time.Second), int64(30*time.Second)).Draw(t, "in"))
				w.add(slot)
				scheduled[slot] = max(viewers[slot].due, time.Duration(w.reached)*tick) // the past is the next tick
				if viewers[slot].due%tick != 0 {
					t.Fatalf("due at %v, want a whole tick", viewers[slot].due)
				}
			}
			before, next := now, now+w.idle(now)
			now += time.Duration(rapid.Int64Range(0, int64(9*time.Second)).Draw(t, "step"))
			due := w.advance(now, nil)
			last := time.Duration(-1 << 62)
			for _, slot := range due {
				at, is := scheduled[slot]
				if !is || at > now {
					t.Fatalf("slot %d is due at %v of %v, and scheduled: %v", slot, at, now, is)
				}
				if at < next && next-before > 0 {
					t.Fatalf("slot %d was due at %v, when the wheel was idle from %v to %v", slot, at, before, next)
				}
				if at < last {
					t.Fatalf("slot %d at %v comes after %v", slot, at, last)
				}
				last = at
				delete(scheduled, slot)
			}
			for slot, at := range scheduled {
				if at <= now {
					t.Fatalf("slot %d was due at %v, and is not at %v", slot, at, now)
				}
			}
		}
	})
}

// TestWheel_Idle_ReachesNextTick sleeps no longer than until the next viewer is due.
func TestWheel_Idle_ReachesNextTick(t *testing.T) {
	t.Parallel()
	viewers := make([]viewer, 1)
	w := newWheel(viewers)
	w.advance(time.Second, nil)
	if got := w.idle(time.Second); got != time.Millisecond {
		t.Errorf("nobody is due: idle for %v, want 1ms", got)
	}
	viewers[0].due = time.Second + 370*time.Microsecond
	w.add(0)
	if got, want := w.idle(time.Second+50*time.Microsecond), 350*time.Microsecond; got != want {
		t.Errorf("idle for %v, want %v until the next tick", got, want)
	}
	if got := w.idle(2 * time.Second); got > 0 {
		t.Errorf("somebody was due: idle for %v, want none", got)
	}
}

// TestArena compares the arena with a map of strings.
func TestArena(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var a arena
		texts, want := map[int]text{}, map[int]string{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, 9).Draw(t, "text")
			if rapid.Bool().Draw(t, "release") {
				a.release(texts[i])
				delete(texts, i)
				delete(want, i)
				continue
			}
			value := strings.Repeat(string(rune('a'+i)), rapid.OneOf(rapid.IntRange(0, 70), rapid.IntRange(0, maxText+10)).Draw(t, "length"))
			var ok bool
			texts[i], ok = a.set(texts[i], []byte(value))
			if ok != (len(value) <= maxText) {
				t.Fatalf("a text of %d bytes is kept: %v", len(value), ok)
			}
			if want[i] = value; !ok {
				want[i] = ""
			}
			for i, value := range want {
				if got := string(a.append(nil, texts[i])); got != value || !a.equal(texts[i], []byte(value)) {
					t.Fatalf("text %d: %d bytes, want %d", i, len(got), len(value))
				}
			}
		}
	})
}

func TestAddressIn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		network string
		index   uint32
		want    string
	}{
		{"127.1.0.0/16", 0, "127.1.0.1"},
		{"127.1.0.0/16", 65535, "127.1.0.0"},
		{"127.1.0.0/16", 65536, "127.1.0.1"},
		{"10.0.0.0/8", 1 << 23, "10.128.0.1"},
		{"127.0.0.1/32", 7, "127.0.0.1"},
		{"0.0.0.0/0", ^uint32(0), "0.0.0.0"},
		{"2001:db8::/32", 255, "2001:db8::100"},
		{"2001:db8::/126", 2, "2001:db8::3"},
	} {
		if got := addressIn(netip.MustParsePrefix(test.network), test.index); got.String() != test.want {
			t.Errorf("address %d of %s: %v, want %s", test.index, test.network, got, test.want)
		}
	}
	if got := addressIn(netip.Prefix{}, 1); got.IsValid() {
		t.Errorf("no network: %v", got)
	}
}

func TestNewOrigin(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"http://tv": "false tv tv:80", "https://tv": "true tv tv:443", "http://tv:8080": "false tv:8080 tv:8080",
		"https://[2001:db8::1]": "true [2001:db8::1] [2001:db8::1]:443", "http://[::1]:81": "false [::1]:81 [::1]:81",
	} {
		o := newOrigin(name)
		if got := fmt.Sprint(o.IsTLS, " ", o.Host, " ", o.Address); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestOrigins_AreBounded(t *testing.T) {
	t.Parallel()
	var o origins
	for i := range maxOrigins {
		if _, ok := o.addBytes(fmt.Appendf(nil, "http://tv%d", i)); !ok {
			t.Fatalf("origin %d is refused", i)
		}
	}
	if _, ok := o.add("http://more"); ok {
		t.Error("one origin too many is taken")
	}
	if i, ok := o.add("http://tv7"); !ok || i != 7 || !bytes.Equal(o.appendURL(nil, i), []byte("http://tv7")) {
		t.Errorf("a known origin: %d, %v", i, ok)
	}
}

// TestViewer_IsSmall keeps a million viewers in 100 MB, without their URLs.
func TestViewer_IsSmall(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(viewer{}); size > 96 {
		t.Errorf("a viewer takes %d bytes", size)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	c := Config{
		Targets: []string{"tv", "http://tv/path"}, Path: "play", Viewers: -1, TraceShare: 2, Behaviour: Behaviour{Multivariant: -1},
		Auth: &Auth{Dialect: "other"},
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`targets: "tv"`, `targets: "http://tv/path"`, `path: "play"`, "channels:", "pace:", "viewers: -1", "max_in_flight: 0", "timeout: 0s", "retry: 0s", "retry_denied: 0s", "give_up: 0",
		"trace_share: 2", "multivariant: -1", `dialect "other"`, `auth.path: ""`, "auth.every: 0s",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	good := DefaultConfig()
	if err := good.Validate(); err == nil || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("defaults: %v, want that targets are missing", err)
	}
	good.Targets = []string{"http://tv/"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSlowest_KeepsSlowest(t *testing.T) {
	t.Parallel()
	var s slowest
	for _, latency := range []time.Duration{3, 9, 1, 7, 5, 8} {
		s.add(2, latency*time.Millisecond, fmt.Appendf(nil, "id%d", latency))
	}
	if got, want := s.notes(), []string{"slowest traced requests, multivariant: 9ms (trace id9), 8ms (trace id8), 7ms (trace id7)"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestEngine_Skip drops what is more than the timeout late, and keeps the schedule.
func TestEngine_Skip(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := map[string]struct {
		viewer  viewer
		due     time.Duration
		dropped uint64
	}{
		"reloads":                 {viewer{phase: playing, period: 2 * s, due: 10 * s, reload: 10 * s}, 16 * s, 3},
		"a multivariant playlist": {viewer{phase: playing, period: 2 * s, due: 9 * s, reload: 10 * s, isHalfway: true}, 16 * s, 4},
		"a retry":                 {viewer{phase: playing, period: 20 * s, due: 9 * s, reload: 18 * s}, 18 * s, 1},
		"an opening":              {viewer{phase: opening, due: 9 * s}, 21 * s, 1},
		"a return":                {viewer{phase: away, due: 9 * s}, 21 * s, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := oneTarget(1)
			c.Timeout = 5 * s
			r := record.New(time.Now())
			e := newEngine(t.Context(), c, r, wire.Config{})
			v := test.viewer
			isGone := e.skip(0, &v, 21*s)
			if dropped := r.Finish(time.Now()).Arrivals.Dropped; isGone || v.due != test.due || dropped != test.dropped || v.isHalfway {
				t.Errorf("due at %v, %d dropped, gone %v; want %v, %d", v.due, dropped, isGone, test.due, test.dropped)
			}
		})
	}
}

// TestEngine_Backlog_IsCompacted keeps no turns that were begun.
func TestEngine_Backlog_IsCompacted(t *testing.T) {
	t.Parallel()
	c := oneTarget(1)
	e := newEngine(t.Context(), c, record.New(time.Now()), wire.Config{})
	e.inFlight = c.MaxInFlight
	e.submit(turn{slot: 0})
	for i := range uint32(1000) { // one more waits each time
		e.submit(turn{slot: i + 1})
		if got, ok := e.next(nil); !ok || got.slot != i {
			t.Fatalf("the next turn is of slot %d, %v; want %d", got.slot, ok, i)
		}
	}
	if n := cap(e.backlog); n > 16 {
		t.Errorf("a backlog of one takes %d", n)
	}
}
