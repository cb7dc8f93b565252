package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"usher/actors/session"
	"usher/backends"
)

// sessions lists the matching sessions of all nodes.
func (h *handler) sessions(w http.ResponseWriter, r *http.Request) {
	f, limit, err := parseFilter(r.URL.Query())
	if writeError(w, err) {
		return
	}
	writeJSON(w, h.findSessions(r.Context(), f, limit))
}

func (h *handler) session(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	found := h.findSessions(r.Context(), Filter{ID: id}, 1)
	if len(found.Sessions) == 0 {
		writeText(w, http.StatusNotFound, sessionNotFound(found))
		return
	}
	writeJSON(w, found.Sessions[0])
}

// sessionNotFound returns the text of a 404. It names the nodes that did not respond and may hold the session.
func sessionNotFound(found SessionList) string {
	if len(found.UnreachableNodes) == 0 {
		return "no live session has this id"
	}
	return fmt.Sprintf("no live session has this id; %d nodes did not respond: %q", len(found.UnreachableNodes), found.UnreachableNodes)
}

// nodes lists the nodes, while Redis is unavailable as this one saw them last.
func (h *handler) nodes(w http.ResponseWriter, r *http.Request) {
	nodes, err := h.Cluster.Nodes(r.Context())
	writeJSON(w, NodeList{Nodes: nodes, IsIncomplete: err != nil})
}

// NodeList are the nodes of the cluster.
type NodeList struct {
	Nodes []session.NodeInfo `json:"nodes"`
	// IsIncomplete reports that Redis is unavailable: the nodes are as the one that responds saw them last, without those that
	// started since.
	IsIncomplete bool `json:"incomplete,omitempty"`
}

// lookupQueryKind is the kind of a query for sessions by their ids. It costs a node what these cost, however many sessions it
// has.
const lookupQueryKind = "lookup"

// maxLookup is how many sessions one request may name: more than a page of a list shows.
const maxLookup = 200

// SessionLookup are the live sessions among those that a request names.
type SessionLookup struct {
	// Sessions are in the order of their ids. One that has ended is missing.
	Sessions []Session `json:"sessions"`
	// UnreachableNodes are the names of the nodes that did not respond, sorted. Sessions that only they hold are missing.
	UnreachableNodes []string `json:"unreachable_nodes,omitempty"`
}

// lookup answers a request for the sessions that ?ids= names.
func (h *handler) lookup(w http.ResponseWriter, r *http.Request) {
	ids := strings.Split(r.URL.Query().Get("ids"), ",")
	if len(r.URL.Query()) > 1 || len(ids) > maxLookup {
		writeError(w, fmt.Errorf("ids: %w; want at most %d ids and no other parameter", errInvalidInput, maxLookup))
		return
	}
	for _, id := range ids {
		if _, err := backends.ParseSessionID(id); err != nil {
			writeError(w, fmt.Errorf("ids: %w: %w", errInvalidInput, err))
			return
		}
	}
	writeJSON(w, h.findByID(r.Context(), ids))
}

// findByID returns the sessions of all nodes that have one of the ids.
func (h *handler) findByID(ctx context.Context, ids []string) SessionLookup {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	replies, silent := h.Cluster.Ask(ctx, encode(sessionQuery{Kind: lookupQueryKind, IDs: ids, Limit: maxLookup}))
	m := mergeAnswers(Filter{}, replies, silent)
	return SessionLookup{Sessions: m.listed(maxLookup), UnreachableNodes: m.silentNodes(Filter{})}
}

// answerLookup returns the response of a node to a lookup.
func answerLookup(here Sessions, ids []string) []byte {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	a := nodeSessions{}
	for _, text := range ids {
		id, err := backends.ParseSessionID(text)
		if err != nil {
			return nil // no node sends such a query
		}
		if s := here.Find(id); s != nil {
			shown, err := json.Marshal(NewSession(s))
			if err != nil {
				return nil // a time whose year JSON cannot express
			}
			a.Sessions = append(a.Sessions, shown)
		}
	}
	body, err := json.Marshal(a)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only marshalled JSON
	}
	return body
}
