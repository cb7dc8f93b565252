package main

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
	"usher/backends/setting"
	"usher/bench/stage"
	"usher/gateway/ticket"
)

func TestSessionNames_UniqueAndStable(t *testing.T) {
	t.Parallel()
	var names sessionNames
	sessions := []struct{ id, query, want string }{
		{"1", "token=alice", "alice"},
		{"2", "token=alice&x=1", "alice #2"},
		{"3", "x=1&token=alice", "alice #3"},
		{"4", "", "no token"},
		{"5", "token=", "no token #2"},
		{"6", "token=no+token", "no token #3"},
		{"7", "token=alice+%232", "alice #2 #2"},
		{"8", "token=%zz&token=bob", "bob"},
		{"9", "token=" + url.QueryEscape("a\nb\u202ec\x00<b>"), "a\uFFFDb\uFFFDc\uFFFD<b>"},
		{"a", "token=" + strings.Repeat("é", maxNameRunes), strings.Repeat("é", maxNameRunes)},
		{"b", "token=" + strings.Repeat("é", maxNameRunes+1), strings.Repeat("é", maxNameRunes-1) + "…"},
		{"c", "token=" + strings.Repeat("é", maxNameRunes+2), strings.Repeat("é", maxNameRunes-1) + "… #2"},
	}
	for range 2 {
		for _, s := range sessions {
			if got := names.of(s.id, s.query); got != s.want {
				t.Errorf("session %s, query %q: got %q, want %q", s.id, s.query, got, s.want)
			}
		}
	}
	for id := 0; len(names.byID) < maxNames; id++ {
		names.of(strings.Repeat("x", id+1), "token=many")
	}
	if got := names.of("Zr1nB8", "token=bob"); got != "bob #Zr1nB8" || len(names.byID) != maxNames {
		t.Errorf("beyond the bound: got %q, %d names are kept", got, len(names.byID))
	}
}

func TestChanges_Record(t *testing.T) {
	t.Parallel()
	session := func(verdict, source, reason string) []stage.SessionStatus {
		return []stage.SessionStatus{{ID: "1", Name: "alice", Place: "/play/a001", Verdict: verdict, Source: source, Reason: reason}}
	}
	tests := map[string]struct {
		statuses []stage.Status
		want     []string // oldest first
	}{
		"nothing": {[]stage.Status{{Breaker: "closed"}, {Breaker: "closed"}}, nil},
		"a breaker's probes are no news": {
			[]stage.Status{
				{Breaker: "open"}, {Breaker: "half-open"}, {Breaker: "open"}, {Breaker: "half-open"}, {Breaker: "open"}, {Breaker: "closed"},
			},
			[]string{"breaker opened: checks nobody, probes the middleware every 2s", "breaker closed: viewers are checked again"},
		},
		"a mode": {
			[]stage.Status{{Breaker: "closed", Middleware: stage.MiddlewareStatus{Mode: "refuse"}}},
			[]string{"middleware mode: refuse"},
		},
		"a session without a decision, again and again": {
			[]stage.Status{
				{Breaker: "closed", Sessions: session("pending", "none", "")},
				{Breaker: "closed"},
				{Breaker: "closed", Sessions: session("pending", "none", "")},
				{Breaker: "closed"},
			},
			[]string{"2 × alice on /play/a001: session ended without a decision"},
		},
		"a session's life": {
			[]stage.Status{
				{Breaker: "closed", Sessions: session("pending", "none", "")},
				{Breaker: "closed", Sessions: session("allowed", "backend", "backend answered 200")},
				{Breaker: "closed", Sessions: session("allowed", "backend", "backend answered 200")},
				{Breaker: "closed", Sessions: session("allowed", "fail-open", "no answer: transport")},
				{Breaker: "closed", Sessions: session("denied", "operator", "ended by an operator")},
				{Breaker: "closed"},
				{Breaker: "closed"},
				{Breaker: "closed", Sessions: session("denied", "operator", "ended by an operator")},
			},
			[]string{
				"alice on /play/a001: allowed by backend",
				"alice on /play/a001: allowed by fail-open, no answer: transport",
				"alice on /play/a001: denied by operator, ended by an operator",
				"alice on /play/a001: session ended",
				"alice on /play/a001: denied by operator, ended by an operator",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen changes
			var events eventLog
			for _, s := range test.statuses {
				if s.Middleware.Mode == "" {
					s.Middleware.Mode = "healthy"
				}
				seen.record(s, &events)
			}
			var got []string
			for _, e := range slices.Backward(events.list()) {
				if e.Count > 1 {
					e.Text = fmt.Sprintf("%d × %s", e.Count, e.Text)
				}
				got = append(got, e.Text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// demoTicket returns a ticket of a session.
func demoTicket(id backends.SessionID, folder string, depth int) string {
	signer := ticket.NewSigner([]setting.Key{{ID: "demo", Secret: randomSecret()}})
	claims := ticket.Claims{ID: id, Ticket: session.Ticket{Opened: time.Unix(1_700_000_000, 0), KeyID: "demo"}}
	return signer.Sign(claims, ticket.Scope{Route: "/play/{channel}/*", Channel: "a001", Folder: folder, Depth: depth})
}

func TestSessionOfTicket(t *testing.T) {
	t.Parallel()
	id := backends.SessionID([]byte("sixteen bytes id"))
	tests := map[string]struct {
		path string
		want backends.SessionID
	}{
		"a channel's":  {"/~" + demoTicket(id, "", 0) + "/play/a001/low.m3u8", id},
		"a folder's":   {"/~" + demoTicket(id, "hd", 1) + "/play/a001/hd/low.m3u8", id},
		"no ticket":    {"/play/a001/low.m3u8", backends.SessionID{}},
		"no path":      {"", backends.SessionID{}},
		"too short":    {"/~demo.AAAA/play/a001/low.m3u8", backends.SessionID{}},
		"no base64":    {"/~demo.!!!!/play/a001/low.m3u8", backends.SessionID{}},
		"no separator": {"/~demo/play/a001/low.m3u8", backends.SessionID{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := sessionOfTicket(test.path); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func FuzzSessionOfTicket(f *testing.F) {
	f.Add("/~" + demoTicket(backends.SessionID{1}, "", 0) + "/play/a001/low.m3u8")
	f.Add("/~a.b/c")
	f.Add("")
	f.Fuzz(func(t *testing.T, path string) {
		unbroken := strings.NewReplacer("\r", "", "\n", "").Replace(path) // which base64 ignores
		if id := sessionOfTicket(path); !id.IsZero() && !strings.Contains(unbroken, id.String()[:20]) {
			t.Errorf("%q: the session %v is not in it", path, id)
		}
	})
}
