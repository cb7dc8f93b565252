package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"usher/backends"
)

// Timeline is what has decided on a live session, on all nodes that hold it.
type Timeline struct {
	Session string `json:"session"`
	// TraceURL is where the session's traces are shown; empty: the config does not say.
	TraceURL string `json:"trace_url,omitempty"`
	// Checks are in the order of their times, the newest last. The nodes' clocks may differ.
	Checks []Check `json:"checks"`
	// UnreachableNodes are the names of the nodes that did not respond, sorted. What only they know is missing.
	UnreachableNodes []string `json:"unreachable_nodes"`
}

// Check is one check of a session, or another event that decided on it.
type Check struct {
	// Time is when it ended.
	Time time.Time `json:"time"`
	// Node is the name of the node on which it happened; empty without a cluster.
	Node string `json:"node,omitempty"`
	// Trigger is why it was made: opening, recheck, lookup, expiry, revocation, limit, superseded, kick or ban.
	Trigger string `json:"trigger"`
	// Backend is the backend that was asked or could not be; empty: none was needed.
	Backend string `json:"backend,omitempty"`
	// DurationMS is how long the check or the look-up took, in milliseconds.
	DurationMS float64 `json:"duration_ms"`
	Verdict    string  `json:"verdict"`
	Source     string  `json:"source"`
	Reason     string  `json:"reason,omitempty"`
	// Error is why the backend or the store did not answer.
	Error string `json:"error,omitempty"`
	// Count is how many equal checks this one stands for, and Since when the first of them ended. DurationMS is then the
	// longest. Both are left out for a single check.
	Count int       `json:"count,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Omitted is how many checks of this node were left out before this one.
	Omitted int `json:"omitted,omitempty"`
}

// nodeTimeline is the response of one node. It holds no session if Found is false.
type nodeTimeline struct {
	Found  bool    `json:"found"`
	Checks []Check `json:"checks"`
}

// timelineHere answers a query for a timeline.
func timelineHere(here NodeSessions, f *Filter) []byte {
	var a nodeTimeline
	if id, err := backends.ParseSessionID(f.ID); err == nil {
		a.Checks, a.Found = here.Checks(id)
	}
	body, err := json.Marshal(a)
	if err != nil {
		return nil // a time whose year JSON cannot express
	}
	return body
}

// mergeTimelines merges the responses of nodes, by the nodes' names. A node with an unreadable response counts as silent, too.
func mergeTimelines(answers map[string][]byte, silent []string) (t Timeline, found bool) {
	t = Timeline{Checks: []Check{}, UnreachableNodes: append([]string{}, silent...)}
	for _, node := range slices.Sorted(maps.Keys(answers)) {
		var a nodeTimeline
		if err := json.Unmarshal(answers[node], &a); err != nil {
			t.UnreachableNodes = append(t.UnreachableNodes, node)
			continue
		}
		found = found || a.Found
		for _, c := range a.Checks {
			c.Node = node
			t.Checks = append(t.Checks, c)
		}
	}
	slices.SortStableFunc(t.Checks, func(a, b Check) int { return a.Time.Compare(b.Time) })
	slices.Sort(t.UnreachableNodes)
	return t, found
}

// timeline shows what has decided on a session.
func (h *handler) timeline(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	id := r.PathValue("id")
	t, found := mergeTimelines(h.Cluster.Ask(ctx, encodeQuery(timelineQueryKind, Filter{ID: id}, 1)))
	if !found {
		text := "no live session has this id, and one that has closed has no timeline"
		if n := len(t.UnreachableNodes); n > 0 {
			text += fmt.Sprintf("; %d nodes did not respond: %q", n, t.UnreachableNodes)
		}
		writeText(w, http.StatusNotFound, text)
		return
	}
	t.Session, t.TraceURL = id, strings.ReplaceAll(h.traceURL, sessionInURL, url.QueryEscape(id))
	writeJSON(w, t)
}
