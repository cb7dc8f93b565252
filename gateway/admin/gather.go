package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// maxAnswerBytes bounds the sessions of one node's answer, so that it fits between nodes, which carry a megabyte.
const maxAnswerBytes = 512 << 10

// askSessions is the one question there is so far.
const askSessions = "sessions"

// question is what a node asks all.
type question struct {
	Ask    string `json:"ask"`
	Filter Filter `json:"filter"`
	Limit  int    `json:"limit"`
}

// answer is what one says.
type answer struct {
	Total    shownSketch       `json:"total"`
	Matched  shownSketch       `json:"matched"`
	Sessions []json.RawMessage `json:"sessions"` // by their ids, the smallest
	// More: there are others, all after the last of Sessions.
	More bool `json:"more,omitempty"`
}

// EncodeSessionQuery is how a node asks all nodes for their sessions. [AnswerSessionQuery] is what each node answers, and the answers are for [MergeSessionLists].
func EncodeSessionQuery(f Filter, limit int) []byte {
	body, err := json.Marshal(question{Ask: askSessions, Filter: f, Limit: limit})
	if err != nil {
		panic("BUG: " + err.Error()) // strings and numbers
	}
	return body
}

// AnswerSessionQuery is what the node answers to [EncodeSessionQuery]; nil if it does not understand it, as one of a newer version's.
func AnswerSessionQuery(ctx context.Context, n LocalNode, asked []byte) []byte {
	var q question
	d := json.NewDecoder(bytes.NewReader(asked))
	d.DisallowUnknownFields() // a filter that is not understood would match too much
	if err := d.Decode(&q); err != nil || q.Ask != askSessions || q.Limit < 1 || q.Limit > maxLimit {
		return nil
	}
	total, matched, rest := newSketch(), newSketch(), 0
	found := smallest[Session]{most: q.Limit, compare: bySessionID}
	n.EachSession(func(s Session) bool {
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
	a := answer{Total: total.shown(), Matched: matched.shown()}
	size := 0
	for _, s := range found.sorted() {
		text, err := json.Marshal(s)
		if err != nil {
			return nil // a year beyond what JSON can say
		}
		if size += len(text); size > maxAnswerBytes {
			break
		}
		a.Sessions = append(a.Sessions, text)
	}
	a.More = len(a.Sessions) < rest
	body, err := json.Marshal(a)
	if err != nil {
		panic("BUG: " + err.Error()) // what was marshalled already, and numbers
	}
	return body
}

func bySessionID(a, b Session) int { return cmp.Compare(a.ID, b.ID) }

// MergeSessionLists puts the answers of nodes, by their names, together: a session that several nodes hold is one, its counters
// summed. What it stands on is what the node says that saw it last. Nodes whose answers cannot be read are silent too.
func MergeSessionLists(f Filter, limit int, answers map[string][]byte, silent []string) SessionList {
	found := SessionList{Sessions: []Session{}, Silent: slices.Clone(silent)}
	var totals, matches []shownSketch
	merged, last := map[string]*Session{}, ""
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		if f.Node != "" && f.Node != node {
			continue
		}
		a, sessions, err := readAnswer(answers[node])
		if err != nil {
			found.Silent = append(found.Silent, node)
			continue
		}
		totals, matches = append(totals, a.Total), append(matches, a.Matched)
		for _, s := range sessions {
			mergeSession(merged, s, node)
		}
		// Beyond the last that a node names, it may hold more of the sessions that others name.
		if end := len(sessions); a.More && end > 0 && (last == "" || sessions[end-1].ID < last) {
			last = sessions[end-1].ID
		}
	}
	for _, id := range slices.Sorted(maps.Keys(merged)) {
		if len(found.Sessions) == limit || last != "" && id > last {
			break
		}
		found.Sessions = append(found.Sessions, *merged[id])
	}
	total, exact := together(totals)
	matched, alsoExact := together(matches)
	found.Total, found.Matched, found.Approximate = total, matched, !exact || !alsoExact
	if f.Node != "" {
		found.Silent = slices.DeleteFunc(found.Silent, func(node string) bool { return node != f.Node })
	}
	slices.Sort(found.Silent)
	found.Silent = slices.Compact(found.Silent)
	return found
}

func readAnswer(body []byte) (a answer, sessions []Session, err error) {
	if err := json.Unmarshal(body, &a); err != nil {
		return answer{}, nil, err
	}
	for _, text := range a.Sessions {
		var s Session
		if err := json.Unmarshal(text, &s); err != nil {
			return answer{}, nil, err
		}
		sessions = append(sessions, s)
	}
	return a, sessions, nil
}

// mergeSession adds a node's copy of a session to those of the nodes before it.
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
	if older.Since.Before(newest.Since) {
		newest.Since = older.Since
	}
	merged[s.ID] = &newest
}
