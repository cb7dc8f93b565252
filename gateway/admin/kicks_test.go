package admin

import (
	"context"
	"errors"
	"reflect"
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
