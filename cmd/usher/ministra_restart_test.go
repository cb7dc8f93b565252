package main

import (
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway"
)

// request passes a request of the viewer's to the gateway, with a cookie.
func (l *ministraNode) request(t *testing.T, uri, cookie string) (status int, body string, cookies []string) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	l.portal.now.Store(time.Now().UnixNano())
	var a gateway.Response
	v := gateway.Request{
		Method: http.MethodGet, Scheme: "https", Host: "tv.example.com", Path: u.EscapedPath(), Query: u.RawQuery,
		Peer: netip.MustParseAddr("192.0.2.7"), Header: http.Header{"User-Agent": {"MAG200"}, "Cookie": {cookie}},
	}
	if err := l.node.current.Load().gateway.Serve(t.Context(), &v, &a); err != nil {
		t.Fatalf("GET %s: %v", uri, err)
	}
	if a.Stream != nil {
		_ = a.Stream.Close()
	}
	for _, f := range a.Fields() {
		if f.Name == "Set-Cookie" {
			cookie, _, _ := strings.Cut(f.Value, ";")
			cookies = append(cookies, cookie)
		}
	}
	return a.Status, string(a.Body), cookies
}

// lastURI returns the last URI of the playlist at base.
func lastURI(t *testing.T, base, playlist string) string {
	t.Helper()
	lines := strings.Fields(playlist)
	u, err := url.Parse(base)
	if err == nil {
		u, err = u.Parse(lines[len(lines)-1])
	}
	if err != nil {
		t.Fatal(err)
	}
	return u.String()
}

// TestNode_Ministra_Restart_PlaysOn restarts a node without Redis while a viewer plays whose token died long ago. Whatever URI
// of theirs with a ticket comes first, each of them is served from then on.
func TestNode_Ministra_Restart_PlaysOn(t *testing.T) {
	t.Parallel()
	p, origin := startPortal(t, true), startOrigin(t)
	for _, ticketIn := range []string{"path", "query", "cookie"} {
		// "bare" is a request that shows the dead token alone. Nothing speaks for it, and it spoils nothing.
		for _, first := range []string{"beside the token", "beside another token", "playlist", "segment", "bare"} {
			t.Run(ticketIn+", first "+first, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { playAcrossRestart(t, p, origin, ticketIn, first) })
			})
		}
	}
}

func playAcrossRestart(t *testing.T, p *portal, origin, ticketIn, first string) {
	t.Helper()
	more := "ticket_in: " + ticketIn
	l := newMinistraNode(t, p, origin, more)
	opened := l.path + "?" + l.query
	status, playlist, cookies := l.request(t, opened, "")
	if status != http.StatusOK {
		t.Fatalf("opening: %d %s", status, playlist)
	}
	cookie := strings.Join(cookies, "; ")
	segment := lastURI(t, opened, playlist)
	uris := map[string]string{"segment": segment}
	switch ticketIn {
	case "path":
		ticket := segment[:strings.Index(segment[1:], "/")+1]
		uris["playlist"], uris["beside the token"] = ticket+l.path, ticket+opened
	case "query":
		_, query, _ := strings.Cut(segment, "?")
		uris["playlist"], uris["beside the token"] = l.path+"?"+query, opened+"&"+query
	default:
		uris["playlist"], uris["beside the token"] = l.path, opened
	}
	uris["beside another token"] = strings.Replace(uris["beside the token"], ministraToken, "5d41402abc4b2a76b9719d911017c593", 1)
	<-time.After(time.Hour)

	restarted := newMinistraNode(t, p, origin, more)
	p.issued.Store(time.Now().Add(-time.Hour).UnixNano())
	if first == "bare" {
		_, _, _ = restarted.request(t, opened, "")
	} else if status, why, _ := restarted.request(t, uris[first], cookie); status != http.StatusOK {
		t.Errorf("first, %s: %d %.100q", first, status, why)
	}
	for range 2 {
		for _, what := range slices.Sorted(maps.Keys(uris)) {
			if what == "segment" { // the newest one, since the origin has forgotten the others
				_, playlist, _ = restarted.request(t, uris["playlist"], cookie)
				uris[what] = lastURI(t, uris["playlist"], playlist)
			}
			if status, why, _ := restarted.request(t, uris[what], cookie); status != http.StatusOK {
				t.Errorf("first %s, then %s: %d %.100q", first, what, status, why)
			}
		}
		<-time.After(time.Minute)
	}
}
