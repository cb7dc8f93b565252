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
	"usher/backends"
)

// maxListBytes bounds the sessions in one node's response. Messages between nodes are at most a megabyte.
const maxListBytes = 512 << 10

// The kinds of query. A count is of the matching sessions alone, and costs a node less than a list. A kick ends them. A
// timeline is of the session whose id the filter names.
const (
	listQueryKind     = "sessions"
	countQueryKind    = "count"
	kickQueryKind     = "kick"
	timelineQueryKind = "timeline"
)

// sessionQuery is the query that a node sends to all nodes.
type sessionQuery struct {
	Kind   string `json:"ask"`
	Filter Filter `json:"filter"`
	Limit  int    `json:"limit"`
	// Kick is the order of a kick; nil in other queries.
	Kick *kickOrder `json:"kick,omitempty"`
	// IDs are the ids of a lookup; nil in other queries.
	IDs []string `json:"ids,omitempty"`
}

// nodeSessions is the response of one node.
type nodeSessions struct {
	Total   encodedSketch `json:"total"`
	Matched encodedSketch `json:"matched"`
	// Addresses are the subscriber prefixes of the matching sessions, in the response to a count.
	Addresses encodedSketch     `json:"addresses"`
	Sessions  []json.RawMessage `json:"sessions"` // those with the smallest ids, in order
	// HasMore reports that there are others, all after the last of Sessions.
	HasMore bool `json:"more,omitempty"`
}

// encodeQuery returns the query for the sessions of all nodes. Each node responds by [AnswerSessionQuery], and
// mergeSessionLists merges the responses.
func encodeQuery(kind string, f Filter, limit int) []byte {
	return encode(sessionQuery{Kind: kind, Filter: f, Limit: limit})
}

func encode(q sessionQuery) []byte {
	body, err := json.Marshal(q)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings and numbers
	}
	return body
}

// decodeQuery returns a query that this version understands.
func decodeQuery(asked []byte) (q sessionQuery, isKnown bool) {
	d := json.NewDecoder(bytes.NewReader(asked))
	d.DisallowUnknownFields() // a filter with an unknown field would match too much
	err := d.Decode(&q)
	switch q.Kind {
	case listQueryKind, countQueryKind, timelineQueryKind:
		isKnown = q.Kick == nil && q.IDs == nil
	case lookupQueryKind:
		isKnown = q.Kick == nil && len(q.IDs) <= maxLookup
	case kickQueryKind:
		isKnown = q.Kick.isValid(&q.Filter) && q.IDs == nil
	}
	return q, isKnown && err == nil && q.Limit >= 1 && q.Limit <= maxLimit
}

// NodeSessions are the live sessions of a node, and how it reads any session.
type NodeSessions interface {
	Sessions
	// Each calls yield for every session until it returns false.
	Each(yield func(session.Handle) bool)
	// Checks returns what has decided on the session on this node, the oldest first.
	Checks(id backends.SessionID) (checks []Check, found bool)
}

// AnswerSessionQuery returns the response of a node with these sessions to a request of [Cluster.Ask]. It is nil if the
// node does not understand the request, for example one of a newer version, or if ctx ends before the node has read all its
// sessions: then it counts as silent. A filter by credentials names a session that has
// them, so that they do not travel: the node reads them from its sessions or from the store.
func AnswerSessionQuery(ctx context.Context, here NodeSessions, store queryStore, asked []byte) []byte {
	q, isKnown := decodeQuery(asked)
	if !isKnown {
		return nil
	}
	switch q.Kind {
	case lookupQueryKind:
		return answerLookup(here, q.IDs)
	case timelineQueryKind:
		return timelineHere(here, &q.Filter)
	}
	hasCredentials, err := q.Filter.credentialsFilter(ctx, here, store)
	if err != nil {
		return nil
	}
	if q.Kind == kickQueryKind {
		return kickHere(ctx, store, q, func(yield func(session.Handle) bool) {
			here.Each(func(s session.Handle) bool { return !q.Filter.mayMatch(s) || !hasCredentials(s) || yield(s) })
		})
	}
	return answerQuery(ctx, func(yield func(Session, bool) bool) {
		here.Each(func(s session.Handle) bool {
			if q.Kind == countQueryKind && !q.Filter.mayMatch(s) {
				return ctx.Err() == nil
			}
			return yield(NewSession(s), hasCredentials(s))
		})
	}, q)
}

// credentialsFilter returns whether a session's viewer presented the credentials that the filter names. The error says that
// nobody knows them.
func (f *Filter) credentialsFilter(
	ctx context.Context, here Sessions, store sessionStore,
) (hasCredentials func(session.Handle) bool, err error) {
	if f.CredentialsOf == "" {
		return func(session.Handle) bool { return true }, nil
	}
	id, err := backends.ParseSessionID(f.CredentialsOf)
	if err != nil {
		return nil, err
	}
	presented, err := presentedTo(ctx, here, store, id)
	if presented == nil {
		return func(session.Handle) bool { return false }, err
	}
	wanted := presented.Credentials().Parts()
	return func(s session.Handle) bool {
		return len(wanted) > 0 && includesAll(s.Request().Credentials().Parts(), wanted)
	}, nil
}

// includesAll reports whether the parts of a viewer's credentials include all that are wanted. Both are in order.
func includesAll(parts, wanted []string) bool {
	for _, part := range wanted {
		if _, found := slices.BinarySearch(parts, part); !found {
			return false
		}
	}
	return true
}

// answerQuery answers a query. Each of the sessions comes with whether its viewer presented the credentials in the filter. The
// answer is nil if ctx ends before all of them have been read.
func answerQuery(ctx context.Context, sessions iter.Seq2[Session, bool], q sessionQuery) []byte {
	total, matched, addresses, rest := newSketch(sketchSize), newSketch(sketchSize), newSketch(sketchSize), 0
	prefixes := map[uint64]struct{}{} // by their hashes, which are far fewer bytes
	found := smallest[Session]{limit: q.Limit, compare: compareSessionIDs}
	sessions(func(s Session, hasCredentials bool) bool {
		total.add(s.ID)
		if hasCredentials && q.Filter.Matches(&s) {
			matched.add(s.ID)
			if q.Kind == countQueryKind {
				prefixes[hashID(s.prefix().String())] = struct{}{}
			}
			if s.ID > q.Filter.After {
				rest++
				found.add(s)
			}
		}
		return ctx.Err() == nil
	})
	if ctx.Err() != nil {
		return nil // a part would look like all
	}
	for p := range prefixes {
		addresses.addHash(p)
	}
	a := nodeSessions{Total: total.encode(), Matched: matched.encode(), Addresses: addresses.encode()}
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
	m := mergeAnswers(f, answers, silent)
	list := SessionList{Sessions: m.listed(limit)}
	list.HasMore = m.hasMore || len(list.Sessions) < len(m.sessions)
	total, isTotalExact := countUnion(m.totals)
	matched, isMatchedExact := countUnion(m.matches)
	list.Total, list.Matched, list.Approximate = total, matched, !isTotalExact || !isMatchedExact
	list.UnreachableNodes = m.silentNodes(f)
	return list
}

// mergeCounts merges the responses of nodes to a count, as mergeSessionLists does those to a list.
func mergeCounts(f Filter, answers map[string][]byte, silent []string) Impact {
	m := mergeAnswers(f, answers, silent)
	sessions, isExact := countUnion(m.matches)
	addresses, _ := countUnion(m.addresses)
	return Impact{Sessions: sessions, Addresses: addresses, Approximate: !isExact, UnreachableNodes: m.silentNodes(f)}
}

func mergeAnswers(f Filter, answers map[string][]byte, silent []string) *merger {
	m := &merger{sessions: map[string]*Session{}, silent: slices.Clone(silent)}
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if f.Node == "" || f.Node == node {
			m.add(node, answers[node])
		}
	}
	return m
}

// silentNodes returns the names of the nodes that did not answer and whose sessions may match.
func (m *merger) silentNodes(f Filter) []string {
	if f.Node != "" {
		m.silent = slices.DeleteFunc(m.silent, func(node string) bool { return node != f.Node })
	}
	slices.Sort(m.silent)
	return slices.Compact(m.silent)
}

// merger collects the responses of nodes.
type merger struct {
	totals, matches, addresses []encodedSketch
	sessions                   map[string]*Session
	// last is the id up to which all nodes have listed their sessions; empty means that every list is complete.
	last string
	// hasMore reports that a node holds others.
	hasMore bool
	silent  []string
}

// add adds the response of one node.
func (m *merger) add(node string, body []byte) {
	a, sessions, err := decodeNodeSessions(body)
	if err != nil {
		m.silent = append(m.silent, node)
		return
	}
	m.totals, m.matches = append(m.totals, a.Total), append(m.matches, a.Matched)
	m.addresses = append(m.addresses, a.Addresses)
	for _, s := range sessions {
		mergeSession(m.sessions, s, node)
	}
	m.hasMore = m.hasMore || a.HasMore
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
