package admin

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
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
	// Address is where it is asked, without password and query; empty: nowhere, or nobody knows.
	Address string `json:"address,omitempty"`
	// Alarms is what it does outside its contract, by the alarm's name; nil: nobody watches for that. One that is
	// missing was never raised.
	Alarms map[string]AlarmState `json:"alarms,omitempty"`
}

// AlarmState is how often an alarm was raised since the start, and whether it holds at present.
type AlarmState struct {
	Count  uint64 `json:"count"`
	Raised bool   `json:"raised"`
}

// Node is what the listener shows of the node.
type Node interface {
	// Ready reports whether balancers may send viewers here.
	Ready() bool
	// Sessions calls yield for every live session until it returns false, and Len counts them.
	Sessions(yield func(Session) bool)
	Len() int
	Backends() []Backend
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// Handler serves the admin listener.
func Handler(c Config, n Node) http.Handler {
	h := &handler{token: []byte(c.Token.Reveal()), node: n}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", metrics(n))
	mux.Handle("GET /api/v1/sessions", h.guard(h.sessions))
	mux.Handle("GET /api/v1/sessions/{id}", h.guard(h.session))
	mux.Handle("GET /api/v1/backends", h.guard(h.backends))
	return mux
}

type handler struct {
	token []byte
	node  Node
}

// say answers in one line.
func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// show answers in JSON.
func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
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

// sessions lists sessions: ?channel= ?route= ?backend= ?user= ?verdict= ?source= ?limit=. user is the name or the id.
func (h *handler) sessions(w http.ResponseWriter, r *http.Request) {
	query, limit := r.URL.Query(), defaultLimit
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			say(w, http.StatusBadRequest, "limit: want 1 to "+strconv.Itoa(maxLimit))
			return
		}
		limit = n
	}
	list := struct {
		Total    int       `json:"total"`   // live on this node
		Matched  int       `json:"matched"` // of them, those asked for
		Sessions []Session `json:"sessions"`
	}{Total: h.node.Len(), Sessions: []Session{}}
	wanted := filterOf(query)
	h.node.Sessions(func(s Session) bool {
		if wanted.matches(&s) {
			list.Matched++
			if len(list.Sessions) < limit {
				list.Sessions = append(list.Sessions, s)
			}
		}
		return r.Context().Err() == nil
	})
	show(w, list)
}

// filter is what a session must be to be listed; empty: anything.
type filter struct{ channel, route, backend, user, verdict, source string }

func filterOf(q url.Values) filter {
	return filter{
		channel: q.Get("channel"), route: q.Get("route"), backend: q.Get("backend"),
		user: q.Get("user"), verdict: q.Get("verdict"), source: q.Get("source"),
	}
}

func (f *filter) matches(s *Session) bool {
	is := func(want, value string) bool { return want == "" || want == value }
	return is(f.channel, s.Channel) && is(f.route, s.Route) && is(f.backend, s.Backend) &&
		(is(f.user, s.User) || is(f.user, s.UserID)) && is(f.verdict, s.Verdict) && is(f.source, s.Source)
}

func (h *handler) session(w http.ResponseWriter, r *http.Request) {
	var found *Session
	h.node.Sessions(func(s Session) bool {
		if s.ID == r.PathValue("id") {
			found = &s
		}
		return found == nil
	})
	if found == nil {
		say(w, http.StatusNotFound, "no live session of that id on this node")
		return
	}
	show(w, found)
}

func (h *handler) backends(w http.ResponseWriter, _ *http.Request) {
	show(w, struct {
		Backends []Backend `json:"backends"`
	}{h.node.Backends()})
}
