package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"usher/backends"
	"usher/gateway/admin/access"
	"usher/gateway/admin/breakers"
)

const (
	// defaultForced is for how long a breaker is forced unless the request says otherwise.
	defaultForced = 10 * time.Minute
	// orderAttempts is how often the nodes are asked to apply an order within queryTimeout each: a message may be lost with a
	// connection.
	orderAttempts = 2
	// probeWait is how long the replies to a probe are awaited.
	probeWait = 5 * time.Second
)

// Forced is what an operator forced a breaker to be.
type Forced struct {
	// State is open (no check is sent) or closed (every check is sent).
	State  string    `json:"state"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
	// By is who forced it.
	By string `json:"by,omitempty"`
}

// NewForced returns an order as the API shows it; nil: none holds.
func NewForced(order backends.ForcedBreaker) *Forced {
	if !order.IsForced {
		return nil
	}
	return &Forced{State: order.State.String(), Until: order.Until.UTC().Truncate(time.Second), Reason: order.Reason, By: order.By}
}

// ForceResult is the response to an order on a breaker.
type ForceResult struct {
	Backend string `json:"backend"`
	// Forced is absent if the breaker has its own state again.
	Forced *Forced `json:"forced,omitempty"`
	// Nodes are those on which the order holds, and NotForced those on which it does not yet, with the reason. A live one has it
	// with its next heartbeat, and one that is away once it is back.
	Nodes     []string          `json:"nodes"`
	NotForced map[string]string `json:"not_forced,omitempty"`
}

// ProbeResult is the response to a probe.
type ProbeResult struct {
	Probes           []breakers.Probe `json:"probes"`
	UnreachableNodes []string         `json:"unreachable_nodes,omitempty"`
}

// findBreaker returns the backend that a request names, if it has a breaker.
func (h *handler) findBreaker(r *http.Request) (backend string, err error) {
	backend = r.PathValue("name")
	if h.Breakers == nil {
		return backend, fmt.Errorf("backend %q: %w: %w", backend, errNotFound, breakers.ErrUnknownBackend)
	}
	switch err := h.Breakers.HasBreaker(backend); {
	case errors.Is(err, breakers.ErrUnknownBackend):
		return backend, fmt.Errorf("backend %q: %w: %w", backend, errNotFound, err)
	case err != nil:
		return backend, fmt.Errorf("backend %q: %w: %w", backend, errInvalidInput, err)
	}
	return backend, nil
}

// forceRequest is the body of an order on a breaker.
type forceRequest struct {
	// State is open, closed or auto.
	State    string `json:"state"`
	Duration string `json:"duration"`
	Reason   string `json:"reason"`
}

// parseOrder returns the order of a request.
func parseOrder(w http.ResponseWriter, r *http.Request, backend string) (order backends.ForcedBreaker, err error) {
	var body forceRequest
	if err := decodeBody(w, r, &body); err != nil {
		return order, err
	}
	by, _ := access.FromContext(r.Context())
	order = backends.ForcedBreaker{Backend: backend, IsForced: true, Reason: body.Reason, By: by.Name}
	switch body.State {
	case backends.BreakerOpen.String():
		order.State = backends.BreakerOpen
	case backends.BreakerClosed.String():
	case "auto":
		order.IsForced = false
		if body.Duration != "" {
			return order, fmt.Errorf("duration: %w: state auto has none", errInvalidInput)
		}
	default:
		return order, fmt.Errorf("state: %w: %q; want open, closed or auto", errInvalidInput, body.State)
	}
	duration, err := parseDuration(body.Duration, breakers.MaxForced)
	if duration = cmp.Or(duration, defaultForced); !order.IsForced {
		duration = breakers.MaxForced // as long as what it ends
	}
	order.Until = time.Now().Add(duration)
	return order, errors.Join(err, (&confirmation{Reason: body.Reason}).validate())
}

// forceBreaker forces the breaker of a backend on all nodes, or gives it back its own state.
func (h *handler) forceBreaker(w http.ResponseWriter, r *http.Request) {
	backend, err := h.findBreaker(r)
	if h.refuse(w, r, "force", backend, err) {
		return
	}
	order, err := parseOrder(w, r, backend)
	if h.refuse(w, r, "force", backend, err, (&confirmation{Reason: order.Reason}).attributes()...) {
		return
	}
	if !h.mayChange(w, r, "force", backend, slog.String("reason", order.Reason)) {
		return
	}
	ctx := r.Context()
	order, err = h.Cluster.ForceBreaker(ctx, order)
	pending := asPending(err)
	done := ForceResult{Backend: backend, Forced: NewForced(order)}
	var replies map[string][]byte
	for range orderAttempts {
		attempt, cancel := context.WithTimeout(ctx, queryTimeout)
		received, silent := h.Cluster.Ask(attempt, breakers.EncodeForce(order))
		cancel()
		maps.Copy(received, replies)
		replies = received
		if done.NotForced = h.unreached(ctx, Filter{}, replies, silent); len(done.NotForced) == 0 || h.Cluster.RedisDown() {
			break
		}
	}
	held, refused := breakers.MergeForced(replies)
	done.Nodes = append([]string{}, held...)
	maps.Copy(done.NotForced, refused)
	state := "auto"
	if order.IsForced {
		state = order.State.String()
	}
	h.log.Record(r, "force", backend, pending, slog.String("state", state), slog.Time("until", order.Until),
		slog.String("reason", order.Reason), slog.Any("not_forced", done.NotForced))
	if pending != nil && !errors.Is(pending, errPending) {
		writeError(w, pending)
		return
	}
	writeJSON(w, done, pending)
}

// probeBackend has each node send one check to a backend, whatever its breaker says.
func (h *handler) probeBackend(w http.ResponseWriter, r *http.Request) {
	backend, err := h.findBreaker(r)
	if h.refuse(w, r, "probe", backend, err) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), probeWait)
	defer cancel()
	replies, silent := h.Cluster.Ask(ctx, breakers.EncodeProbe(backend))
	done := ProbeResult{Probes: breakers.MergeProbes(replies), UnreachableNodes: silent}
	slices.Sort(done.UnreachableNodes)
	hasAsked := func(p breakers.Probe) bool { return p.Outcome != "" }
	if !slices.ContainsFunc(done.Probes, hasAsked) {
		var why []string
		for _, p := range done.Probes {
			why = append(why, p.Node+": "+p.Error)
		}
		err := fmt.Errorf("backend %q was not asked: %s", backend, strings.Join(why, "; "))
		h.log.Record(r, "probe", backend, err)
		writeText(w, http.StatusConflict, err.Error())
		return
	}
	h.log.Record(r, "probe", backend, nil)
	writeJSON(w, done)
}
