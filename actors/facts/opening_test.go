package facts_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/facts"
	"usher/backends"
)

var id = backends.SessionID{1, 2, 3}

func opening() *backends.Request {
	return &backends.Request{
		Session: id, Route: "/play/{channel}/*", Channel: "a001", Backend: "portal", Query: "token=" + strings.Repeat("x", 64),
		Group: backends.SessionID{9}, Path: "/play/a001/index.m3u8", Scheme: "http", Host: "tv.example.com",
		UserAgent: "Mozilla/5.0 (QtEmbedded; U; Linux; C) AppleWebKit/533.3 MAG200 stbapp ver: 2", Address: netip.MustParseAddr("203.0.113.7"),
	}
}

var compareAddress = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func roundTrip(t *testing.T, want *backends.Request) {
	t.Helper()
	var o facts.Opening
	o.Store(want)
	got := o.Request(want.Session)
	if diff := cmp.Diff(want, got, compareAddress); diff != "" {
		t.Errorf("request (-stored +read):\n%s", diff)
	}
	if got := o.HasEdgeReport(); got != (want.Edge != nil) {
		t.Errorf("an edge's report: %t of %+v", got, want)
	}
	if o.Address() != want.Address || o.Group() != want.Group || o.Channel() != want.Channel || o.Backend() != want.Backend || o.Route() != want.Route {
		t.Errorf("address %v, group %v, channel %q, backend %q, route %q of %+v", o.Address(), o.Group(), o.Channel(), o.Backend(), o.Route(), want)
	}
}

func TestOpening_Request_AsStored(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*backends.Request){
		"a player's":     func(*backends.Request) {},
		"an empty one":   func(r *backends.Request) { *r = backends.Request{} },
		"IPv6":           func(r *backends.Request) { r.Address = netip.MustParseAddr("2001:db8::1") },
		"mapped IPv4":    func(r *backends.Request) { r.Address = netip.MustParseAddr("::ffff:192.0.2.1") },
		"with a zone":    func(r *backends.Request) { r.Address = netip.MustParseAddr("fe80::1%eth0") },
		"no credentials": func(r *backends.Request) { r.Query, r.Group = "", backends.SessionID{} },
		"a long query":   func(r *backends.Request) { r.Query = strings.Repeat("q", 5000) },
		"headers": func(r *backends.Request) {
			r.Headers = []backends.Header{{Name: "Authorization", Value: "Basic x"}, {Name: "X-Empty"}}
		},
		"a device and a referer": func(r *backends.Request) { r.Device, r.Referer = "3:mac", "http://portal.example.com/" },
		"an edge's": func(r *backends.Request) {
			r.Edge = &backends.EdgeReport{AstraSession: "17", FlussonicSession: "u-u", HasSession: true, HasPath: true, Origin: "o", Protocol: "hls", IsArchive: true}
		},
		"an edge's that says little": func(r *backends.Request) { r.Edge = &backends.EdgeReport{HasChannel: true, HasHost: true} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := opening()
			edit(r)
			roundTrip(t, r)
		})
	}
}

// TestOpening_Store_LeavesOutTheCheck keeps nothing that says how far one check has come.
func TestOpening_Store_LeavesOutTheCheck(t *testing.T) {
	t.Parallel()
	r := opening()
	r.Number, r.Opened, r.Bytes, r.Current = 3, time.Now(), 17, backends.LocalDecision(backends.Allowed, "")
	r.OnSent, r.OnFailure = func() {}, func(*backends.Failure) {}
	var o facts.Opening
	o.Store(r)
	if diff := cmp.Diff(opening(), o.Request(id), compareAddress); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestOpening_SetBackend(t *testing.T) {
	t.Parallel()
	var o facts.Opening
	o.SetBackend("other") // of nothing
	if diff := cmp.Diff(&backends.Request{Session: id}, o.Request(id), compareAddress); diff != "" {
		t.Errorf("an empty request (-want +got):\n%s", diff)
	}
	o.Store(opening())
	o.SetBackend("other")
	want := opening()
	want.Backend = "other"
	if diff := cmp.Diff(want, o.Request(id), compareAddress); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

// TestOpening_Concurrent reads whole requests while others are stored.
func TestOpening_Concurrent(t *testing.T) {
	t.Parallel()
	var o facts.Opening
	var all sync.WaitGroup
	o.Store(opening())
	for i := range 4 {
		all.Go(func() {
			for n := range 200 {
				r := opening()
				r.Query = fmt.Sprint(i, n)
				r.Path, r.Channel, r.UserAgent = r.Query, r.Query, r.Query
				o.Store(r)
				if got := o.Request(id); got.Path != got.Query || got.Channel != got.Query && got.Channel != "a001" {
					t.Errorf("query %q of channel %q at %q", got.Query, got.Channel, got.Path)
				}
				o.SetBackend("other")
			}
		})
	}
	all.Wait()
}

func TestOpening_Reads_DoNotAllocate(t *testing.T) {
	var o facts.Opening
	o.Store(opening())
	for name, read := range map[string]func(){
		"address": func() { o.Address() }, "group": func() { o.Group() }, "channel": func() { o.Channel() }, "backend": func() { o.Backend() },
	} {
		if got := testing.AllocsPerRun(100, read); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
	var r *backends.Request
	if got := testing.AllocsPerRun(100, func() { r = o.Request(id) }); got != 1 {
		t.Errorf("the request: %v allocations, want 1", got)
	}
	runtime.KeepAlive(r)
}

func FuzzOpening_RoundTrip(f *testing.F) {
	f.Add("token=1", "/play/a/index.m3u8", "a", "agent", "header", []byte{192, 0, 2, 1}, byte(0xff), "device")
	f.Add("", "", "", "", "", []byte{}, byte(0), "")
	f.Fuzz(func(t *testing.T, query, path, channel, agent, header string, address []byte, flags byte, text string) {
		r := &backends.Request{Session: id, Query: query, Path: path, Channel: channel, UserAgent: agent, Route: text, Scheme: header, Host: path}
		r.Address, _ = netip.AddrFromSlice(address)
		if flags&1 != 0 {
			r.Headers = []backends.Header{{Name: header, Value: text}}
		}
		if flags&2 != 0 {
			r.Edge = &backends.EdgeReport{AstraSession: header, FlussonicSession: agent, Origin: text, Protocol: path, HasHost: flags&4 != 0, IsArchive: flags&8 != 0}
		}
		if flags&16 != 0 {
			r.Device, r.Referer = text, header
		}
		copy(r.Group[:], text)
		roundTrip(t, r)
	})
}

// BenchmarkOpening measures what a request takes, and what it costs to store and to read.
func BenchmarkOpening(b *testing.B) {
	const sessions = 100_000
	requests := make([]*backends.Request, sessions)
	for i := range requests {
		requests[i] = opening()
		requests[i].Channel = fmt.Sprint("ch", i%500)
		requests[i].Query = fmt.Sprintf("token=%064d", i)
	}
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			before := heap()
			all := make([]facts.Opening, sessions)
			for i := range all {
				all[i].Store(requests[i])
			}
			b.ReportMetric(float64(heap()-before)/sessions, "bytes/request")
			runtime.KeepAlive(all)
		}
	})
	var o facts.Opening
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			o.Store(requests[i%sessions])
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o.Request(id)
		}
	})
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
