package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/gateway/admin/access"
	"usher/gateway/admin/overview"
	"usher/gateway/admin/page"
)

// restingCluster is two nodes with the same sessions, of which one may be silent.
type restingCluster struct {
	fakeNode
	here     *restingSessions
	recorder *Recorder
	silent   []string
	live     int
}

func (c *restingCluster) Name() string { return "n1" }
func (c *restingCluster) Len() int     { return c.here.Len() }
func (c *restingCluster) Live() int    { return c.live }
func (c *restingCluster) Ready() bool  { return true }

func (c *restingCluster) Ask(ctx context.Context, asked []byte) (map[string][]byte, []string) {
	replies := map[string][]byte{}
	for _, name := range []string{"n1", "n2"}[:c.live-len(c.silent)] {
		reply, isAsked := c.recorder.AnswerOverviewQuery(asked)
		if !isAsked {
			reply = AnswerSessionQuery(ctx, c.here, nil, asked)
		}
		replies[name] = reply
	}
	return replies, c.silent
}

// call sends a request to a listener of the cluster, and decodes the answer into v unless that is nil.
func (c *restingCluster) call(t *testing.T, r *http.Request, v any) (status int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	newHandler(t, Config{Token: token}, Options{Sessions: c, Cluster: c, Recorder: c.recorder, Ready: c.Ready}).ServeHTTP(w, r)
	got, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(got, v); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
	}
	return w.Code, string(got)
}

func bearer(t *testing.T, path string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func TestHandler_SessionsByID(t *testing.T) {
	t.Parallel()
	c := &restingCluster{here: newRestingSessions(100), recorder: NewRecorder(), live: 2}
	var ids []string
	for _, s := range c.here.all[:50] {
		ids = append(ids, s.id.String())
	}
	gone := backends.SessionID([]byte("an ended session")).String()
	var got SessionLookup
	c.call(t, bearer(t, "/api/v1/sessions/lookup?ids="+strings.Join(append(ids, gone, ids[0]), ",")), &got)
	slices.Sort(ids)
	var found []string
	for _, s := range got.Sessions {
		found = append(found, s.ID)
		if !slices.Equal(s.Nodes, []string{"n1", "n2"}) || s.Requests != 2 || s.User == "" {
			t.Errorf("session %+v", s)
		}
	}
	if diff := cmp.Diff(ids, found); diff != "" || len(got.UnreachableNodes) > 0 {
		t.Errorf("%v did not respond; ids (-want +got):\n%s", got.UnreachableNodes, diff)
	}
	c.silent = []string{"n2"}
	if c.call(t, bearer(t, "/api/v1/sessions/lookup?ids="+gone), &got); !slices.Equal(got.UnreachableNodes, c.silent) || len(got.Sessions) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestHandler_SessionsByID_Invalid(t *testing.T) {
	t.Parallel()
	c := &restingCluster{here: newRestingSessions(1), recorder: NewRecorder(), live: 1}
	id := c.here.all[0].id.String()
	for name, query := range map[string]string{
		"no id": "ids=", "no session's": "ids=x", "another parameter": "ids=" + id + "&user=ann",
		"too many": "ids=" + strings.Repeat(id+",", maxLookup) + id,
	} {
		if status, body := c.call(t, bearer(t, "/api/v1/sessions/lookup?"+query), nil); status != http.StatusBadRequest || !strings.HasPrefix(body, "ids: invalid input") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

func TestAnswerSessionQuery_Lookup_Implausible(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]sessionQuery{
		"no id":       {Kind: lookupQueryKind, IDs: []string{"x"}, Limit: 1},
		"too many":    {Kind: lookupQueryKind, IDs: make([]string, maxLookup+1), Limit: 1},
		"a kick":      {Kind: lookupQueryKind, IDs: []string{}, Limit: 1, Kick: &kickOrder{ID: "k", Duration: 1}},
		"ids of kick": {Kind: kickQueryKind, IDs: []string{"x"}, Limit: 1, Filter: Filter{User: "ann"}, Kick: &kickOrder{ID: "k", Duration: 1}},
		"ids of list": {Kind: listQueryKind, IDs: []string{"x"}, Limit: 1},
	} {
		if got := AnswerSessionQuery(t.Context(), newRestingSessions(1), nil, encode(q)); got != nil {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestHandler_Overview(t *testing.T) {
	t.Parallel()
	recorder := NewRecorder()
	r := &backends.Request{Route: "vod", Backend: "portal"}
	onState, shown := recorder.OnBreaker("portal")
	recorder.SetBreakers(map[string]*overview.Breaker{"portal": shown})
	onState(backends.BreakerOpen)
	allowed := &backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
	recorder.Waited(r, allowed, time.Millisecond)
	recorder.Decided(r, nil, allowed)
	for live, want := range map[int]overview.Overview{
		1: {Sessions: 100, Nodes: []string{"n1"}, Backends: []overview.Backend{{Name: "portal", Breaker: "open", Nodes: map[string]string{"n1": "open"}}}},
		2: {Sessions: 100, Nodes: []string{"n1", "n2"}, Backends: []overview.Backend{{Name: "portal", Breaker: "open", Nodes: map[string]string{"n1": "open", "n2": "open"}}}},
	} {
		want.RedisUp, want.FailOpenShare, want.UnverifiedShare, want.IntervalSeconds = true, 1, 1, 5
		want.Series = overview.Series{Openings: []float64{}, Denials: []float64{}, FailOpenShare: []float64{}}
		c := &restingCluster{here: newRestingSessions(100), recorder: recorder, live: live}
		var got overview.Overview
		c.call(t, bearer(t, "/api/v1/overview"), &got)
		got.Time = time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d nodes: overview (-want +got):\n%s", live, diff)
		}
	}
}

// TestHandler_Cookie_Roles logs in by the page, and calls the API with its cookie.
func TestHandler_Cookie_Roles(t *testing.T) {
	t.Parallel()
	c := &restingCluster{here: newRestingSessions(1), recorder: NewRecorder(), live: 1}
	var logged bytes.Buffer
	server := httptest.NewServer(Handler(Config{Token: token, Tokens: []access.Token{{Name: "grafana", Token: "the token of grafana", Role: access.Read}}},
		Options{Sessions: c, Cluster: c, Recorder: c.recorder, Ready: c.Ready, Logger: slog.New(slog.NewTextHandler(&logged, nil))}))
	defer server.Close()
	send := func(method, path, body string, header ...string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for text, want := range map[string]int{token: http.StatusNotFound, "the token of grafana": http.StatusForbidden} {
		logged.Reset()
		login := send(http.MethodPost, "/ui/login", "token="+strings.ReplaceAll(text, " ", "+"), "Content-Type", "application/x-www-form-urlencoded")
		cookie := page.CookieName + "=" + login.Cookies()[0].Value
		var me struct{ CSRF string }
		if err := json.NewDecoder(send(http.MethodGet, "/ui/me", "", "Cookie", cookie).Body).Decode(&me); err != nil {
			t.Fatal(err)
		}
		if got := send(http.MethodGet, "/api/v1/overview", "", "Cookie", cookie).StatusCode; got != http.StatusOK {
			t.Errorf("%q reads: %d", text, got)
		}
		if got := send(http.MethodDelete, "/api/v1/bans/x", "", "Cookie", cookie, page.CSRFHeader, me.CSRF).StatusCode; got != want {
			t.Errorf("%q unbans: %d, want %d", text, got, want)
		}
		if got := send(http.MethodDelete, "/api/v1/bans/x", "", "Cookie", cookie).StatusCode; got != http.StatusForbidden {
			t.Errorf("%q unbans without the CSRF token: %d", text, got)
		}
		name := map[string]string{token: "admin", "the token of grafana": "grafana"}[text]
		if record := "msg=audit actor=" + name + " client_address=127.0.0.1 action=unban target=x result=\"the request is not the page's own"; !strings.Contains(logged.String(), record) {
			t.Errorf("the audit lacks %s:\n%s", record, logged.String())
		}
	}
	if got := send(http.MethodGet, "/api/v1/overview", "", "Cookie", page.CookieName+"=x").StatusCode; got != http.StatusUnauthorized {
		t.Errorf("a wrong cookie: %d", got)
	}
}

func (c *restingCluster) Unban(context.Context, string) (bool, error) { return false, nil }
