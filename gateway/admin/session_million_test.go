package admin

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// restingSession is a session that nobody uses.
type restingSession struct {
	session.Handle
	id       backends.SessionID
	request  backends.Request
	decision backends.Decision
}

func (s *restingSession) ID() backends.SessionID       { return s.id }
func (s *restingSession) Request() *backends.Request   { return &s.request }
func (s *restingSession) Decision() *backends.Decision { return &s.decision }
func (s *restingSession) Ticket() session.Ticket       { return session.Ticket{} }
func (s *restingSession) LastSeen() time.Time          { return time.Time{} }
func (s *restingSession) Requests() int64              { return 1 }
func (s *restingSession) Bytes() int64                 { return 1 }

// restingSessions are the sessions of a node.
type restingSessions struct {
	all  []*restingSession
	byID map[backends.SessionID]*restingSession
}

func (n *restingSessions) Checks(backends.SessionID) ([]Check, bool) { return nil, false }

func (n *restingSessions) Len() int { return len(n.all) }

func (n *restingSessions) Find(id backends.SessionID) session.Handle {
	if s := n.byID[id]; s != nil {
		return s
	}
	return nil
}

func (n *restingSessions) Each(yield func(session.Handle) bool) {
	for _, s := range n.all {
		if !yield(s) {
			return
		}
	}
}

// newRestingSessions returns that many sessions, each of a user of its own.
func newRestingSessions(count int) *restingSessions {
	n := &restingSessions{byID: map[backends.SessionID]*restingSession{}}
	for i := range count {
		text := fmt.Sprintf("session %08d", i)
		s := &restingSession{id: backends.SessionID([]byte(text)), decision: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, User: fmt.Sprintf("user-%d", i), Reason: "backend answered 200"}}
		s.request = backends.Request{Route: "/play/{channel}/*", Channel: "a001", Backend: "portal", UserAgent: "MAG250", Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
		n.all, n.byID[s.id] = append(n.all, s), s
	}
	return n
}

// BenchmarkAnswerSessionQuery is what one refresh of the live page costs a node with a million sessions.
func BenchmarkAnswerSessionQuery(b *testing.B) {
	n := newRestingSessions(1_000_000)
	ids := []string{}
	for _, s := range n.all[:50] {
		ids = append(ids, s.id.String())
	}
	for name, q := range map[string]sessionQuery{
		"the first page":   {Kind: listQueryKind, Limit: 50},
		"a search":         {Kind: listQueryKind, Limit: 50, Filter: Filter{Query: "user-77777"}},
		"a count":          {Kind: countQueryKind, Limit: 1},
		"the visible rows": {Kind: lookupQueryKind, IDs: ids, Limit: maxLookup},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			asked := encode(q)
			for b.Loop() {
				var a nodeSessions
				if err := json.Unmarshal(AnswerSessionQuery(b.Context(), n, nil, asked), &a); err != nil || name != "a count" && len(a.Sessions) == 0 {
					b.Fatalf("%d sessions: %v", len(a.Sessions), err)
				}
			}
		})
	}
}
