//go:build !race

package gateway

import "testing"

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

func TestHandler_ForgedTicket_Allocations(t *testing.T) {
	const most = 5 // 2 in fact
	g := newPlaylistGateway(t)
	ticket := g.ticket(t, "a001")
	forged := newRawViewer(t, g.handler, "/~"+ticket[:len(ticket)-1]+"A/play/a001/index.m3u8")
	least := newRawViewer(t, baseline("text/plain", []byte("no")), "/")
	bare := testing.AllocsPerRun(500, func() { least.do(t) })
	if full := testing.AllocsPerRun(500, func() { forged.do(t) }); full-bare > most {
		t.Errorf("%v allocations, %v of them net/http's own; want %d more at most", full, bare, most)
	}
}
