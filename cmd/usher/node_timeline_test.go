package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/admin"
)

// timelineText returns the body of a session's timeline, by the API of a node.
func (k *kickRig) timelineText(node int, id string) (status int, body string) {
	k.t.Helper()
	request, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, k.apis[node]+"/api/v1/sessions/"+id+"/timeline", nil)
	if err != nil {
		k.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiToken)
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
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
		_, text := k.timelineText(node, id)
		for _, secret := range []string{"s3cret", "low.m3u8", strings.Split(ticket, "/")[1], "token"} {
			if strings.Contains(text, secret) {
				t.Errorf("the timeline by node %d holds %q: %s", node, secret, text)
			}
		}
	}
	if status, text := k.timelineText(0, strings.Repeat("0", len(id))); status != http.StatusNotFound {
		t.Errorf("the timeline of a session that nobody holds: %d %s", status, text)
	}
}
