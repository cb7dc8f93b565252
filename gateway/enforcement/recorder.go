package enforcement

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
	"usher/gateway/evictions"
)

// Reason is why a viewer would have been refused.
type Reason string

// The reasons besides those of denials, which are the names of what denied: see [DeniedBy].
const (
	// MissingCredential is a credential that the route requires.
	MissingCredential Reason = "missing_credential"
	// NoTicket is a request for media without a ticket or a session.
	NoTicket Reason = "no_ticket"
	// BadTicket is a ticket that is not valid here: altered, or of another channel.
	BadTicket Reason = "bad_ticket"
	// UnknownKey is a ticket of a key that is not among tickets.keys.
	UnknownKey Reason = "unknown_key"
	// Addresses is a ticket used from another address than its own where the route refuses that.
	Addresses Reason = "addresses"
	// Unchecked is a viewer about whom nobody could be asked: an outage under on_failure: keep, or a bound of this node.
	Unchecked Reason = "unchecked"
	// UnlistedEdge, UnreadableCheck and NoRoute are checks of an edge that is not among edge.networks, that cannot be read, or
	// that are for what no route serves.
	UnlistedEdge    Reason = "unlisted_edge"
	UnreadableCheck Reason = "unreadable_check"
	NoRoute         Reason = "no_route"
	// UncleanPath is a viewer's path at an edge with what an origin may read as another path.
	UncleanPath Reason = "unclean_path"
	// Method is a viewer's request at an edge that is neither GET nor HEAD.
	Method Reason = "method"
	// Publish is a publisher at an edge whose route lets nobody publish. It is enforced on every route.
	Publish Reason = "publish"
	// BadReference is a reference that is not valid for its channel and name. It is enforced on every route, since it leads nowhere.
	BadReference Reason = "bad_reference"
)

// DeniedBy returns the reason of a denial.
func DeniedBy(s backends.Source) Reason { return Reason(s.String()) }

// Reasons returns all reasons.
func Reasons() []Reason { return append(waivable(), Publish, BadReference) }

// waivable returns the reasons that routes may leave unenforced.
func waivable() []Reason {
	all := []Reason{
		MissingCredential, NoTicket, BadTicket, UnknownKey, Addresses, Unchecked, UnlistedEdge, UnreadableCheck, NoRoute, UncleanPath,
		Method,
	}
	for s := backends.FromBackend; s <= backends.FromOperator; s++ {
		all = append(all, DeniedBy(s))
	}
	return all
}

const (
	// maxRecorded bounds the sessions and reasons that are remembered, about 100 bytes each.
	maxRecorded = 200_000
	// forgetAfter is how long after its last refusal a session is forgotten, so that it counts again when it comes back.
	forgetAfter = time.Hour
)

// Refusal is what one session would have been refused for.
type Refusal struct {
	Route   string
	Session backends.SessionID
	Reason  Reason
	// Facts are logged with it.
	Facts []slog.Attr
}

// Recorder logs and counts what unenforced routes would have refused. It is safe for concurrent use.
type Recorder struct {
	log      *slog.Logger
	counts   map[string]map[Reason]*atomic.Uint64 // by route; not changed
	recorded *otter.Cache[recorded, struct{}]     // nil: all routes were enforced always
	// evicted counts what recorded gave up.
	evicted *evictions.Counter
}

type recorded struct {
	session backends.SessionID
	reason  Reason
}

// New returns a recorder for the routes with those names.
func New(unenforced []string, log *slog.Logger) *Recorder {
	return (&Recorder{log: log, evicted: new(evictions.Counter)}).For(unenforced)
}

// For returns a recorder for the routes with those names. It shares with this one what is recorded, and what is counted of
// routes that both have.
func (r *Recorder) For(unenforced []string) *Recorder {
	next := &Recorder{log: r.log, recorded: r.recorded, evicted: r.evicted, counts: map[string]map[Reason]*atomic.Uint64{}}
	for _, route := range unenforced {
		if next.counts[route] = r.counts[route]; next.counts[route] != nil {
			continue
		}
		next.counts[route] = map[Reason]*atomic.Uint64{}
		for _, reason := range waivable() {
			next.counts[route][reason] = new(atomic.Uint64)
		}
	}
	if len(unenforced) > 0 && next.recorded == nil {
		next.recorded = otter.Must(&otter.Options[recorded, struct{}]{
			MaximumSize: maxRecorded, ExpiryCalculator: otter.ExpiryAccessing[recorded, struct{}](forgetAfter),
			OnAtomicDeletion: evictions.Of[recorded, struct{}](next.evicted),
		})
	}
	return next
}

// Evicted returns how many refusals were given up for others, and may be counted again.
func (r *Recorder) Evicted() uint64 { return r.evicted.Count() }

// Close stops the background goroutine.
func (r *Recorder) Close() { r.CloseBeside(nil) }

// CloseBeside is Close, unless another recorder goes on with what this one has recorded.
func (r *Recorder) CloseBeside(other *Recorder) {
	if r.recorded != nil && (other == nil || other.recorded != r.recorded) {
		r.recorded.StopAllGoroutines()
	}
}

// Record logs and counts a refusal that is not carried out, unless the session has been for this reason.
func (r *Recorder) Record(f Refusal) {
	counter := r.counts[f.Route][f.Reason]
	if counter == nil { // the route is enforced
		return
	}
	key := recorded{f.Session, f.Reason}
	if _, isKnown := r.recorded.GetIfPresent(key); isKnown {
		return
	}
	if _, isFirst := r.recorded.SetIfAbsent(key, struct{}{}); !isFirst { // another request was faster
		return
	}
	counter.Add(1)
	facts := []any{
		slog.String("route", f.Route), slog.String("session", f.Session.String()), slog.String("reason", string(f.Reason)),
	}
	for _, fact := range f.Facts {
		facts = append(facts, fact)
	}
	r.log.Warn("refusal not enforced", facts...)
}

// Counts returns how many sessions each unenforced route would have refused, by reason.
func (r *Recorder) Counts() map[string]map[Reason]uint64 {
	all := make(map[string]map[Reason]uint64, len(r.counts))
	for route, counters := range r.counts {
		all[route] = map[Reason]uint64{}
		for reason, n := range counters {
			all[route][reason] = n.Load()
		}
	}
	return all
}
