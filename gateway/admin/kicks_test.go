package admin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// TestBanRequest_Parse_KeepsMonotonicClock requires that a step of the wall clock moves the end of no ban.
func TestBanRequest_Parse_KeepsMonotonicClock(t *testing.T) {
	t.Parallel()
	b, err := (&banRequest{User: "17", For: "10m"}).parse(time.Now())
	if end := b.Until.String(); err != nil || !strings.Contains(end, " m=") {
		t.Errorf("the ban ends at %s, %v; want a time with the monotonic clock", end, err)
	}
}

func TestViewer_FilterAndLimit(t *testing.T) {
	t.Parallel()
	presented := &backends.Request{Query: "token=x"}
	id, err := backends.ParseSessionID(anID)
	if err != nil {
		t.Fatal(err)
	}
	ofSession, banOfSession := Filter{ID: anID}, session.Ban{Session: id}
	for name, test := range map[string]struct {
		viewer viewer
		filter Filter
		limit  session.Ban
	}{
		"all is known": {
			viewer{user: "17", backend: "portal", channel: "a001", presented: presented},
			Filter{User: "17", Backend: "portal", Channel: "a001"},
			session.Ban{User: "17", Backend: "portal", Channel: "a001"},
		},
		"the user on a channel": {
			viewer{user: "17", backend: "portal", channel: "a001"},
			Filter{User: "17", Backend: "portal", Channel: "a001"},
			session.Ban{User: "17", Backend: "portal", Channel: "a001"},
		},
		"credentials on a channel": {
			viewer{backend: "portal", channel: "a001", presented: presented},
			Filter{CredentialsOf: anID, Backend: "portal", Channel: "a001"},
			session.Ban{Credentials: "hash of token=x", Backend: "portal", Channel: "a001"},
		},
		"a channel alone":                {viewer{backend: "portal", channel: "a001"}, ofSession, banOfSession},
		"a user on an unknown channel":   {viewer{user: "17", backend: "portal"}, ofSession, banOfSession},
		"credentials, and no channel":    {viewer{backend: "portal", presented: presented}, ofSession, banOfSession},
		"user and credentials, likewise": {viewer{user: "17", presented: presented}, ofSession, banOfSession},
		"nothing":                        {viewer{}, ofSession, banOfSession},
	} {
		test.viewer.id = id
		if got := test.viewer.filter(); got != test.filter {
			t.Errorf("%s: got the filter %+v, want %+v", name, got, test.filter)
		}
		var got session.Ban
		test.viewer.limit(&got, new(fakeCluster).Credentials)
		if !reflect.DeepEqual(got, test.limit) {
			t.Errorf("%s: got the ban %+v, want %+v", name, got, test.limit)
		}
	}
}

// leaseStore is a cluster whose store answers as set, and counts how often it is asked.
type leaseStore struct {
	fakeCluster
	result session.LeaseResult
	err    error
	reads  int
}

func (s *leaseStore) AcquireLease(context.Context, session.LeaseRequest) (session.LeaseResult, error) {
	s.reads++
	return s.result, s.err
}

// openedHandle is a live session that was opened at a time.
type openedHandle struct {
	*fakeHandle
	opened time.Time
}

func (h openedHandle) Ticket() session.Ticket { return session.Ticket{Opened: h.opened} }

// oneSession holds one live session, or none.
type oneSession struct{ session session.Handle }

func (n oneSession) Len() int { return 1 }

func (n oneSession) Find(backends.SessionID) session.Handle { return n.session }

// TestHandler_FindViewer joins what this node, the store and another node know of a viewer. The store is asked only for what is
// not known here.
func TestHandler_FindViewer(t *testing.T) {
	t.Parallel()
	early, late := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	withTicket := &backends.Request{Channel: "a001", Backend: "portal"}
	withToken := &backends.Request{Channel: "a001", Backend: "portal", Query: "token=x"}
	ann, bob := &backends.Decision{UserID: "17", User: "Ann"}, backends.Decision{UserID: "18"}
	handle := func(r *backends.Request, d *backends.Decision) session.Handle {
		return openedHandle{&fakeHandle{request: *r, decision: d}, early}
	}
	stored := func(r *backends.Request, d backends.Decision, opened time.Time) session.LeaseResult {
		return session.LeaseResult{Found: true, Record: session.Record{Request: r, Decision: d, Opened: opened}}
	}
	elsewhere := SessionList{Matched: 1, Sessions: []Session{{ID: anID, UserID: "19", User: "Cem", Backend: "portal", Channel: "a003"}}}
	for name, test := range map[string]struct {
		here      session.Handle
		store     session.LeaseResult
		storeErr  error
		elsewhere SessionList
		want      viewer
		token     string // of the request with credentials
		reads     int
		err       error
	}{
		"all is known here": {
			here: handle(withToken, ann), store: stored(withToken, bob, late),
			want: viewer{user: "17", backend: "portal", channel: "a001", opened: early}, token: "token=x",
		},
		"here without credentials": {
			here: handle(withTicket, ann), store: stored(withToken, bob, late), reads: 1,
			want: viewer{user: "17", backend: "portal", channel: "a001", opened: late}, token: "token=x",
		},
		"here undecided": {
			here: handle(withToken, nil), store: stored(withTicket, *ann, time.Time{}), reads: 1,
			want: viewer{user: "17", backend: "portal", channel: "a001", opened: early}, token: "token=x",
		},
		"neither here nor in the store with credentials": {
			here: handle(withTicket, ann), store: stored(withTicket, bob, late), reads: 1,
			want: viewer{user: "17", backend: "portal", channel: "a001", opened: late},
		},
		"in the store": {
			store: stored(withToken, *ann, late), reads: 1,
			want: viewer{user: "17", backend: "portal", channel: "a001", opened: late}, token: "token=x",
		},
		"on another node": {elsewhere: elsewhere, reads: 1, want: viewer{user: "19", backend: "portal", channel: "a003"}},
		"on another node, and the store fails": {
			storeErr: backends.ErrStoreUnavailable, elsewhere: elsewhere, reads: 1,
			want: viewer{user: "19", backend: "portal", channel: "a003"},
		},
		"nowhere":                  {reads: 1, err: errNotFound},
		"nowhere, the store fails": {reads: 1, storeErr: backends.ErrStoreUnavailable, err: errNotFound},
		"half an answer, the store fails": {
			store: stored(withToken, *ann, late), storeErr: backends.ErrStoreUnavailable, reads: 1, err: errNotFound,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &leaseStore{fakeCluster: fakeCluster{found: test.elsewhere}, result: test.store, err: test.storeErr}
			h := &handler{Options: Options{Sessions: oneSession{test.here}, Cluster: store}}
			got, err := h.findViewer(t.Context(), backends.SessionID{})
			if !errors.Is(err, test.err) || store.reads != test.reads {
				t.Fatalf("error %v after %d reads of the store, want %v after %d", err, store.reads, test.err, test.reads)
			}
			if err != nil {
				return
			}
			token := ""
			if got.presented != nil {
				token = got.presented.Query
			}
			got.presented = nil
			if *got != test.want || token != test.token {
				t.Errorf("got %+v with %q, want %+v with %q", *got, token, test.want, test.token)
			}
		})
	}
}

// countedCluster is two nodes with the same sessions, whose calls end with their ctx, as those of Redis do. One of them may be too busy to
// read its sessions.
type countedCluster struct {
	restingCluster
	busy string
	done []string
}

func newCountedCluster(sessions int, busy string) *countedCluster {
	return &countedCluster{busy: busy, restingCluster: restingCluster{here: newRestingSessions(sessions), recorder: NewRecorder(), live: 2}}
}

func (c *countedCluster) Ask(ctx context.Context, asked []byte) (map[string][]byte, []string) {
	replies := map[string][]byte{}
	for _, name := range []string{"n1", "n2"} {
		ctx, cancel := context.WithCancel(ctx)
		if name == c.busy {
			cancel()
		}
		reply, isAsked := c.recorder.AnswerOverviewQuery(asked)
		if !isAsked {
			reply = AnswerSessionQuery(ctx, c.here, nil, asked)
		}
		replies[name] = reply
		cancel()
	}
	return replies, nil
}

func (c *countedCluster) Nodes(ctx context.Context) ([]session.NodeInfo, error) {
	return nil, ctx.Err()
}

func (c *countedCluster) Credentials(*backends.Request) string { return "" }

func (c *countedCluster) AcquireLease(ctx context.Context, _ session.LeaseRequest) (session.LeaseResult, error) {
	return session.LeaseResult{}, ctx.Err()
}

func (c *countedCluster) Ban(ctx context.Context, b session.Ban) (session.Ban, error) {
	c.done = append(c.done, "ban")
	return b, ctx.Err()
}

func (c *countedCluster) Kick(
	ctx context.Context, _ backends.SessionID, _ time.Time, b session.Ban, _ *backends.Request,
) (session.Ban, error) {
	c.done = append(c.done, "kick")
	return b, ctx.Err()
}

func (c *countedCluster) Unban(ctx context.Context, _ string) (bool, error) {
	c.done = append(c.done, "unban")
	return true, ctx.Err()
}

// request sends a request to a listener of the cluster and returns the response and the log.
func (c *countedCluster) request(t *testing.T, ctx context.Context, method, path, body string) (got *httptest.ResponseRecorder, log string) { //nolint:revive // t comes first
	t.Helper()
	var logged bytes.Buffer
	r := httptest.NewRequestWithContext(ctx, method, "/api/v1/"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	got = httptest.NewRecorder()
	newHandler(t, Config{Token: token}, Options{
		Sessions: c.here, Cluster: c, Recorder: c.recorder, Ready: c.Ready, KickDuration: time.Minute,
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	}).ServeHTTP(got, r)
	return got, logged.String()
}

// TestHandler_CallerLeaves makes a change, or refuses it, as if the caller had stayed.
func TestHandler_CallerLeaves(t *testing.T) {
	t.Parallel()
	left, leave := context.WithCancel(t.Context())
	leave()
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		done               []string
		audited            string
	}{
		"a ban of too many":     {"POST", "bans", `{"address":"10.0.0.0/8","duration":"1h"}`, 409, nil, "nothing is done"},
		"a ban as expected":     {"POST", "bans", `{"address":"10.0.0.0/8","duration":"1h","expect":500}`, 200, []string{"ban"}, "result=done sessions=500"},
		"a kick of a session":   {"POST", "sessions/SESSION/kick", "", 200, []string{"kick"}, "result=done sessions=1"},
		"a kick of a user":      {"POST", "kick", `{"user":"user-7"}`, 200, []string{"ban"}, "result=done sessions=1"},
		"a kick of too many":    {"POST", "kick", `{"channel":"a001"}`, 409, nil, "nothing is done"},
		"the end of a ban":      {"DELETE", "bans/b1", "", 200, []string{"unban"}, "result=done"},
		"a dry run of many":     {"POST", "bans", `{"address":"10.0.0.0/8","duration":"1h","dry_run":true}`, 200, nil, ""},
		"a ban of nobody's id":  {"POST", "bans", `{"credentials_of":"` + anID + `","duration":"1h"}`, 404, nil, "not found"},
		"a kick of nobody's id": {"POST", "sessions/" + anID + "/kick", "", 404, nil, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCountedCluster(500, "")
			got, log := c.request(t, left, test.method, strings.ReplaceAll(test.path, "SESSION", c.here.all[0].id.String()), test.body)
			if got.Code != test.status || !slices.Equal(c.done, test.done) {
				t.Errorf("got %d %s, did %q; want %d and %q", got.Code, got.Body, c.done, test.status, test.done)
			}
			if !strings.Contains(log, test.audited) || (log == "") != (test.audited == "") {
				t.Errorf("audited %q, want %q", log, test.audited)
			}
		})
	}
}

// TestHandler_BusyNode_Named takes no part of a node's sessions for all of them.
func TestHandler_BusyNode_Named(t *testing.T) {
	t.Parallel()
	const ban = `{"address":"10.0.0.0/8","duration":"1h","expect":1}`
	for name, test := range map[string]struct {
		busy, method, path, body string
		status                   int
		want                     string // in the body
	}{
		"a list":                       {"n2", "GET", "sessions", "", 200, `"unreachable_nodes":["n2"]`},
		"a list of its own":            {"n1", "GET", "sessions", "", 200, `"unreachable_nodes":["n1"]`},
		"an overview":                  {"n2", "GET", "overview", "", 200, `"unreachable_nodes":["n2"]`},
		"a ban":                        {"n2", "POST", "bans", ban, 409, "it would hit 50 sessions from 50 addresses; nodes that did not respond: n2"},
		"a ban of its own":             {"n1", "POST", "bans", ban, 503, "this node could not count the sessions"},
		"a dry run":                    {"n1", "POST", "bans", strings.Replace(ban, "{", `{"dry_run":true,`, 1), 503, "this node could not count the sessions"},
		"a kick of its own":            {"n1", "POST", "kick", `{"user":"user-7"}`, 503, "this node could not count the sessions"},
		"a kick of another":            {"n1", "POST", "kick", `{"user":"user-7","node":"n2","dry_run":true}`, 200, `"sessions":1`},
		"a kick of its sessions alone": {"n2", "POST", "kick", `{"node":"n2"}`, 503, "node n2 could not count its sessions"},
		"a dry run of them":            {"n2", "POST", "kick", `{"node":"n2","dry_run":true}`, 503, "node n2 could not count its sessions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCountedCluster(50, test.busy)
			got, log := c.request(t, t.Context(), test.method, test.path, test.body)
			if got.Code != test.status || !strings.Contains(got.Body.String(), test.want) || len(c.done) > 0 {
				t.Errorf("got %d %s, did %q; want %d with %s", got.Code, got.Body, c.done, test.status, test.want)
			}
			if isRefused := test.status == 503; isRefused != (strings.Contains(log, "result=\"") && strings.Contains(log, "could not count")) {
				t.Errorf("audited %q", log)
			}
		})
	}
}
