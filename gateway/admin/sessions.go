package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

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

// kickRequest is the body of a request for a kick.
type kickRequest struct {
	// For is how long the session is denied; empty means the configured duration.
	For    string `json:"duration"`
	Reason string `json:"reason"`
}

func (k *kickRequest) parse() (time.Duration, error) {
	d, err := parseDuration(k.For, maxKick)
	return d, errors.Join(err, validateReason(k.Reason))
}

// KickResult is the result of a kick.
type KickResult struct {
	// Matched counts the sessions that match.
	Matched int `json:"matched"`
	// Kicked counts the sessions that were ended.
	Kicked int `json:"kicked"`
	// Silent are the names of the nodes that did not respond.
	Silent []string `json:"unreachable_nodes,omitempty"`
}

func (h *handler) kick(w http.ResponseWriter, r *http.Request) {
	var k kickRequest
	err := decodeBody(w, r, &k)
	if writeError(w, err) {
		return
	}
	d, err := k.parse()
	if writeError(w, err) {
		return
	}
	id, err := backends.ParseSessionID(r.PathValue("id"))
	if err != nil {
		writeError(w, fmt.Errorf("id: %w: %w", errInvalidInput, err))
		return
	}
	err = h.kickSession(r.Context(), id, d, k.Reason)
	h.audit(r, "kick", id.String(), err, slog.String("duration", k.For), slog.String("reason", k.Reason))
	if err != nil && !errors.Is(err, errPending) {
		writeError(w, err)
		return
	}
	writeJSON(w, KickResult{Matched: 1, Kicked: 1}, err)
}

// kickAll ends all matching sessions, one page after the other.
func (h *handler) kickAll(w http.ResponseWriter, r *http.Request) {
	var k struct {
		kickRequest
		Filter
	}
	err := decodeBody(w, r, &k)
	if writeError(w, err) {
		return
	}
	d, err := k.parse()
	if writeError(w, err) {
		return
	}
	if k.IsZero() {
		writeError(w, fmt.Errorf("%w: the filter matches every session; want one of %q or address", errInvalidInput, filterParameters()))
		return
	}
	var done KickResult
	var pending error
	for {
		found := h.findSessions(r.Context(), k.Filter, maxLimit)
		done.Matched, done.Silent = max(done.Matched, found.Matched), found.UnreachableNodes
		if len(found.Sessions) == 0 {
			writeJSON(w, done, pending)
			return
		}
		for _, s := range found.Sessions {
			err := h.kickOne(r, s.ID, d, k.kickRequest)
			if errors.Is(err, errPending) {
				pending, err = err, nil
			}
			if err == nil {
				done.Kicked++
			}
			k.After = s.ID
		}
	}
}

// kickOne ends one of many sessions. Its error does not stop the others: the session may have ended meanwhile.
func (h *handler) kickOne(r *http.Request, target string, d time.Duration, k kickRequest) error {
	id, err := backends.ParseSessionID(target)
	if err == nil {
		err = h.kickSession(r.Context(), id, d, k.Reason)
	}
	h.audit(r, "kick", target, err, slog.String("duration", k.For), slog.String("reason", k.Reason))
	return err
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
