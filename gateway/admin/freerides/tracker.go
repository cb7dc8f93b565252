package freerides

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"usher/backends"
)

// gap is how long a backend answers, and no session becomes unverified, until an outage is over. What begins sooner belongs to
// it, on this node and on others.
const gap = time.Minute

// Tracker follows the unverified sessions of a node. It is an observer of sessions. Its methods are safe for concurrent use.
type Tracker struct {
	o       Options
	process string
	started time.Time

	// watched is how many sessions are in the map, so that other decisions take no lock.
	watched  atomic.Int64
	mu       sync.Mutex
	sessions map[backends.SessionID]unverifiedSession
	// current are the outages that sessions may still join, by backend. outages are these and those that have not ended or are
	// not saved.
	current map[string]*outage
	outages []*outage
	// count numbers the outages of this process.
	count int

	saving sync.Mutex // held while parts are saved, so that they are saved in order
}

// unverifiedSession is a session that no answer of its backend has verified.
type unverifiedSession struct {
	outage *outage
	// since is since when its present time without an answer runs, in milliseconds after the tracker's start; negative: it is allowed
	// no longer.
	since int64
	// before is the time before that, in milliseconds.
	before int64
	// bytes is what its viewer had been sent when they became unverified.
	bytes int64
}

// outage is what this node sees of an outage.
type outage struct {
	backend string
	number  int
	started time.Time
	// lastJoined is when the last session became unverified, recovered when the backend was last seen to have recovered, and
	// lastLeft when the last session was verified, denied or closed.
	lastJoined, recovered, lastLeft time.Time
	isDown                          bool
	// open is how many sessions are unverified. running are those whose time runs, and sinceSum is the sum of their since.
	open, running, sinceSum int64
	// figures count what is known for certain. unverified and freeRides are the times of them, in milliseconds: a night of a million
	// sessions is more nanoseconds than a number holds.
	figures               figures
	unverified, freeRides int64
	sample                sample
	users                 users
	// changes counts what happened, and saved is how much of that is in the store.
	changes, saved int
	isLogged       bool
}

// isUnverified reports whether a viewer with the decision watches without an answer.
func isUnverified(d *backends.Decision) bool {
	return d != nil && d.Verdict == backends.Allowed && !d.Source.IsAuthoritative()
}

// Decided follows the session r.Session, which has the decision after in place of before. A nil after: it left this node.
func (t *Tracker) Decided(r *backends.Request, before, after *backends.Decision) {
	isNow := isUnverified(after)
	if !isNow && t.watched.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	s, isKnown := t.sessions[r.Session]
	switch {
	case isNow && !isKnown:
		t.join(r, after.Source, now)
	case !isKnown:
	case isNow:
		t.resume(r.Session, s, now)
	case after == nil:
		t.leave(r.Session, s, outcomeUnknown, "", now)
	case after.Source.IsAuthoritative():
		t.leave(r.Session, s, outcomeOf(after), userOf(after, before), now)
	default:
		t.pause(r.Session, s, now)
	}
}

// userOf returns the user as the newest of the decisions names them.
func userOf(decisions ...*backends.Decision) string {
	for _, d := range decisions {
		if d != nil && (d.User != "" || d.UserID != "") {
			return cmp.Or(d.User, d.UserID)
		}
	}
	return ""
}

// join adds a session to the backend's outage.
func (t *Tracker) join(r *backends.Request, source backends.Source, now time.Time) {
	o := t.outageOf(r.Backend, source, now)
	if o == nil {
		return
	}
	sent, _ := t.o.Session(r.Session)
	s := unverifiedSession{outage: o, since: t.elapsed(now), bytes: sent}
	t.sessions[r.Session] = s
	t.watched.Store(int64(len(t.sessions)))
	o.lastJoined = now
	o.open, o.running, o.sinceSum = o.open+1, o.running+1, o.sinceSum+s.since
	o.figures[sessionsFigure]++
	o.figures[sourceFigure(source)]++
	o.changes++
	if e := o.sample.find(r.Session); e != nil {
		e.Outcome, e.IsExpired = outcomeOpen, false
		return
	}
	if e := o.sample.add(r.Session); e != nil {
		e.First, e.Figure, e.Outcome = now.UnixMilli(), sourceFigure(source), outcomeOpen
		e.Last = e.First
	}
}

// outageOf returns the outage that a session joins. A ticket that speaks for a session begins none: the session may be lost in
// the store while the backend answers.
func (t *Tracker) outageOf(backend string, source backends.Source, now time.Time) *outage {
	o := t.current[backend]
	if o != nil {
		o.look(t.o.IsDown(backend), now)
	}
	if o != nil && o.isTaking(now) {
		return o
	}
	delete(t.current, backend)
	if source == backends.FromTicket {
		return nil
	}
	t.count++
	o = &outage{backend: backend, number: t.count, started: now, lastJoined: now, sample: newSample(), users: users{}}
	o.look(t.o.IsDown(backend), now)
	t.current[backend] = o
	t.outages = append(t.outages, o)
	return o
}

// look notes whether the backend is down now.
func (o *outage) look(isDown bool, now time.Time) {
	if o.isDown && !isDown {
		o.recovered = now
		o.changes++
	}
	o.isDown = isDown
}

// until returns until when sessions belonged to the outage.
func (o *outage) until(now time.Time) time.Time {
	switch {
	case o.isDown:
		return now
	case o.recovered.After(o.lastJoined):
		return o.recovered
	default:
		return o.lastJoined
	}
}

// isTaking reports whether a session that becomes unverified now belongs to the outage.
func (o *outage) isTaking(now time.Time) bool { return now.Sub(o.until(now)) < gap }

// isOver reports whether the backend answers and no session is unverified.
func (o *outage) isOver() bool { return !o.isDown && o.open == 0 }

// ended returns when the outage was over.
func (o *outage) ended() time.Time {
	if o.recovered.After(o.lastLeft) {
		return o.recovered
	}
	return o.lastLeft
}

// elapsed returns the milliseconds since the tracker's start.
func (t *Tracker) elapsed(now time.Time) int64 { return now.Sub(t.started).Milliseconds() }

// stop stops the time of a session, and returns it with the new time in it.
func (t *Tracker) stop(s unverifiedSession, now time.Time) unverifiedSession {
	if s.since < 0 {
		return s
	}
	o := s.outage
	ran := t.elapsed(now) - s.since
	o.running, o.sinceSum, o.unverified = o.running-1, o.sinceSum-s.since, o.unverified+ran
	s.before, s.since = s.before+ran, -1
	return s
}

// pause stops the time of a session that is not allowed any more and that no backend has verified.
func (t *Tracker) pause(id backends.SessionID, s unverifiedSession, now time.Time) {
	s = t.stop(s, now)
	t.sessions[id] = s
	s.outage.changes++
	if e := s.outage.sample.find(id); e != nil {
		e.Last = now.UnixMilli()
	}
}

// resume starts the time of a session again.
func (t *Tracker) resume(id backends.SessionID, s unverifiedSession, now time.Time) {
	if s.since >= 0 {
		return
	}
	s.since = t.elapsed(now)
	s.outage.running, s.outage.sinceSum = s.outage.running+1, s.outage.sinceSum+s.since
	s.outage.changes++
	t.sessions[id] = s
}

// leave removes a session with what became of it.
func (t *Tracker) leave(id backends.SessionID, s unverifiedSession, became outcome, user string, now time.Time) {
	wasRunning := s.since >= 0
	s = t.stop(s, now)
	o := s.outage
	sent, isExpired := t.facts(id, s, now)
	delete(t.sessions, id)
	t.watched.Store(int64(len(t.sessions)))
	o.open--
	o.lastLeft = now
	o.changes++
	o.figures[became.figure()]++
	if isExpired && became == outcomeUnknown {
		o.figures[expiredFigure]++
	}
	if e := o.sample.find(id); e != nil {
		e.Outcome, e.User, e.IsExpired = became, user, isExpired
		e.Unverified, e.Bytes = e.Unverified+s.before, e.Bytes+sent
		if wasRunning {
			e.Last = now.UnixMilli()
		}
	}
	if became == outcomeFreeRide {
		o.freeRides += s.before
		o.figures[freeRideBytesFigure] += sent
		c := cost{User: user, Sessions: 1, Time: s.before, Bytes: sent}
		if user == "" {
			c.Session = id.String()
		}
		o.users.add(c)
		o.users.bound()
	}
}

// part returns what is known of an outage now.
func (t *Tracker) part(o *outage, now time.Time) *part {
	p := &part{
		Backend: o.backend, Node: t.o.Node, Process: t.process,
		Started: o.started.UnixMilli(), Until: o.until(now).UnixMilli(), IsDown: o.isDown, Written: now.UnixMilli(),
		IsSampled: o.sample.isFull, Sample: make([]entry, 0, len(o.sample.byID)),
	}
	if o.isOver() {
		p.Ended = o.ended().UnixMilli()
	}
	for id := range o.sample.byID {
		p.Sample = append(p.Sample, t.entry(id, o, now))
	}
	if !p.IsSampled {
		for i := range p.Sample {
			p.Sample[i].addTo(&p.Figures)
		}
		return p
	}
	p.Figures = o.figures
	p.Figures[openFigure] = o.open
	p.Figures[expiredFigure] += p.openExpired()
	p.Figures[unverifiedTimeFigure] = o.unverified + o.running*t.elapsed(now) - o.sinceSum
	p.Figures[freeRideTimeFigure] = o.freeRides
	p.Users = o.users.worst(usersPerPart)
	return p
}

// openExpired estimates how many of the open sessions cannot be asked any more, as in the sample.
func (p *part) openExpired() int64 {
	var open, expired int64
	for i := range p.Sample {
		if e := &p.Sample[i]; e.Outcome == outcomeOpen {
			open++
			if e.IsExpired {
				expired++
			}
		}
	}
	return p.Figures[openFigure] * expired / max(1, open)
}

// facts returns what the viewer was sent while the session was unverified, and whether it cannot be asked any more.
func (t *Tracker) facts(id backends.SessionID, s unverifiedSession, now time.Time) (sent int64, isExpired bool) {
	bytes, opened := t.o.Session(id)
	life := t.o.TokenLife(s.outage.backend)
	return bytes - s.bytes, life > 0 && !opened.IsZero() && now.Sub(opened) > life
}

// entry returns a session of the sample as it stands.
func (t *Tracker) entry(id backends.SessionID, o *outage, now time.Time) entry {
	e := *o.sample.find(id)
	s, isOpen := t.sessions[id]
	if !isOpen || s.outage != o {
		return e
	}
	e.Unverified += s.before
	sent, isExpired := t.facts(id, s, now)
	e.Bytes, e.IsExpired = e.Bytes+sent, isExpired
	if s.since >= 0 {
		e.Unverified += t.elapsed(now) - s.since
		e.Last = now.UnixMilli()
	}
	return e
}

// tick looks whether backends have recovered, and logs what an outage cost once it is over.
func (t *Tracker) tick(ctx context.Context, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.outages {
		if t.current[o.backend] == o {
			o.look(t.o.IsDown(o.backend), now)
			if !o.isTaking(now) {
				delete(t.current, o.backend)
			}
		}
		if t.current[o.backend] != o && o.isOver() && !o.isLogged {
			o.isLogged = true
			t.log(ctx, o, t.part(o, now))
		}
	}
}

// log logs what an outage cost on this node.
func (t *Tracker) log(ctx context.Context, o *outage, p *part) {
	level, f := slog.LevelInfo, &p.Figures
	if f[freeRidesFigure] > 0 {
		level = slog.LevelWarn
	}
	t.o.Logger.Log(ctx, level, "outage ended, what it cost on this node",
		slog.String("backend", o.backend), slog.Time("started", o.started.UTC()),
		slog.Duration("duration", o.ended().Sub(o.started).Round(time.Millisecond)),
		slog.Int64("sessions", f[sessionsFigure]), slog.Duration("unverified", duration(f[unverifiedTimeFigure])),
		slog.Int64("verified", f[verifiedFigure]), slog.Int64("free_rides", f[freeRidesFigure]),
		slog.Duration("free_ride_time", duration(f[freeRideTimeFigure])), slog.Int64("free_ride_bytes", f[freeRideBytesFigure]),
		slog.Int64("refused", f[refusedFigure]), slog.Int64("unknown", f[unknownFigure]),
		slog.Int64("expired_tokens", f[expiredFigure]))
}

// duration returns a duration of milliseconds, at most the longest one, of 292 years.
func duration(ms int64) time.Duration {
	return time.Duration(min(ms, int64(math.MaxInt64/time.Millisecond))) * time.Millisecond
}

// id names the outage's part in the store.
func (t *Tracker) id(o *outage) string { return t.process + "." + strconv.Itoa(o.number) }
