//go:build !race

package gateway

import (
	"math"
	"testing"

	"usher/gateway/ticket"
)

// Allocations are counted without the race detector, under which pools drop items on purpose.

// TestHandler_CachedSegment_Allocations compares what net/http itself allocates with what a request
// allocates with us: route, ticket, session, cache and response.
func TestHandler_CachedSegment_Allocations(t *testing.T) {
	const most = 5 // 2 or 3 in fact
	g, path := newCachedSegment(t, 1000)
	least := newRawViewer(t, baseline("text/plain; charset=utf-8", []byte(g.upstream.files["/play/a001/seg-17.ts"])), path)
	ours := newRawViewer(t, g.handler, path)
	bare := testing.AllocsPerRun(500, func() { least.do(t) })
	full := testing.AllocsPerRun(500, func() { ours.do(t) })
	if full-bare > most {
		t.Errorf("%v allocations a request, %v of them net/http's own: %v are ours, want %d at most", full, bare, full-bare, most)
	}
	t.Logf("net/http %v, with us %v", bare, full)
}

// TestHandler_Reference_AllocatesAsPlain compares a segment behind a reference with a plain one.
func TestHandler_Reference_AllocatesAsPlain(t *testing.T) {
	g, path := newCachedSegment(t, 1000)
	plain := newRawViewer(t, g.handler, path)
	sealedGateway, sealedPath := newCachedReference(t, 1000)
	sealed := newRawViewer(t, sealedGateway.handler, sealedPath)
	// A garbage collection empties pools, so that the least of several runs counts.
	fewest := func(v *rawViewer) float64 {
		n := math.Inf(1)
		for range 4 {
			n = min(n, testing.AllocsPerRun(500, func() { v.do(t) }))
		}
		return n
	}
	least := fewest(plain)
	if got := fewest(sealed); got > least {
		t.Errorf("%v allocations, want the %v of a plain path", got, least)
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

func TestHandler_ForgedTicket_Allocations(t *testing.T) {
	const most = 5 // 2 in fact
	g := newPlaylistGateway(t)
	good := g.ticket(t, "a001")
	forged := newRawViewer(t, g.handler, "/~"+good[:len(good)-1]+"A/play/a001/index.m3u8")
	least := newRawViewer(t, baseline("text/plain", []byte("no")), "/")
	bare := testing.AllocsPerRun(500, func() { least.do(t) })
	if full := testing.AllocsPerRun(500, func() { forged.do(t) }); full-bare > most {
		t.Errorf("%v allocations, %v of them net/http's own; want %d more at most", full, bare, most)
	}
}
