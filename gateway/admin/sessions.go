package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"usher/backends"
)

// sessions lists the sessions of all nodes that match.
func (h *handler) sessions(w http.ResponseWriter, r *http.Request) {
	f, limit, err := filterOf(r.URL.Query())
	if fail(w, err) {
		return
	}
	found, err := h.cluster.FindSessions(r.Context(), f, limit)
	if fail(w, err) {
		return
	}
	show(w, found)
}

func (h *handler) session(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	found, err := h.cluster.FindSessions(r.Context(), Filter{ID: id}, 1)
	if fail(w, err) {
		return
	}
	if len(found.Sessions) == 0 {
		say(w, http.StatusNotFound, noSession(found))
		return
	}
	show(w, found.Sessions[0])
}

// noSession says that a session was not found, and which nodes may have it all the same.
func noSession(found SessionList) string {
	if len(found.Silent) == 0 {
		return "no live session of that id"
	}
	return fmt.Sprintf("no live session of that id; %d nodes did not answer: %q", len(found.Silent), found.Silent)
}

// kickRequest is what an operator says of a kick.
type kickRequest struct {
	// For is how long the session is refused; empty: as long as the settings say.
	For    string `json:"duration"`
	Reason string `json:"reason"`
}

func (k *kickRequest) check() (time.Duration, error) {
	d, err := span(k.For, longestKick)
	return d, errors.Join(err, checkReason(k.Reason))
}

// KickResult is what became of kicks.
type KickResult struct {
	// Matched is how many sessions were to be ended, and Kicked how many were.
	Matched int `json:"matched"`
	Kicked  int `json:"kicked"`
	// Silent are nodes that did not say whom they have.
	Silent []string `json:"unreachable_nodes,omitempty"`
}

func (h *handler) kick(w http.ResponseWriter, r *http.Request) {
	var k kickRequest
	err := read(w, r, &k)
	if fail(w, err) {
		return
	}
	d, err := k.check()
	if fail(w, err) {
		return
	}
	id, err := backends.ParseSessionID(r.PathValue("id"))
	if err != nil {
		fail(w, fmt.Errorf("id is %w: %w", errInput, err))
		return
	}
	err = h.cluster.Kick(r.Context(), id, d, k.Reason)
	h.audit(r, "kick", id.String(), err, slog.String("duration", k.For), slog.String("reason", k.Reason))
	if err != nil && !errors.Is(err, ErrPending) {
		fail(w, err)
		return
	}
	show(w, KickResult{Matched: 1, Kicked: 1}, err)
}

// kickAll ends all sessions that match, a page after the other.
func (h *handler) kickAll(w http.ResponseWriter, r *http.Request) {
	var k struct {
		kickRequest
		Filter
	}
	err := read(w, r, &k)
	if fail(w, err) {
		return
	}
	d, err := k.check()
	if fail(w, err) {
		return
	}
	if k.IsZero() {
		fail(w, fmt.Errorf("everybody is %w; want one of %q or address", errInput, filterFields()))
		return
	}
	var done KickResult
	var pending error
	for {
		found, err := h.cluster.FindSessions(r.Context(), k.Filter, maxLimit)
		if fail(w, err) {
			return
		}
		done.Matched, done.Silent = max(done.Matched, found.Matched), found.Silent
		if len(found.Sessions) == 0 {
			show(w, done, pending)
			return
		}
		for _, s := range found.Sessions {
			err := h.kickOne(r, s.ID, d, k.kickRequest)
			if errors.Is(err, ErrPending) {
				pending, err = err, nil
			}
			if err == nil {
				done.Kicked++
			}
			k.After = s.ID
		}
	}
}

// kickOne ends one of many sessions. That it has ended by itself meanwhile is no trouble of the others.
func (h *handler) kickOne(r *http.Request, session string, d time.Duration, k kickRequest) error {
	id, err := backends.ParseSessionID(session)
	if err == nil {
		err = h.cluster.Kick(r.Context(), id, d, k.Reason)
	}
	h.audit(r, "kick", session, err, slog.String("duration", k.For), slog.String("reason", k.Reason))
	return err
}

func (h *handler) nodes(w http.ResponseWriter, r *http.Request) {
	nodes, err := h.cluster.Nodes(r.Context())
	if fail(w, err) {
		return
	}
	show(w, struct {
		Nodes []NodeStatus `json:"nodes"`
	}{nodes})
}
