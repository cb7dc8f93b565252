package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"

	"usher/actors/session"
)

// maxListBytes bounds the sessions in one node's response. Messages between nodes are at most a megabyte.
const maxListBytes = 512 << 10

// sessionQueryKind is the only kind of query.
const sessionQueryKind = "sessions"

// sessionQuery is the query that a node sends to all nodes.
type sessionQuery struct {
	Kind   string `json:"ask"`
	Filter Filter `json:"filter"`
	Limit  int    `json:"limit"`
}

// nodeSessions is the response of one node.
type nodeSessions struct {
	Total    encodedSketch     `json:"total"`
	Matched  encodedSketch     `json:"matched"`
	Sessions []json.RawMessage `json:"sessions"` // those with the smallest ids, in order
	// HasMore reports that there are others, all after the last of Sessions.
	HasMore bool `json:"more,omitempty"`
}

// encodeSessionQuery returns the query for the sessions of all nodes. Each node responds by [AnswerSessionQuery], and
// mergeSessionLists merges the responses.
func encodeSessionQuery(f Filter, limit int) []byte {
	body, err := json.Marshal(sessionQuery{Kind: sessionQueryKind, Filter: f, Limit: limit})
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings and numbers
	}
	return body
}

// AnswerSessionQuery returns the response of a node with these sessions to a request of [Cluster.Ask]. It is nil if the
// node does not understand the request, for example one of a newer version.
func AnswerSessionQuery(ctx context.Context, sessions iter.Seq[session.Handle], asked []byte) []byte {
	return answerQuery(ctx, func(yield func(Session) bool) {
		sessions(func(s session.Handle) bool { return yield(NewSession(s)) })
	}, asked)
}

func answerQuery(ctx context.Context, sessions iter.Seq[Session], asked []byte) []byte {
	var q sessionQuery
	d := json.NewDecoder(bytes.NewReader(asked))
	d.DisallowUnknownFields() // a filter with an unknown field would match too much
	if err := d.Decode(&q); err != nil || q.Kind != sessionQueryKind || q.Limit < 1 || q.Limit > maxLimit {
		return nil
	}
	total, matched, rest := newSketch(), newSketch(), 0
	found := smallest[Session]{limit: q.Limit, compare: compareSessionIDs}
	sessions(func(s Session) bool {
		total.add(s.ID)
		if q.Filter.Matches(&s) {
			matched.add(s.ID)
			if s.ID > q.Filter.After {
				rest++
				found.add(s)
			}
		}
		return ctx.Err() == nil
	})
	a := nodeSessions{Total: total.encode(), Matched: matched.encode()}
	size := 0
	for _, s := range found.sorted() {
		text, err := json.Marshal(s)
		if err != nil {
			return nil // a time whose year JSON cannot express
		}
		if size += len(text); size > maxListBytes {
			break
		}
		a.Sessions = append(a.Sessions, text)
	}
	a.HasMore = len(a.Sessions) < rest
	body, err := json.Marshal(a)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only marshalled JSON and numbers
	}
	return body
}

func compareSessionIDs(a, b Session) int { return cmp.Compare(a.ID, b.ID) }

// mergeSessionLists merges the responses of nodes, by the nodes' names. A session that several nodes hold is listed once,
// with the sum of its counters and the decision of the node that saw it last. A node with an unreadable response counts
// as silent, too.
func mergeSessionLists(f Filter, limit int, answers map[string][]byte, silent []string) SessionList {
	m := merger{sessions: map[string]*Session{}, silent: slices.Clone(silent)}
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if f.Node == "" || f.Node == node {
			m.add(node, answers[node])
		}
	}
	list := SessionList{Sessions: m.listed(limit)}
	total, isTotalExact := countUnion(m.totals)
	matched, isMatchedExact := countUnion(m.matches)
	list.Total, list.Matched, list.Approximate = total, matched, !isTotalExact || !isMatchedExact
	if f.Node != "" {
		m.silent = slices.DeleteFunc(m.silent, func(node string) bool { return node != f.Node })
	}
	slices.Sort(m.silent)
	list.UnreachableNodes = slices.Compact(m.silent)
	return list
}

// merger collects the responses of nodes.
type merger struct {
	totals, matches []encodedSketch
	sessions        map[string]*Session
	// last is the id up to which all nodes have listed their sessions; empty means that every list is complete.
	last   string
	silent []string
}

// add adds the response of one node.
func (m *merger) add(node string, body []byte) {
	a, sessions, err := decodeNodeSessions(body)
	if err != nil {
		m.silent = append(m.silent, node)
		return
	}
	m.totals, m.matches = append(m.totals, a.Total), append(m.matches, a.Matched)
	for _, s := range sessions {
		mergeSession(m.sessions, s, node)
	}
	// Beyond the last session that a node lists, it may hold more of the sessions that other nodes list.
	if end := len(sessions); a.HasMore && end > 0 && (m.last == "" || sessions[end-1].ID < m.last) {
		m.last = sessions[end-1].ID
	}
}

// listed returns the merged sessions in the order of their ids, at most limit, up to the last id that is complete.
func (m *merger) listed(limit int) []Session {
	listed := []Session{}
	for _, id := range slices.Sorted(maps.Keys(m.sessions)) {
		if len(listed) == limit || m.last != "" && id > m.last {
			break
		}
		listed = append(listed, *m.sessions[id])
	}
	return listed
}

func decodeNodeSessions(body []byte) (a nodeSessions, sessions []Session, err error) {
	if err := json.Unmarshal(body, &a); err != nil {
		return nodeSessions{}, nil, err
	}
	for _, text := range a.Sessions {
		var s Session
		if err := json.Unmarshal(text, &s); err != nil {
			return nodeSessions{}, nil, err
		}
		sessions = append(sessions, s)
	}
	return a, sessions, nil
}

// mergeSession merges a node's copy of a session into those of other nodes.
func mergeSession(merged map[string]*Session, s Session, node string) {
	s.Nodes = nil
	if node != "" {
		s.Nodes = []string{node}
	}
	other := merged[s.ID]
	if other == nil {
		merged[s.ID] = &s
		return
	}
	newest, older := *other, s
	if s.LastSeen.After(other.LastSeen) {
		newest, older = s, *other
	}
	newest.Requests, newest.Bytes = s.Requests+other.Requests, s.Bytes+other.Bytes
	newest.Nodes = append(slices.Clone(other.Nodes), s.Nodes...)
	slices.SortFunc(newest.Nodes, strings.Compare)
	if older.Started.Before(newest.Started) {
		newest.Started = older.Started
	}
	merged[s.ID] = &newest
}
