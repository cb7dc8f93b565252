package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// challengeWithout allows viewers with an Authorization and asks the others for one.
func challengeWithout(a session.OpenRequest) (backends.Decision, error) {
	d := backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Challenge: "Bearer\nBasic realm=\"TV\""}
	if len(a.Request.Headers) > 0 {
		d = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
	}
	return d, nil
}

func TestServe_Challenge_AnsweredByCredentials(t *testing.T) {
	t.Parallel()
	const page, basic = "Origin: https://tv.example.com", "Authorization: Basic YWxpY2U6d29uZGVybGFuZA=="
	g := newTestGateway(t, func(c *Config) { c.Routes[0].CredentialHeaders = []string{"authorization"} })
	g.table.decideFunc = challengeWithout
	for range 2 { // the second time from the session
		got := g.want(t, http.StatusUnauthorized, "/play/a001/index.m3u8", page)
		want := []string{"Bearer", `Basic realm="TV"`}
		if diff := cmp.Diff(want, got.header.Values("WWW-Authenticate")); diff != "" {
			t.Errorf("challenges (-want +got):\n%s", diff)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "",
			"Access-Control-Expose-Headers": "Content-Length, Content-Range, Age",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: got %q, want %q", name, got.header.Get(name), want)
			}
		}
	}
	list := g.want(t, http.StatusOK, "/play/a001/index.m3u8", page, basic)
	g.want(t, http.StatusOK, firstURI(t, list.body), basic)
	g.want(t, http.StatusUnauthorized, "/play/a001/index.m3u8", page)
	if opened := g.table.openRequests(); len(opened) != 2 || opened[0].Request.Session == opened[1].Request.Session ||
		opened[1].Request.Headers[0].Value != strings.TrimPrefix(basic, "Authorization: ") {
		t.Errorf("open requests: %+v", opened)
	}
	if seen := g.upstream.Dump(); strings.Contains(seen, "Basic") {
		t.Errorf("the origin got credentials: %s", seen)
	}
}

// TestServe_DenialOver_OpensAnew has a viewer ask again before and after the time of their denial is over.
func TestServe_DenialOver_OpensAnew(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	d := backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}
	g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) { return d, nil }
	const playlist = "/play/a001/index.m3u8?token=1"
	g.want(t, http.StatusForbidden, playlist)
	d.Verdict = backends.Allowed
	g.want(t, http.StatusForbidden, playlist)
	for _, s := range g.table.liveSessions() {
		s.expires = time.Now().Add(-time.Second)
	}
	g.want(t, http.StatusOK, playlist)
	if got := len(g.table.openRequests()); got != 2 {
		t.Errorf("the session was opened %d times, want once, and anew when its denial was over", got)
	}
}

// firstURI returns the first URI that a playlist lists.
func firstURI(t *testing.T, playlist string) string {
	t.Helper()
	for line := range strings.Lines(playlist) {
		if !strings.HasPrefix(line, "#") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("the playlist lists nothing: %q", playlist)
	return ""
}

// A segment opens no session, so credentials would not help.
func TestServe_Challenge_NotForSegments(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	uri := firstURI(t, g.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1").body)
	g.table.decideFunc = challengeWithout
	g.table.decideAll(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Challenge: "Basic"})
	if got := g.want(t, http.StatusForbidden, uri).header.Get("WWW-Authenticate"); got != "" {
		t.Errorf("a segment asks for %q", got)
	}
}

// A viewer whose session is challenged while it runs answers below the ticket. The answer opens a session of its own at once,
// whose playlist lists its own ticket.
func TestServe_Challenge_AnsweredBesideTicket(t *testing.T) {
	t.Parallel()
	const basic = "Authorization: Basic YWxpY2U6d29uZGVybGFuZA=="
	g := newTestGateway(t, func(c *Config) { c.Routes[0].CredentialHeaders = []string{"authorization"} })
	before := firstURI(t, g.want(t, http.StatusOK, "/play/a001/index.m3u8?token=1").body)
	playlist := strings.Replace(before, "seg-17.ts", "index.m3u8", 1)
	g.want(t, http.StatusOK, playlist)
	g.table.decideFunc = challengeWithout
	g.table.decideAll(backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Challenge: "Basic"})
	g.want(t, http.StatusUnauthorized, playlist)
	after := firstURI(t, g.want(t, http.StatusOK, playlist, basic).body)
	if !strings.HasPrefix(after, "/~") || after == before {
		t.Errorf("the playlist lists %q, want the ticket of the new session, not %q", after, before)
	}
	g.want(t, http.StatusOK, after)
	g.want(t, http.StatusForbidden, before)
}

func TestServe_Challenge_RedirectFirst(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.table.decideFunc = func(session.OpenRequest) (backends.Decision, error) {
		return backends.Decision{Verdict: backends.Denied, Redirect: "http://promo.example.net/", Challenge: "Basic"}, nil
	}
	g.want(t, http.StatusFound, "/play/a001/index.m3u8?token=1")
}
