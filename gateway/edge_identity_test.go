package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
)

// withIdentityFields edits edgeRoute's identity fields.
func withIdentityFields(facts ...string) func(*RouteConfig) {
	return func(r *RouteConfig) { r.IdentityFields = facts }
}

// withSessionID edits edgeRoute's session_id.
func withSessionID(m edge.SessionIDMode) func(*RouteConfig) {
	return func(r *RouteConfig) { r.Edge.SessionID = m }
}

func TestServe_EdgeCheck_EdgeSessionIdentity(t *testing.T) {
	t.Parallel()
	twoEdges := allowNetworks("203.0.113.0/24")
	first := edgeViewer{uri: "/play/a001/index.m3u8?token=1", channel: "a001", session: "17", fields: []string{"X-Forwarded-For: 203.0.113.10"}}
	like := func(edit func(*edgeViewer)) edgeViewer {
		v := first
		edit(&v)
		return v
	}
	session := like(func(v *edgeViewer) { v.session = "18" })
	elsewhere := like(func(v *edgeViewer) { v.fields = []string{"X-Forwarded-For: 203.0.113.11"} })
	address := like(func(v *edgeViewer) { v.address = "192.0.2.8" })
	agent := like(func(v *edgeViewer) { v.agent = "VLC/3.0" })
	token := like(func(v *edgeViewer) { v.uri = "/play/a001/index.m3u8?token=2" })
	channel := like(func(v *edgeViewer) { v.channel = "a002" })
	bare := func(v edgeViewer) edgeViewer {
		v.uri = "/play/a001/index.m3u8"
		return v
	}
	noSession := func(v edgeViewer) edgeViewer {
		v.session = ""
		return v
	}
	cases := map[string]struct {
		mode       edge.SessionIDMode
		facts      []string
		one, other edgeViewer
		same       bool
	}{
		"one session, all of it alike":                  {edge.SessionIDOfEdge, nil, first, first, true},
		"two sessions of the edge, one token":           {edge.SessionIDOfEdge, nil, first, session, false},
		"one session at two edges, one token":           {edge.SessionIDOfEdge, nil, first, elsewhere, false},
		"one session, two tokens":                       {edge.SessionIDOfEdge, nil, first, token, false},
		"one session, two channels":                     {edge.SessionIDOfEdge, nil, first, channel, false},
		"one session, two addresses":                    {edge.SessionIDOfEdge, nil, first, address, false},
		"one session, two agents":                       {edge.SessionIDOfEdge, nil, first, agent, true},
		"one session, two agents that count":            {edge.SessionIDOfEdge, []string{"user_agent"}, first, agent, false},
		"no session, two edges":                         {edge.SessionIDOfEdge, nil, noSession(first), noSession(elsewhere), true},
		"a session, and none":                           {edge.SessionIDOfEdge, nil, first, noSession(first), false},
		"two sessions, an id of ours":                   {edge.SessionIDDerived, nil, first, session, false},
		"one session at two edges, an id of ours":       {edge.SessionIDDerived, nil, first, elsewhere, false},
		"two sessions that do not count":                {edge.SessionIDIgnored, nil, first, session, true},
		"one session that does not count, at two edges": {edge.SessionIDIgnored, nil, first, elsewhere, true},
		"one session that does not count, two tokens":   {edge.SessionIDIgnored, nil, first, token, false},

		"no credentials, one session, all of it alike":          {edge.SessionIDOfEdge, nil, bare(first), bare(first), true},
		"no credentials, two sessions":                          {edge.SessionIDOfEdge, nil, bare(first), bare(session), false},
		"no credentials, one session, two addresses":            {edge.SessionIDOfEdge, nil, bare(first), bare(address), false},
		"no credentials, one session, two agents":               {edge.SessionIDOfEdge, nil, bare(first), bare(agent), false},
		"no credentials, one session at two edges":              {edge.SessionIDOfEdge, nil, bare(first), bare(elsewhere), false},
		"no credentials, two sessions that do not count":        {edge.SessionIDIgnored, nil, bare(first), bare(session), true},
		"no credentials, one that does not count, at two edges": {edge.SessionIDIgnored, nil, bare(first), bare(elsewhere), true},
	}
	for name, tc := range cases {
		for _, d := range []edge.Dialect{edge.Astra, edge.Flussonic} {
			t.Run(name+" of "+d.String(), func(t *testing.T) {
				t.Parallel()
				g := newEdgeTestGateway(t, nil, edgeRoute(d, twoEdges, withIdentityFields(tc.facts...), withSessionID(tc.mode)))
				g.wantCheck(t, d, http.StatusOK, tc.one)
				g.wantCheck(t, d, http.StatusOK, tc.other)
				if n := len(g.table.openedIDs()); (n == 1) != tc.same {
					t.Errorf("%d sessions", n)
				}
			})
		}
	}
}

func TestServe_EdgeCheck_NoCredentialsByAddress(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8", session: "17"})
		a := g.table.openRequests()
		if len(a) != 1 || !a[0].HasCredentials || !a[0].Ticket.IsZero() || a[0].Request.Query != "" || a[0].Request.Address.String() != "192.0.2.7" {
			t.Errorf("%s: opened by %+v", d, a)
		}
	}
}

func TestServe_EdgeCheck_RequiredCredentials(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d, func(r *RouteConfig) { r.Required = []string{"token"} }))
			for _, query := range []string{"", "?token=", "?x=1", "?Token=1"} {
				got := g.wantCheck(t, d, http.StatusForbidden, edgeViewer{uri: "/play/a001/index.m3u8" + query})
				if want := "the credential token is missing\n"; got.body != want && !d.KeepsSessions() {
					t.Errorf("%s: got %q, want %q", query, got.body, want)
				}
			}
			if n := len(g.table.openRequests()); n != 0 {
				t.Errorf("%d open requests", n)
			}
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
		})
	}
}

func TestServe_EdgeCheck_PlaybackSession(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, withIdentityFields("playback_session")))
		for _, id := range []string{"P1", "P2", "P1"} {
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{"X-Playback-Session-Id: " + id}})
		}
		if n := len(g.table.openedIDs()); n != 2 {
			t.Errorf("%s: %d sessions, want two", d, n)
		}
	}
}

func TestServe_EdgeCheck_EdgesFieldsAreNotCredentials(t *testing.T) {
	t.Parallel()
	for _, d := range []edge.Dialect{edge.Astra, edge.Alta, edge.Flussonic} {
		g := newEdgeTestGateway(t, nil, edgeRoute(d))
		for _, own := range []string{"1", "2"} {
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1", fields: []string{
				"Authorization: Bearer " + own, "X-Playback-Session-Id: " + own, "Referer: http://" + own + "/", "Cookie: usher_ticket=" + own,
			}})
		}
		a := g.table.openRequests()
		if len(a) != 1 || len(a[0].Request.Headers) != 0 || a[0].Request.Referer != "" || a[0].Request.UserAgent != "MAG250" {
			t.Errorf("%s: opened by %+v", d, a)
		}
	}
}

func TestServe_EdgeCheck_SessionSharedAmongEdges(t *testing.T) {
	t.Parallel()
	// Four edges of one operator, each with its dialect, at routes of one name: one viewer, one session, on any node.
	named := func(r *RouteConfig) { r.Name = "live" }
	ids := map[backends.SessionID][]edge.Dialect{}
	for _, d := range allDialects() {
		if d == edge.Alta { // reports no channel
			continue
		}
		g := newEdgeTestGateway(t, nil, edgeRoute(d, named))
		g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1", channel: "a001"})
		id := g.table.openedIDs()[0]
		ids[id] = append(ids[id], d)
	}
	if len(ids) != 1 {
		t.Errorf("got %v", ids)
	}
}

const publishBody = `{"name": "cam0", "ip": "192.0.2.7", "proto": "rtmp", "request_number": 0, "session_id": "s", "qs": %q, "user_agent": "OBS", "referer": "http://me/"}`

func TestServe_EdgeCheck_PublishNeedsBackend(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic))
	if got := g.post(t, "/auth", fmt.Sprintf(publishBody, "token=1")); got.status != http.StatusForbidden || got.body != "" {
		t.Errorf("got %d %q", got.status, got.body)
	}
	if n := len(g.table.openRequests()); n != 0 {
		t.Errorf("%d open requests", n)
	}
}

func TestServe_EdgeCheck_PublishIsAnotherSession(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Flussonic, func(r *RouteConfig) { r.Edge.PublishBackend = "p" }))
	no := backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}
	g.table.decideFunc = func(a session.OpenRequest) (backends.Decision, error) {
		if a.Request.Backend == "p" {
			return no, nil
		}
		return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}, nil
	}
	watch := edgeViewer{channel: "cam0", uri: "?token=1", agent: "OBS", referer: "http://me/", session: "s"}
	for range 2 {
		g.wantCheck(t, edge.Flussonic, http.StatusOK, watch)
		if got := g.post(t, "/auth", fmt.Sprintf(publishBody, "token=1")); got.status != http.StatusForbidden || got.body != "" || got.header.Get("X-Authduration") != "10" {
			t.Errorf("publishing: got %d %q, %v", got.status, got.body, got.header)
		}
	}
	opened := g.table.openRequests()
	if len(opened) != 2 {
		t.Fatalf("%d open requests, want a viewer and a publisher", len(opened))
	}
	viewer, publisher := *opened[0].Request, *opened[1].Request
	if viewer.Session == publisher.Session || viewer.Group == publisher.Group || viewer.Backend != "b" || publisher.Backend != "p" {
		t.Errorf("sessions %v and %v, backends %s and %s", viewer.Session, publisher.Session, viewer.Backend, publisher.Backend)
	}
	viewer.Session, viewer.Group, viewer.Backend = publisher.Session, publisher.Group, publisher.Backend
	viewer.Edge = publisher.Edge
	if fmt.Sprintf("%+v", viewer) != fmt.Sprintf("%+v", publisher) || publisher.Query != "token=1" || publisher.Channel != "cam0" {
		t.Errorf("checked\n%+v and\n%+v, want the same except the backend", viewer, publisher)
	}
	if !opened[1].HasCredentials || opened[1].ExtraLifetime != opened[0].ExtraLifetime {
		t.Errorf("opened by %+v", opened[1])
	}
}

func TestServe_EdgeCheck_OneSessionForEachAddress(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects() {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			g := newEdgeTestGateway(t, nil, edgeRoute(d))
			const viewers = 10
			for range 2 {
				for i := range viewers {
					g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1", address: fmt.Sprintf("198.51.%d.7", i)})
				}
			}
			if n := len(g.table.openRequests()); n != viewers || len(g.table.openedIDs()) != viewers {
				t.Errorf("%d sessions opened %d times, want %d once each", len(g.table.openedIDs()), n, viewers)
			}
			if d.KeepsSessions() {
				return
			}
			for i := range viewers { // each is matched to their own session
				g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/seg-17.ts", address: fmt.Sprintf("198.51.%d.7", i)})
			}
			if n := len(g.table.openRequests()); n != viewers {
				t.Errorf("segments opened %d sessions", n-viewers)
			}
		})
	}
}

func TestServe_EdgeCheck_CookieFromNewAddress_OpensSibling(t *testing.T) {
	t.Parallel()
	for _, d := range proxyDialects() {
		g := newEdgeTestGateway(t, nil, edgeRoute(d, matchBy(edge.MatchByCookie)))
		given := g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/index.m3u8?token=1"}).header.Get("Set-Cookie")
		text, _, _ := strings.Cut(given, ";")
		cookie := []string{"Cookie: " + text}
		for range 2 {
			g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/seg-17.ts", fields: cookie})
			got := g.wantCheck(t, d, http.StatusOK, edgeViewer{uri: "/play/a001/seg-17.ts", address: "198.51.100.9", fields: cookie})
			if other := got.header.Get("Set-Cookie"); other != "" {
				t.Errorf("%s: the viewer's ticket is replaced by %s", d, other)
			}
		}
		opened := g.table.openRequests()
		if len(opened) != 2 {
			t.Fatalf("%s: %d open requests, want the root's and its sibling's", d, len(opened))
		}
		root, sibling := opened[0], opened[1]
		if sibling.Root != root.Request.Session || sibling.Request.Session == root.Request.Session || sibling.HasCredentials ||
			sibling.Request.Address.String() != "198.51.100.9" {
			t.Errorf("%s: the sibling is opened by %+v of %+v", d, sibling, sibling.Request)
		}
	}
}

func TestServe_EdgeCheck_AllDialectsConcurrently(t *testing.T) {
	t.Parallel()
	var routes []RouteConfig
	for _, d := range allDialects() {
		routes = append(routes, edgeRoute(d, allowNetworks(fmt.Sprintf("203.0.113.%d/32", d), "127.0.0.1/32"), func(r *RouteConfig) {
			r.Name = d.String()
			if d != edge.Envoy {
				r.Path = "/" + d.String()
			}
		}))
	}
	g := newEdgeTestGateway(t, nil, routes...)
	var wg sync.WaitGroup
	for _, d := range allDialects() {
		for i := range 3 {
			wg.Go(func() {
				for n := range 20 {
					v := edgeViewer{uri: fmt.Sprintf("/play/a001/index.m3u8?token=%d", (i+n)%5), channel: "a001"}
					if d == edge.Envoy {
						if got := g.checkAsEnvoy(t, edgeViewer{uri: v.uri, address: "192.0.2.7"}); got.status != http.StatusOK {
							t.Errorf("envoy: got %d %q", got.status, got.body)
						}
						continue
					}
					v.address, v.agent = "192.0.2.7", "MAG250"
					path, fields := v.encode(d)
					path = "/" + d.String() + strings.TrimPrefix(path, "/auth")
					if got := g.get(t, path, fields...); got.status != http.StatusOK {
						t.Errorf("%s: got %d %q", d, got.status, got.body)
					}
				}
			})
		}
	}
	wg.Wait()
	routesSeen := map[string]int{}
	for _, a := range g.table.openRequests() {
		routesSeen[a.Request.Route]++
	}
	for _, d := range allDialects() {
		if routesSeen[d.String()] < 5 {
			t.Errorf("%s: %d open requests, want at least one a token", d, routesSeen[d.String()])
		}
	}
	if n := len(g.table.openedIDs()); n != 5*len(routes) {
		t.Errorf("%d sessions, want five a route", n)
	}
	if log := g.log.recorded(); len(log) != 0 {
		t.Errorf("log: %q", slices.Compact(log))
	}
}
