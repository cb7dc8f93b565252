package admin

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/admin/access"
	"usher/gateway/admin/audit"
	"usher/gateway/admin/breakers"
	"usher/gateway/admin/freerides"
	"usher/gateway/admin/overloadstats"
	"usher/gateway/admin/page"
	"usher/gateway/admin/recordstats"
)

// Backend is a backend in the API.
type Backend struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Breaker is closed, half-open or open.
	Breaker string `json:"breaker"`
	// OnFailure is the outage policy: allow, keep or deny.
	OnFailure string `json:"on_failure"`
	// Address is where its checks go, without password and query. It is empty if the backend has none.
	Address string `json:"address,omitempty"`
	// ChecksInFlight and RechecksInFlight are calls that have not been answered, of openings and of running sessions.
	ChecksInFlight   int `json:"checks_in_flight,omitempty"`
	RechecksInFlight int `json:"rechecks_in_flight,omitempty"`
	// ChecksLimit and RechecksLimit are how many calls of each kind may be in flight now: they follow the middleware.
	ChecksLimit   int `json:"checks_limit,omitempty"`
	RechecksLimit int `json:"rechecks_limit,omitempty"`
	// Forced is what an operator forced the breaker to be; nil: it has its own state.
	Forced *Forced `json:"forced,omitempty"`
	// Rates are absent for a backend that calls no middleware.
	Rates *BackendRates `json:"rates,omitempty"`
	// LastFailures are the last failures of its calls, one of each kind, the newest first.
	LastFailures []BackendFailure `json:"last_failures,omitempty"`
	// History are the last changes of the breaker, the newest last.
	History []BreakerChange `json:"history,omitempty"`
	// RechecksWaiting are sessions that wait for a slot of recheck_rate.
	RechecksWaiting int `json:"rechecks_waiting,omitempty"`
	// ContractViolations are its contract violations by the alarm's name. Nil means that the backend has no alarms; a missing
	// alarm was never raised.
	ContractViolations map[string]AlarmState `json:"contract_violations,omitempty"`
}

// BackendRates are averages over the last minute, of this node.
type BackendRates struct {
	ChecksPerSecond   float64 `json:"checks_per_second"`
	FailuresPerSecond float64 `json:"failures_per_second"`
	// DenialsShare is which part of the backend's answers were denials, openings among them.
	DenialsShare float64 `json:"denials_share"`
}

// BackendFailure is the last failure of one kind.
type BackendFailure struct {
	Time time.Time `json:"time"`
	// Outcome is the kind of failure.
	Outcome string `json:"outcome"`
	Error   string `json:"error"`
}

// BreakerChange is a change of a breaker's state.
type BreakerChange struct {
	Time  time.Time `json:"time"`
	State string    `json:"state"`
}

// AlarmState is the state of one alarm.
type AlarmState struct {
	// Count is how often the alarm was raised since the start.
	Count uint64 `json:"count"`
	// Active reports whether the alarm holds at present.
	Active bool `json:"active"`
	// Detail is what raised it last, without a value of an answer.
	Detail string `json:"detail,omitempty"`
}

// Route is a route in the API.
type Route struct {
	Name string `json:"name"`
	// Enforce is false for a route that refuses nobody.
	Enforce bool `json:"enforce"`
	// UnenforcedRefusals are the sessions that such a route would have refused since the start, by reason. All reasons are in
	// it.
	UnenforcedRefusals map[string]uint64 `json:"unenforced_refusals,omitempty"`
	// TooLongURIs is how often a playlist listed a URI that was not written because of tickets.max_uri.
	TooLongURIs uint64 `json:"too_long_uris,omitempty"`
}

// Origin is an origin in the API.
type Origin struct {
	Name string `json:"name"`
	// Addresses are where media is fetched, the preferred one first.
	Addresses []OriginAddress `json:"addresses"`
	// Failures are the last failures that viewers felt, one of each reason, the newest first.
	Failures []OriginFailure `json:"failures,omitempty"`
	// Counters are totals since the start.
	Counters OriginCounters `json:"counters"`
}

// OriginCounters count what an origin was asked.
type OriginCounters struct {
	// Hits are responses from memory that were fresh.
	Hits uint64 `json:"hits"`
	// Fetches are requests to the origin, Coalesced are viewers who joined one in flight, Revalidated are fetches with 304.
	Fetches     uint64 `json:"fetches"`
	Coalesced   uint64 `json:"coalesced"`
	Revalidated uint64 `json:"revalidated"`
	// Stale are responses from an expired copy because the origin failed, Failovers are fetches repeated at another address.
	Stale     uint64 `json:"stale"`
	Failovers uint64 `json:"failovers"`
	Bytes     uint64 `json:"bytes"`
}

// CacheState is the state of the memory that all origins share.
type CacheState struct {
	Entries                         int
	StoredBytes, InFlightBytes, Max int64
	// Evictions counts the responses that made room for others since the start.
	Evictions uint64
}

// OriginAddress is an address of an origin.
type OriginAddress struct {
	// URL has neither password nor query.
	URL string `json:"url"`
	// Ejected reports whether the address is avoided for a while.
	Ejected bool `json:"ejected"`
}

// OriginFailure is the last failure of one reason.
type OriginFailure struct {
	Reason  string `json:"reason"`
	Channel string `json:"channel"`
	// URL is the URL that failed, after redirects, without password and query.
	URL string `json:"url"`
	// Status is the origin's status, 0 if there is none.
	Status int `json:"status,omitempty"`
	// Error says what happened, and Advice what to do.
	Error  string    `json:"error"`
	Advice string    `json:"advice"`
	Time   time.Time `json:"time"`
	// Count is how many requests of viewers failed for the reason since the start.
	Count uint64 `json:"count"`
}

// Sessions are the live sessions of this node. All methods are safe for concurrent use.
type Sessions interface {
	// Find returns the session, or nil.
	Find(id backends.SessionID) session.Handle
	// Len counts the sessions.
	Len() int
}

// Options are the dependencies of the listener. Ready, Warnings and Backends are safe for concurrent use.
type Options struct {
	Sessions Sessions
	Cluster  Cluster
	// Recorder has the metrics of what happens. Nil: none are shown.
	Recorder *Recorder
	// Ready reports whether load balancers may send viewers to this node.
	Ready func() bool
	// Warnings returns what an operator should act on, a line each. Nil: nothing ever.
	Warnings func() []string
	// Backends lists the backends of this node.
	Backends func() []Backend
	// Breakers are the breakers of these backends. Nil: there are none.
	Breakers breakers.Node
	// Routes lists the routes of this node. Nil: none are shown.
	Routes func() []Route
	// Origins lists the origins of this node. Nil: none are shown.
	Origins func() []Origin
	// FreeRides serves the reports of what outages cost. Nil: there are none.
	FreeRides http.Handler
	// Cache returns the state of the memory that all origins share. Nil: it is not shown.
	Cache func() CacheState
	// StoreCalls returns how many calls to the store of sessions are in flight, by what they are for. Nil: none are shown.
	StoreCalls func() map[string]int
	// DroppedSpans returns how many spans of traces could not be sent, by reason. Nil: none are shown.
	DroppedSpans func() map[string]uint64
	// Reload reads the settings of this node anew. Nil: it has no file.
	Reload func() ReloadResult
	// Records returns the numbers of the webhook that takes session records. Nil: none are shown.
	Records func() recordstats.Stats
	// Overload returns what the node does so as not to grow beyond its memory. Nil: it is not shown.
	Overload func() overloadstats.Stats
	// Settings writes the settings that are in effect, as YAML without secrets.
	Settings func(io.Writer) error
	// Replaced is closed when another handler serves in this one's place: open pages end, and connect to the other one. Nil: never.
	Replaced <-chan struct{}
	// KickDuration is how long a kicked session is denied, unless the request says otherwise.
	KickDuration time.Duration
	// Logger receives a record "audit" of every change by an operator. Nil discards it.
	Logger *slog.Logger
	// AuditStream receives the records "audit" too, as JSON lines. Nil: only the log has them.
	AuditStream io.Writer
}

// Handler returns the handler of the admin listener.
func Handler(c Config, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{Options: o, traceURL: c.TraceURL, tokens: access.NewAuthenticator(c.Token, c.Tokens), log: audit.New(o.Logger, o.AuditStream)}
	h.page = h.newPage(c)
	mux := http.NewServeMux()
	h.page.Register(mux)
	for pattern, handle := range h.openEndpoints() {
		mux.Handle(pattern, handle)
	}
	for pattern, e := range h.endpoints() {
		mux.Handle(pattern, h.page.Identify(e.change, h.authorize(e)))
	}
	return mux
}

// openEndpoints returns the operations that need no token by their patterns.
func (h *handler) openEndpoints() map[string]http.Handler {
	return map[string]http.Handler{
		"GET /healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "alive") }),
		"GET /readyz":  http.HandlerFunc(h.ready),
		"GET /metrics": metrics(h.Options),
	}
}

// endpoint is an operation of the API.
type endpoint struct {
	handle http.HandlerFunc
	// hasQuery is set for an operation with parameters in its query. handle finds each of them once there.
	hasQuery bool
	// change is what the audit calls the operation; empty: it changes nothing, and needs the role read.
	change string
	// hasBody is set for a change with a body: its dry run may need the role read alone, and the audit has its reason also of an
	// attempt. Its handler calls mayKickOrBan or mayChange.
	hasBody bool
}

// endpoints returns the operations of the API by their patterns. The document in openapi has each of them.
func (h *handler) endpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET /api/v1/overview":                 {handle: h.overview},
		"GET /api/v1/sessions":                 {handle: h.sessions, hasQuery: true},
		"GET /api/v1/sessions/lookup":          {handle: h.lookup, hasQuery: true},
		"GET /api/v1/sessions/{id}":            {handle: h.session},
		"GET /api/v1/sessions/{id}/timeline":   {handle: h.timeline},
		"POST /api/v1/sessions/{id}/kick":      {handle: h.kick, change: "kick", hasBody: true},
		"DELETE /api/v1/sessions/{id}":         {handle: h.kick, change: "kick", hasBody: true},
		"POST /api/v1/kick":                    {handle: h.kickAll, change: "kick", hasBody: true},
		"GET /api/v1/bans":                     {handle: h.bans},
		"POST /api/v1/bans":                    {handle: h.ban, change: "ban", hasBody: true},
		"DELETE /api/v1/bans/{id}":             {handle: h.unban, change: "unban"},
		"GET /api/v1/nodes":                    {handle: h.nodes},
		"GET /api/v1/backends":                 {handle: h.backends},
		"POST /api/v1/backends/{name}/breaker": {handle: h.forceBreaker, change: "force", hasBody: true},
		"POST /api/v1/backends/{name}/probe":   {handle: h.probeBackend, change: "probe"},
		"GET /api/v1/routes":                   {handle: h.routes},
		"GET /api/v1/origins":                  {handle: h.origins},
		"GET /api/v1/free-rides":               {handle: h.freeRides, hasQuery: true},
		"GET /api/v1/config":                   {handle: h.config},
		"POST /api/v1/reload":                  {handle: h.reload, change: "reload"},
		"GET /api/v1/openapi.json":             {handle: h.document},
	}
}

type handler struct {
	traceURL string // see Config.TraceURL
	Options
	tokens *access.Authenticator
	log    *audit.Log
	page   *page.Page
}

// writeText responds with text, to which it adds the end of its line.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// writeJSON responds with v as JSON. If an error is errPending, the status is 202 and a header explains it.
func writeJSON(w http.ResponseWriter, v any, pending ...error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	for _, err := range pending {
		if errors.Is(err, errPending) {
			w.Header().Set("X-Usher-Pending", errPending.Error())
			w.WriteHeader(http.StatusAccepted)
			break
		}
	}
	_ = encodeJSON(w, v) // it fails only if the client has disconnected
}

func encodeJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// ready responds whether the node is ready; with ?verbose also what an operator should act on. A warning never makes it
// unready.
func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	status, text := http.StatusOK, "ready"
	if !h.Ready() {
		status, text = http.StatusServiceUnavailable, "not ready: starting or draining"
	}
	if h.Warnings != nil && r.URL.Query().Has("verbose") {
		for _, warning := range h.Warnings() {
			text += "\nwarning: " + warning
		}
	}
	writeText(w, status, text)
}

// writeError responds with the error. It does nothing and returns false if err is nil.
func writeError(w http.ResponseWriter, err error) (failed bool) {
	status := http.StatusServiceUnavailable
	switch {
	case err == nil:
		return false
	case errors.Is(err, errNotFound):
		status = http.StatusNotFound
	case errors.Is(err, errInvalid), errors.Is(err, errInvalidInput):
		status = http.StatusBadRequest
	}
	writeText(w, status, err.Error())
	return true
}

// routes lists the routes, with what they would have refused.
func (h *handler) routes(w http.ResponseWriter, _ *http.Request) {
	var all []Route
	if h.Routes != nil {
		all = h.Routes()
	}
	writeJSON(w, struct {
		Routes []Route `json:"routes"`
	}{all})
}

// freeRides lists what outages cost.
func (h *handler) freeRides(w http.ResponseWriter, r *http.Request) {
	if h.FreeRides == nil {
		writeJSON(w, freerides.List{Reports: []freerides.Report{}})
		return
	}
	h.FreeRides.ServeHTTP(w, r)
}

// origins lists the origins, with why they failed viewers.
func (h *handler) origins(w http.ResponseWriter, _ *http.Request) {
	var all []Origin
	if h.Origins != nil {
		all = h.Origins()
	}
	writeJSON(w, struct {
		Origins []Origin `json:"origins"`
	}{all})
}

func (h *handler) backends(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, struct {
		Backends []Backend `json:"backends"`
	}{h.Backends()})
}
