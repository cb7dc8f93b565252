package gateway

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"

	"usher/backends/setting"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/hls"
)

// replace serves by a gateway of other settings from now on, as after a reload.
func (h *testHandler) replace(t *testing.T, edit func(*Options)) {
	t.Helper()
	o := h.gateway.options
	o.Previous = h.gateway
	edit(&o)
	next, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	h.gateway.CloseBeside(next)
	h.gateway = next
	t.Cleanup(next.Close)
}

// TestGateway_Successor_RotatesKeys: tickets of the old key are valid for as long as the settings have it, and new ones are
// signed by the first key.
func TestGateway_Successor_RotatesKeys(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	ticketOf := func(token string) string { return uris(g.want(t, 200, "/play/a001/index.m3u8?token="+token).body)[0] }
	first := ticketOf("1")
	a, b := setting.Key{ID: "a", Secret: "the first ticket secret"}, setting.Key{ID: "b", Secret: "the second ticket secret"}
	rotate := func(keys ...setting.Key) {
		g.handler.replace(t, func(o *Options) { o.Config.Tickets.Keys = keys })
		g.table.key = g.handler.gateway.SigningKey
	}
	rotate(b, a)
	second := ticketOf("2")
	for name, uri := range map[string]string{"the old key": first, "the new key": second} {
		g.want(t, 200, listedIn(t, "/play/a001/index.m3u8", uri))
		if name == "the new key" && uri == first {
			t.Error("the new ticket is the old one")
		}
	}
	if again := ticketOf("1"); again != first {
		t.Errorf("the URI of a running session changed from %s to %s", first, again)
	}
	rotate(b)
	g.want(t, 403, listedIn(t, "/play/a001/index.m3u8", first))
	g.want(t, 200, listedIn(t, "/play/a001/index.m3u8", second))
}

// TestGateway_Successor_WritesPlaylistsAnew: a playlist that the origin has not changed is written by the settings of the reload.
func TestGateway_Successor_WritesPlaylistsAnew(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		uri           string // that the playlist lists
		config        func(*Config)
		before, after TicketsConfig // only what is set
	}{
		"another secret": {
			uri: "v.m3u8?q=1", after: TicketsConfig{Keys: []setting.Key{{ID: "a", Secret: "the second ticket secret"}}},
		},
		"another parameter": {
			uri: "v.m3u8?q=1", config: func(c *Config) { c.Routes[0].TicketIn = hls.TicketInQuery }, after: TicketsConfig{Parameter: "t"},
		},
		"a longer URI": {
			uri: "v.m3u8?q=" + strings.Repeat("1", 200), before: TicketsConfig{MaxURI: 256}, after: TicketsConfig{MaxURI: 2000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := func(c *Config, to TicketsConfig) {
				if to.Keys != nil {
					c.Tickets.Keys = to.Keys
				}
				c.Tickets.Parameter = cmp.Or(to.Parameter, c.Tickets.Parameter)
				c.Tickets.MaxURI = cmp.Or(to.MaxURI, c.Tickets.MaxURI)
			}
			g := newTestGateway(t, func(c *Config) {
				set(c, test.before)
				if test.config != nil {
					test.config(c)
				}
			})
			const entry = "/play/a001/index.m3u8"
			g.upstream.Files[entry] = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n" + test.uri + "\n"
			g.upstream.Files["/play/a001/v.m3u8"] = mediaPlaylist
			g.want(t, 200, entry+"?token=1")
			g.handler.replace(t, func(o *Options) { set(&o.Config, test.after) })
			uri := uris(g.want(t, 200, entry+"?token=2").body)[0]
			g.upstream.Reset()
			g.want(t, 200, listedIn(t, entry, uri))
			if got, want := g.upstream.RequestURIs(), []string{"/play/a001/" + test.uri}; !slices.Equal(got, want) {
				t.Errorf("%s has the origin asked for %q, want %q", uri, got, want)
			}
		})
	}
}

// TestGateway_Successor_KnowsFingerprints: a viewer at an edge whose segments have no credentials plays on.
func TestGateway_Successor_KnowsFingerprints(t *testing.T) {
	t.Parallel()
	g := newEdgeTestGateway(t, nil, edgeRoute(edge.Nginx))
	g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/index.m3u8?token=1"})
	g.handler.replace(t, func(o *Options) { o.Config.Routes = append(twoRoutes(edge.Nginx)[1:], o.Config.Routes...) })
	g.wantCheck(t, edge.Nginx, 200, edgeViewer{uri: "/play/a001/seg-17.ts"})
	g.wantCheck(t, edge.Nginx, 403, edgeViewer{uri: "/play/a002/seg-17.ts"})
}

// TestGateway_Successor_CountsOn: what a route that stays unenforced would have refused is counted on, and no session twice.
func TestGateway_Successor_CountsOn(t *testing.T) {
	t.Parallel()
	g, _ := newUnenforcedGateway(t, nil)
	count := func() uint64 {
		return g.handler.gateway.UnenforcedRefusals()[g.routes[0].name][enforcement.MissingCredential]
	}
	for range 2 {
		g.want(t, http.StatusOK, "/play/a001/index.m3u8")
	}
	if count() != 1 {
		t.Fatalf("counted %d sessions, want 1", count())
	}
	g.handler.replace(t, func(o *Options) {
		o.Config.Tickets.MaxURI = 1000
		o.MaxVariants = 3
	})
	g.want(t, http.StatusOK, "/play/a001/index.m3u8")
	if count() != 1 {
		t.Errorf("counted %d sessions after the reload, want 1", count())
	}
	g.handler.replace(t, func(o *Options) {
		o.Config.Routes = append([]RouteConfig{}, o.Config.Routes...)
		o.Config.Routes[0].Enforce = enforcement.Enforced
	})
	g.want(t, http.StatusForbidden, "/play/a001/index.m3u8")
}

// TestGateway_Successor_Refused: settings that cannot be used leave the present gateway as it is.
func TestGateway_Successor_Refused(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	first := listedIn(t, "/play/a001/index.m3u8", uris(g.want(t, 200, "/play/a001/index.m3u8?token=1").body)[0])
	o := g.options
	o.Previous, o.MaxVariants = g.Gateway, 3
	o.Config.Routes = append(o.Config.Routes, RouteConfig{Path: "/vod/{channel}/*", OriginPath: "/{other}/*", Origin: "o", Backend: "b"})
	if _, err := New(o); err == nil {
		t.Fatal("a route with an unknown variable was accepted")
	}
	g.want(t, 200, first)
	g.want(t, 200, "/play/a001/index.m3u8?token=2")
}
