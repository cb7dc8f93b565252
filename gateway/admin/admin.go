package admin

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// Backend is a backend as the API shows it.
type Backend struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Breaker is closed, half-open or open.
	Breaker string `json:"breaker"`
	// OnFailure is the outage policy: allow, keep or deny.
	OnFailure string `json:"on_failure"`
	// URL is where checks go, without password and query; empty for a backend that asks no middleware.
	URL string `json:"url,omitempty"`
	// Alarms is what it does outside its contract, by the alarm's name; nil: nobody watches for that. One that is
	// missing was never raised.
	Alarms map[string]AlarmState `json:"contract_violations,omitempty"`
}

// AlarmState is how often an alarm was raised since the start, and whether it holds at present.
type AlarmState struct {
	Count  uint64 `json:"count"`
	Active bool   `json:"active"`
}

// LocalNode is what the listener shows of the node.
type LocalNode interface {
	// Ready reports whether balancers may send viewers here.
	Ready() bool
	// EachSession calls yield for every live session until it returns false, and Len counts them.
	EachSession(yield func(Session) bool)
	Len() int
	Backends() []Backend
}

// Options are what the listener serves.
type Options struct {
	Node LocalNode
	// Cluster is all nodes; nil: the node was started alone, and lists its sessions only.
	Cluster Cluster
	// Logger gets a record "audit" of whatever an operator changes; nil: nobody does.
	Logger *slog.Logger
}

// Handler serves the admin listener.
func Handler(c Config, o Options) http.Handler {
	if o.Cluster == nil {
		o.Cluster = standalone{o.Node}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{token: []byte(c.Token.Reveal()), node: o.Node, cluster: o.Cluster, log: o.Logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", metrics(o.Node, o.Cluster))
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /api/v1/sessions":            h.sessions,
		"GET /api/v1/sessions/{id}":       h.session,
		"POST /api/v1/sessions/{id}/kick": h.kick,
		"DELETE /api/v1/sessions/{id}":    h.kick,
		"POST /api/v1/kick":               h.kickAll,
		"GET /api/v1/bans":                h.bans,
		"POST /api/v1/bans":               h.ban,
		"DELETE /api/v1/bans/{id}":        h.unban,
		"GET /api/v1/nodes":               h.nodes,
		"GET /api/v1/backends":            h.backends,
	} {
		mux.Handle(pattern, h.guard(handle))
	}
	return mux
}

type handler struct {
	token   []byte
	node    LocalNode
	cluster Cluster
	log     *slog.Logger
}

// say answers in one line.
func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// show answers in JSON. What only this node obeys so far is accepted, and a header says so.
func show(w http.ResponseWriter, v any, pending ...error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	for _, err := range pending {
		if errors.Is(err, ErrPending) {
			w.Header().Set("X-Usher-Pending", ErrPending.Error())
			w.WriteHeader(http.StatusAccepted)
			break
		}
	}
	_ = json.NewEncoder(w).Encode(v) // who asked has gone if it fails
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if !h.node.Ready() {
		say(w, http.StatusServiceUnavailable, "not ready: starting or draining")
		return
	}
	say(w, http.StatusOK, "ready")
}

// guard lets through who knows the token.
func (h *handler) guard(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !isBearer || len(h.token) == 0 || subtle.ConstantTimeCompare([]byte(given), h.token) != 1 {
			w.Header().Set("Www-Authenticate", `Bearer realm="usher"`)
			say(w, http.StatusUnauthorized, "the API needs the header Authorization: Bearer <admin.token>")
			return
		}
		next(w, r)
	})
}

// audit notes what an operator changed, or tried to. A token is never part of it.
func (h *handler) audit(r *http.Request, action, target string, err error, attributes ...slog.Attr) {
	result := "done"
	if err != nil {
		result = err.Error()
	}
	all := append([]slog.Attr{
		slog.String("actor", r.RemoteAddr), slog.String("action", action), slog.String("target", target),
		slog.String("result", result),
	}, attributes...)
	h.log.LogAttrs(r.Context(), slog.LevelInfo, "audit", all...)
}

// fail answers with an error of the cluster's, or says that there is none.
func fail(w http.ResponseWriter, err error) (failed bool) {
	status := http.StatusServiceUnavailable
	switch {
	case err == nil:
		return false
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrInvalid), errors.Is(err, errInput):
		status = http.StatusBadRequest
	case errors.Is(err, errAlone):
		status = http.StatusNotImplemented
	}
	say(w, status, err.Error())
	return true
}

func (h *handler) backends(w http.ResponseWriter, _ *http.Request) {
	show(w, struct {
		Backends []Backend `json:"backends"`
	}{h.node.Backends()})
}
