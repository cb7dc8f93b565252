package variants

import (
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/evictions"
)

const (
	// maxGroups bounds the memory: about 200 bytes a group.
	maxGroups = 100_000
	// maxParameters is how many parameters of one opening are suspected. Players add theirs to a handful.
	maxParameters = 16
	// maxCleared bounds the parameters that are known to tell viewers apart. Their names come from viewers.
	maxCleared = 10_000
	// straggle is how long after the next opening a player may still request what an earlier playlist listed.
	straggle = time.Second
)

// Detector counts openings. It is safe for concurrent use.
type Detector struct {
	seed   maphash.Seed
	limit  int
	window time.Duration
	find   func(backends.SessionID) session.Handle
	log    *slog.Logger

	groups *otter.Cache[uint64, *group]
	// cleared are the parameters, by route, whose values got different verdicts or users.
	cleared *otter.Cache[parameter, struct{}]
	// warned are the parameters, by route, that a warning has named.
	warned *otter.Cache[parameter, struct{}]
	// evicted counts what they all gave up.
	evicted evictions.Counter
}

// parameter is a parameter of a route.
type parameter struct{ route, name string }

// group are the openings that differ in one parameter.
type group struct {
	mu       sync.Mutex
	openings []opening // in their order; one more than the limit at most
	// isCleared reports that the parameter tells viewers apart here.
	isCleared bool
	hasAnswer bool
	verdict   backends.Verdict // of the openings
	user      string
}

type opening struct {
	id backends.SessionID
	at time.Time
}

// New makes a detector that refuses openings beyond the limit within the window; zero: never. find returns a live session,
// or nil.
func New(limit int, window time.Duration, find func(backends.SessionID) session.Handle, log *slog.Logger) *Detector {
	d := &Detector{seed: maphash.MakeSeed(), limit: limit, window: window, find: find, log: log}
	d.groups = otter.Must(&otter.Options[uint64, *group]{
		MaximumSize: maxGroups, ExpiryCalculator: otter.ExpiryAccessing[uint64, *group](window),
		OnAtomicDeletion: evictions.Of[uint64, *group](&d.evicted),
	})
	for _, of := range []**otter.Cache[parameter, struct{}]{&d.cleared, &d.warned} {
		*of = otter.Must(&otter.Options[parameter, struct{}]{
			MaximumSize: maxCleared, OnAtomicDeletion: evictions.Of[parameter, struct{}](&d.evicted),
		})
	}
	return d
}

// Evicted returns how many players and parameters were given up for others.
func (d *Detector) Evicted() uint64 { return d.evicted.Count() }

// Close stops the background goroutines. The detector must not be used afterwards.
func (d *Detector) Close() {
	d.groups.StopAllGoroutines()
	d.cleared.StopAllGoroutines()
	d.warned.StopAllGoroutines()
}

// Refuse returns an overload if the opening is one of too many that differ in one parameter. The first time for each route
// and parameter it warns the operator. A nil opening counts never.
func (d *Detector) Refuse(o *Opening, now time.Time) error {
	if o == nil || d.limit == 0 {
		return nil
	}
	for name, key := range o.suspects(d.seed) {
		g, found := d.groups.GetIfPresent(key)
		if !found || d.isCleared(o.Route, name) || !g.isFull(o.Session, d, now) {
			continue
		}
		d.warn(o, name)
		return backends.NewOverload("sessions.max_variants", d.limit)
	}
	return nil
}

// Opened counts an opening that was decided on.
func (d *Detector) Opened(o *Opening, decision *backends.Decision, now time.Time) {
	isAnswer := decision != nil && (decision.Source == backends.FromBackend || decision.Source == backends.FromLocal)
	if o == nil || d.limit == 0 || !isAnswer {
		return
	}
	for name, key := range o.suspects(d.seed) {
		if d.isCleared(o.Route, name) {
			continue
		}
		g, _ := d.groups.ComputeIfAbsent(key, func() (*group, bool) { return new(group), false })
		if g.add(opening{o.Session, now}, decision, d.limit) {
			d.cleared.SetIfAbsent(parameter{o.Route, name}, struct{}{})
		}
	}
}

func (d *Detector) isCleared(route, name string) bool {
	_, found := d.cleared.GetIfPresent(parameter{route, name})
	return found
}

func (d *Detector) warn(o *Opening, name string) {
	if _, isNew := d.warned.SetIfAbsent(parameter{o.Route, name}, struct{}{}); !isNew {
		return
	}
	d.log.Warn("a player opens a session for each value of a parameter, new ones refused; add it to the route's "+
		"ignore_query, or to its credentials if it tells viewers apart",
		slog.String("parameter", name), slog.String("route", o.Route), slog.String("channel", o.Channel),
		slog.Int("max_variants", d.limit))
}

// add counts an opening. It reports whether it shows that the parameter tells viewers apart.
func (g *group) add(o opening, decision *backends.Decision, limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	user := decision.UserID
	if user == "" {
		user = decision.User
	}
	if g.hasAnswer && (decision.Verdict != g.verdict || user != g.user) {
		g.isCleared = true
		return true
	}
	g.hasAnswer, g.verdict, g.user = true, decision.Verdict, user
	for _, known := range g.openings {
		if known.id == o.id {
			return false
		}
	}
	g.openings = append(g.openings, o)
	if len(g.openings) > limit+1 {
		g.openings = append(g.openings[:0], g.openings[1:]...)
	}
	return false
}

// isFull reports whether the group has as many openings as the limit within the window, all of them allowed, none of them
// the session's and none used after the next one opened.
func (g *group) isFull(id backends.SessionID, d *Detector, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isCleared || g.verdict != backends.Allowed {
		return false
	}
	count := 0
	for i, o := range g.openings {
		if o.id == id {
			return false // it was counted, and has ended since
		}
		if now.Sub(o.at) > d.window {
			continue
		}
		count++
		if i+1 < len(g.openings) && d.isUsedAfter(o.id, g.openings[i+1].at) {
			g.isCleared = true
			return false
		}
	}
	return count >= d.limit
}

// isUsedAfter reports whether a session was used after the next one opened.
func (d *Detector) isUsedAfter(id backends.SessionID, opened time.Time) bool {
	s := d.find(id)
	return s != nil && s.LastSeen().Sub(opened) > straggle
}
