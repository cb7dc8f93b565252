//go:build !race

package gateway

import (
	"math"
	"net/http"
	"testing"

	"usher/gateway/ticket"
)

// Allocations are counted without the race detector, under which pools drop items on purpose.

// fewest returns how many allocations a request takes. A garbage collection empties pools, so that the least of several runs counts.
func (v *directViewer) fewest(t *testing.T) float64 {
	t.Helper()
	n := math.Inf(1)
	for range 4 {
		n = min(n, testing.AllocsPerRun(500, func() { v.do(t) }))
	}
	return n
}

func TestServe_Cached_Allocations(t *testing.T) {
	segments, segment := newCachedSegment(t, 1000)
	references, reference := newCachedReference(t, 1000)
	playlists := newPlaylistGateway(t)
	ticket := playlists.ticket(t, "a001")
	for name, test := range map[string]struct {
		gateway *testGateway
		uri     string
		status  int
		most    float64
	}{
		"a segment":                  {segments, segment, http.StatusOK, 0},
		"a segment by reference":     {references, reference, http.StatusOK, 0},
		"a playlist below a ticket":  {playlists, "/~" + ticket + "/play/a001/index.m3u8", http.StatusOK, 0},
		"a playlist by original URL": {playlists, "/play/a001/index.m3u8?token=123", http.StatusOK, 0},
		"a forged ticket":            {playlists, "/~" + forged(ticket) + "/play/a001/index.m3u8", http.StatusForbidden, 2},
	} {
		v := newDirectViewer(test.gateway.Gateway, test.uri)
		if got := v.do(t); got != test.status {
			t.Fatalf("%s: status %d, want %d", name, got, test.status)
		}
		n := v.fewest(t)
		if n > test.most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, test.most)
		}
		t.Logf("%s: %v allocations", name, n)
	}
}

// TestGateway_Verify_DoesNotAllocate verifies tickets of folders of every depth, valid and not.
func TestGateway_Verify_DoesNotAllocate(t *testing.T) {
	g := newTestGateway(t, nil)
	at := target{path: "/play/tv/a/b/seg-17.ts"}
	if !at.matchFrom(g.routes[0], 0) {
		t.Fatal("no route")
	}
	for depth := range 3 {
		at.bind(depth)
		good := g.signer.Sign(ticket.Claims{}, at.scope())
		for text, want := range map[string]bool{good: true, "a.B" + good[3:]: false} {
			here := at
			_, ok := g.verify(text, &here)
			if n := testing.AllocsPerRun(500, func() { here = at; g.verify(text, &here) }); n != 0 || ok != want {
				t.Errorf("depth %d: %v allocations, valid %v; want none, %v", depth, n, ok, want)
			}
		}
	}
}
