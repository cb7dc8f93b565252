package admin

import (
	"fmt"
	"net/http"

	"usher/actors/session"
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

func (h *handler) nodes(w http.ResponseWriter, r *http.Request) {
	nodes, err := h.Cluster.Nodes(r.Context())
	if writeError(w, asPending(err)) {
		return
	}
	writeJSON(w, struct {
		Nodes []session.NodeInfo `json:"nodes"`
	}{nodes})
}
