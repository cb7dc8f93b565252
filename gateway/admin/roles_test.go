package admin

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/admin/access"
)

const readToken = "the token of grafana"

// roleRig is a listener with a token of each role.
type roleRig struct {
	cluster fakeCluster
	logged  bytes.Buffer
	stream  bytes.Buffer
	Options
}

func newRoleRig() *roleRig {
	g := &roleRig{}
	n := newFakeNode()
	g.Options = Options{
		Sessions: n, Cluster: &g.cluster, Ready: n.Ready, Backends: n.Backends, Breakers: fakeBreakers{}, KickDuration: time.Minute,
		Logger: slog.New(slog.NewTextHandler(&g.logged, nil)), AuditStream: &g.stream,
		Reload: func() ReloadResult { return ReloadResult{Outcome: ReloadApplied, Changed: []string{"log.level"}} },
	}
	g.cluster.record = annsRecord
	return g
}

func (g *roleRig) config() Config {
	return Config{Token: token, Tokens: []access.Token{{Name: "grafana", Token: readToken, Role: access.Read}}}
}

// do sends a request with a token.
func (g *roleRig) do(t *testing.T, token, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	newHandler(t, g.config(), g.Options).ServeHTTP(w, r)
	return w
}

// changes are the bodies of requests that change something, by the pattern of the endpoint.
func changes() map[string]string {
	return map[string]string{
		"POST /api/v1/sessions/{id}/kick": `{"reason":"shared"}`,
		"DELETE /api/v1/sessions/{id}":    `{"reason":"shared"}`,
		"POST /api/v1/kick":               `{"user":"17","reason":"shared"}`,
		"POST /api/v1/bans":               `{"user":"17","duration":"1h","reason":"shared"}`,
		"DELETE /api/v1/bans/{id}":        "",

		"POST /api/v1/backends/{name}/breaker": `{"state":"open","reason":"upgrade"}`,
		"POST /api/v1/backends/{name}/probe":   "",
		"POST /api/v1/reload":                  "",
	}
}

func TestHandler_ReadToken_ChangeForbiddenAndAudited(t *testing.T) {
	t.Parallel()
	bodies := changes()
	for pattern, e := range (&handler{}).endpoints() {
		method, path, _ := strings.Cut(pattern, " ")
		if isRead := method == http.MethodGet; isRead != (e.change == "") {
			t.Errorf("%s: its change is %q", pattern, e.change)
		}
		if method == http.MethodGet {
			continue
		}
		body, isKnown := bodies[pattern]
		if !isKnown {
			t.Errorf("no request for %s", pattern)
		}
		path = strings.NewReplacer("{id}", anID, "{name}", "portal").Replace(path)
		g := newRoleRig()
		w := g.do(t, readToken, method, path, body)
		want := `token "grafana" has the role read; ` + e.change + " needs the role write\n"
		if w.Code != http.StatusForbidden || w.Body.String() != want {
			t.Errorf("%s: got %d %q", pattern, w.Code, w.Body)
		}
		if len(g.cluster.asked) > 0 {
			t.Errorf("%s: the cluster was asked: %q", pattern, g.cluster.asked)
		}
		var record struct {
			Msg, Actor, Action, Target, Result, Reason string
			Address                                    string `json:"client_address"`
		}
		if err := json.Unmarshal(g.stream.Bytes(), &record); err != nil {
			t.Fatalf("%s: the stream has %q: %v", pattern, g.stream.Bytes(), err)
		}
		if record.Msg != "audit" || record.Actor != "grafana" || record.Address != "192.0.2.1" || record.Action != e.change ||
			record.Target == "" || record.Result+"\n" != want || record.Reason == "" && body != "" {
			t.Errorf("%s: the audit has %+v", pattern, record)
		}
		if !strings.Contains(g.logged.String(), "msg=audit actor=grafana client_address=192.0.2.1 action="+e.change) {
			t.Errorf("%s: the log has %s", pattern, g.logged.String())
		}
		if w := newRoleRig().do(t, token, method, path, body); w.Code != http.StatusOK {
			t.Errorf("%s with the role write: got %d %q", pattern, w.Code, w.Body)
		}
	}
}

func TestHandler_ReadToken_ReadsAndCounts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ method, path, body string }{
		"sessions":              {"GET", "sessions", ""},
		"backends":              {"GET", "backends", ""},
		"a dry run of a kick":   {"POST", "sessions/" + anID + "/kick", `{"dry_run":true}`},
		"a dry run of a filter": {"POST", "kick", `{"user":"17","dry_run":true}`},
		"a dry run of a ban":    {"POST", "bans", `{"user":"17","duration":"1h","dry_run":true}`},
	} {
		g := newRoleRig()
		w := g.do(t, readToken, test.method, "/api/v1/"+test.path, test.body)
		if w.Code != http.StatusOK || g.stream.Len() > 0 {
			t.Errorf("%s: got %d %q, audited %q", name, w.Code, w.Body, g.stream.String())
		}
		for _, asked := range g.cluster.asked {
			if !strings.HasPrefix(asked, "count ") && !strings.HasPrefix(asked, "find ") {
				t.Errorf("%s: it did %s", name, asked)
			}
		}
	}
}

// TestHandler_PrincipalOfContext checks that code of this listener may authenticate a request by other means.
func TestHandler_PrincipalOfContext(t *testing.T) {
	t.Parallel()
	for role, want := range map[access.Role]int{access.Read: http.StatusForbidden, access.Write: http.StatusOK} {
		g := newRoleRig()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/api/v1/bans/b1", nil)
		r = r.WithContext(access.WithPrincipal(r.Context(), access.Principal{Name: "page", Role: role}))
		w := httptest.NewRecorder()
		newHandler(t, g.config(), g.Options).ServeHTTP(w, r)
		if w.Code != want || !strings.Contains(g.stream.String(), `"actor":"page"`) {
			t.Errorf("%s: got %d, want %d; audited %q", role, w.Code, want, g.stream.String())
		}
	}
}

// TestHandler_UnknownToken_BoundedAndAudited has a bound to guesses of tokens, and never slows a right one.
func TestHandler_UnknownToken_BoundedAndAudited(t *testing.T) {
	t.Parallel()
	g := newRoleRig()
	handler := newHandler(t, g.config(), g.Options)
	send := func(authorization, method, path, address string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, "/api/v1/"+path, nil)
		r.RemoteAddr = address + ":1000"
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	const guessing, other = "192.0.2.1", "192.0.2.2"
	for i := range 10 {
		method, path := "GET", "sessions"
		if i%2 > 0 {
			method, path = "DELETE", "bans/b1"
		}
		scheme := "Bearer"
		if i > 5 {
			scheme = "BEARER"
		}
		if got := send(scheme+" a guess", method, path, guessing); got.Code != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i, got.Code)
		}
	}
	for range 3 {
		got := send("Bearer a guess", "GET", "sessions", guessing)
		if wait, err := strconv.Atoi(got.Header().Get("Retry-After")); got.Code != http.StatusTooManyRequests || err != nil || wait < 1 || wait > 61 {
			t.Errorf("another guess: %d, Retry-After %q", got.Code, got.Header().Get("Retry-After"))
		}
	}
	for name, test := range map[string]struct {
		authorization, method, path, address string
		want                                 int
	}{
		"a right token":                  {"Bearer " + token, "GET", "sessions", guessing, http.StatusOK},
		"a right token that changes":     {"Bearer " + token, "DELETE", "bans/b1", guessing, http.StatusOK},
		"no token":                       {"", "GET", "sessions", guessing, http.StatusUnauthorized},
		"no token, and a change":         {"", "DELETE", "bans/b1", guessing, http.StatusTooManyRequests},
		"a guess from elsewhere":         {"Bearer a guess", "GET", "sessions", other, http.StatusUnauthorized},
		"a change without a token there": {"", "DELETE", "bans/b1", other, http.StatusUnauthorized},
	} {
		if got := send(test.authorization, test.method, test.path, test.address); got.Code != test.want {
			t.Errorf("%s: %d, want %d", name, got.Code, test.want)
		}
	}
	login := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ui/login", strings.NewReader("token="+url.QueryEscape(token)))
	login.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	if Handler(g.config(), g.Options).ServeHTTP(w, login); w.Code != http.StatusNoContent {
		t.Errorf("a login: %d", w.Code)
	}
	records := map[string]int{}
	for line := range strings.Lines(g.stream.String()) {
		var r struct{ Actor, Action, Target, Result string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		records[strings.Join([]string{r.Actor, r.Action, r.Target, r.Result}, " | ")]++
	}
	want := map[string]int{
		" | read | /api/v1/sessions | " + errNoToken.Error():                                  6,
		" | unban | b1 | " + errNoToken.Error():                                               6,
		" | read | /api/v1/sessions | too many requests without a known token; wait a minute": 1,
		"admin | unban | b1 | done":                                                           1,
		"admin | login | page | done":                                                         1,
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if strings.Contains(g.stream.String(), "a guess") {
		t.Errorf("the audit has a token: %s", g.stream.String())
	}
}
