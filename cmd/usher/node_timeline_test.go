package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/actors/session"
	"usher/gateway/admin"
)

// timelineText returns the body of a session's timeline, by the API at that address.
func timelineText(t *testing.T, api, id string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/api/v1/sessions/"+id+"/timeline", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiToken)
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// timelineRows returns a line for each check: its node, trigger, backend, verdict, source and reason.
func timelineRows(t admin.Timeline) (rows []string) {
	for _, c := range t.Checks {
		rows = append(rows, strings.TrimSpace(fmt.Sprint(c.Node, " ", c.Trigger, " ", c.Backend, " ", c.Verdict, "/", c.Source, " ", c.Reason)))
	}
	return rows
}

// TestNode_Timeline_MovedSession opens a session on one node, watches on another one and is kicked by a third.
func TestNode_Timeline_MovedSession(t *testing.T) {
	t.Parallel()
	k := startKickThree(t, "denial_ttl: 1s", "denial_ttl: 10m")
	path := "/play/t1/low.m3u8?token=name-s3cret"
	got := k.ask(atHome(path))
	ticket := withTicket(t, got.body)
	moved := atHome(ticket)
	moved.node = 1
	if got := k.ask(moved); got.status != http.StatusOK {
		t.Fatalf("on the other node: %d %s", got.status, got.body)
	}
	id := k.sessionsOn("t1")[0].ID
	var before, after admin.Timeline
	k.api(2, "GET", "sessions/"+id+"/timeline", nil, &before)
	want := []string{
		"n1 opening portal allowed/backend backend answered 200",
		"n2 lookup  allowed/backend backend answered 200",
	}
	if diff := cmp.Diff(want, timelineRows(before)); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	k.kick(id, "1h")
	k.await("the kicked viewer", atHome(ticket), http.StatusForbidden)
	k.api(0, "GET", "sessions/"+id+"/timeline", nil, &after)
	byNode := map[string][]string{}
	for _, c := range after.Checks {
		byNode[c.Node] = append(byNode[c.Node], c.Trigger)
	}
	for node, want := range map[string][]string{"n1": {"opening", "kick"}, "n2": {"lookup", "kick"}} {
		if diff := cmp.Diff(want, byNode[node]); diff != "" {
			t.Errorf("triggers on %s (-want +got):\n%s", node, diff)
		}
	}
	if want := "http://jaeger.example/?session=" + id; after.TraceURL != want || len(after.UnreachableNodes) != 0 {
		t.Errorf("traces at %q, unreachable nodes %q; want %q and none", after.TraceURL, after.UnreachableNodes, want)
	}
	for node := range k.nodes {
		_, text := timelineText(t, k.apis[node], id)
		for _, secret := range []string{"s3cret", "low.m3u8", strings.Split(ticket, "/")[1], "token"} {
			if strings.Contains(text, secret) {
				t.Errorf("the timeline by node %d holds %q: %s", node, secret, text)
			}
		}
	}
	if status, text := timelineText(t, k.apis[0], strings.Repeat("0", len(id))); status != http.StatusNotFound {
		t.Errorf("the timeline of a session that nobody holds: %d %s", status, text)
	}
}

// TestNode_Timeline_BackendFailures opens sessions whose backend fails in each way, and repeats the token wherever it can.
func TestNode_Timeline_BackendFailures(t *testing.T) {
	t.Parallel()
	const token = "s3cret-token"
	refused := httptest.NewServer(http.NotFoundHandler())
	refused.Close()
	raw := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, answer)
		}
	}
	tests := map[string]struct {
		middleware http.HandlerFunc // nil: it refuses connections
		wantError  string           // how it begins
	}{
		"connection refused": {nil, "transport: dial tcp 127.0.0.1:"},
		"connection closed":  {raw(""), "transport: EOF"},
		"no HTTP":            {raw(token + " is no HTTP\r\n\r\n"), "malformed: the answer is not HTTP"},
		"a broken header":    {raw("HTTP/1.1 200 OK\r\n" + token + "\r\n\r\n"), "malformed: the answer is not HTTP"},
		"a redirect to itself": {
			func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.String(), http.StatusFound) },
			"malformed: status 302",
		},
		"a failure": {
			func(w http.ResponseWriter, _ *http.Request) { http.Error(w, token, http.StatusBadGateway) }, "status 502",
		},
		"no answer": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timeout"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := refused.URL
			if test.middleware != nil {
				middleware := httptest.NewServer(test.middleware)
				t.Cleanup(middleware.Close)
				address = middleware.URL
			}
			text := settingsFor(address+"/check?key="+token) + fmt.Sprintf("sessions: { denial_ttl: 10m, retry_after: 10m }\nadmin: { listen: %q, token: %q }\n",
				"127.0.0.1:0", apiToken)
			n, viewers, _ := launchNode(t, text, sdktrace.NewTracerProvider())
			api := httptest.NewServer(n.adminHandler())
			t.Cleanup(api.Close)
			get(t, viewers+"/play/a001/low.m3u8?token="+token)
			var ids []string
			n.registry.Each(func(s session.Handle) bool {
				ids = append(ids, s.ID().String())
				return true
			})
			if len(ids) != 1 {
				t.Fatalf("%d sessions, want one", len(ids))
			}
			status, body := timelineText(t, api.URL, ids[0])
			var shown admin.Timeline
			if err := json.Unmarshal([]byte(body), &shown); err != nil {
				t.Fatalf("%d %s: %v", status, body, err)
			}
			if strings.Contains(body, "s3cret") || strings.Contains(body, "check?") || strings.Contains(body, "low.m3u8") {
				t.Errorf("the timeline holds a token or an address: %s", body)
			}
			if len(shown.Checks) == 0 || shown.Checks[0].Trigger != "opening" || shown.Checks[0].Backend != "portal" ||
				!strings.HasPrefix(shown.Checks[0].Error, test.wantError) {
				t.Errorf("got %s, want an opening whose error begins with %q", body, test.wantError)
			}
		})
	}
}
