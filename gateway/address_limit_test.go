package gateway

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/gateway/hls"
)

// manyNetworks is how many networks use one ticket.
const manyNetworks = 50

func fromNetwork(i int) string { return forwardedFor(fmt.Sprintf("198.51.%d.7", i)) }

func TestServe_TicketFromTooManyAddresses_Forbidden(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	uri := "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts"
	served := 0
	for range 2 { // admitted networks stay admitted, others stay refused
		for i := range manyNetworks {
			switch got := g.get(t, uri, fromNetwork(i)); got.status {
			case 200:
				served++
			case 403:
			default:
				t.Errorf("network %d: got %d %q", i, got.status, got.body)
			}
		}
	}
	if served != 2*g.options.MaxAddresses {
		t.Errorf("served %d times in two rounds, want %d networks twice", served, g.options.MaxAddresses)
	}
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d of the excess cost a call", n)
	}
}

func TestServe_TooManyAddresses_NeedsRequiredCredentials(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].Required = []string{"token"} })
	uri := "/~" + g.ticket(t, "a001") + "/play/a001/index.m3u8"
	for i := range g.options.MaxAddresses {
		g.want(t, 200, uri, fromNetwork(i))
	}
	for _, query := range []string{"", "?x=1", "?token=", "?ticket=1", "?_HLS_msn=1"} {
		g.want(t, 403, uri+query, fromNetwork(manyNetworks))
	}
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d of them cost a call", n)
	}
}

func TestServe_TooManyAddresses_OpensOwnSessions(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.want(t, 200, "/play/a001/index.m3u8?token=1", fromNetwork(0))
	uri := "/~" + g.ticket(t, "a001") + "/play/a001/index.m3u8"
	for i := range g.options.MaxAddresses {
		g.want(t, 200, uri, fromNetwork(i))
	}
	g.table.mu.Lock()
	g.table.requests = nil
	g.table.mu.Unlock()
	seen := map[string]bool{}
	for i := range manyNetworks {
		got := g.want(t, 200, uri+"?token=1", fromNetwork(i))
		again := g.want(t, 200, uri+"?token=1", fromNetwork(i))
		if got.body != again.body {
			t.Errorf("network %d: the playlist changed between reloads:\n%s\n%s", i, got.body, again.body)
		}
		if i < g.options.MaxAddresses {
			if got.body != mediaPlaylist {
				t.Errorf("network %d: is one of the first, but got\n%s", i, got.body)
			}
			continue
		}
		media := resolve(t, resolve(t, &url.URL{}, g.url+uri), uris(got.body)[0]).RequestURI()
		if seen[media] {
			t.Errorf("network %d: got another's ticket", i)
		}
		seen[media] = true
		g.want(t, 200, media, fromNetwork(i))
	}
	ids := map[backends.SessionID]bool{}
	for _, a := range g.table.openRequests() {
		if !a.HasCredentials || !a.Ticket.IsZero() || a.Request.Query != "token=1" {
			t.Errorf("opened by %+v with query %q, want one by their own credentials", a, a.Request.Query)
		}
		ids[a.Request.Session] = true
	}
	if want := manyNetworks - g.options.MaxAddresses; len(ids) != want || len(g.table.openRequests()) != want {
		t.Errorf("%d sessions opened %d times, want %d once each", len(ids), len(g.table.openRequests()), want)
	}
}

func TestServe_TooManyAddresses_KeepsTicket(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.Routes[0].TicketIn = hls.TicketInQuery })
	first := uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0]
	_, ticket, _ := strings.Cut(first, "ticket=")
	// The credentials open the session again on a node that does not know it.
	s := g.table.liveSessions()[0]
	s.ticket.Opened = s.ticket.Opened.Add(time.Minute)
	if other := uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0]; other == first {
		t.Fatalf("the session's ticket did not change: %s", other)
	}
	if got := uris(g.want(t, 200, "/play/a001/index.m3u8?ticket="+ticket).body)[0]; got != first {
		t.Errorf("the viewer's URIs changed: got %s, was %s", got, first)
	}
}

func TestServe_SharedCredentials_OpenOwnSessions(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	for i := range manyNetworks {
		g.want(t, 200, "/play/a001/index.m3u8?token=1", fromNetwork(i))
	}
	ids := map[backends.SessionID]bool{}
	for _, a := range g.table.openRequests() {
		ids[a.Request.Session] = true
	}
	if len(ids) != manyNetworks {
		t.Errorf("%d sessions, want one for each of %d addresses", len(ids), manyNetworks)
	}
}

func TestServe_ForwardedForOfViewer_Ignored(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, func(c *Config) { c.TrustedProxies = nil })
	uri := "/~" + g.ticket(t, "a001") + "/play/a001/seg-17.ts"
	for i := range manyNetworks {
		g.want(t, 200, uri, fromNetwork(i))
	}
	if n := len(g.table.liveSessions()[0].prefixes); n != 1 {
		t.Errorf("%d networks are counted, want 1", n)
	}
}
