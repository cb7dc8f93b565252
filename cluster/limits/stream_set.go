package limits

import (
	"cmp"
	"slices"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxTracked bounds the streams of a set, so that no call takes long.
	maxTracked = 128
	// reportInterval is how often each node reports while a limit is exceeded.
	reportInterval = time.Second
	// reportDelayMS is how late the nodes may learn that two streams fell silent, one after the other.
	reportDelayMS = 2000
	// jitterMS is how far apart two reports of the same request may be.
	jitterMS = 1000
	// unknownZapMS is the zap timeout of a stream of which no node has seen a media playlist.
	unknownZapMS = 10_000
)

// rules are those of all sets of streams, or of addresses.
type rules struct {
	session.LimitRules
	// isBound: a stream beyond the limit does not join, and none is evicted.
	isBound bool
}

// facts are what a node says of a stream. Durations are in ms.
type facts struct {
	ID, Group backends.SessionID
	IsIPv6    bool
	Opened    int64 // in seconds, as in tickets
	IsPlaying bool
	// ZapTimeout is the longest silence of a stream that counts; 0 in a report: unknown.
	ZapTimeout int64
	MaxStreams int32
	Device     device
}

// device is the beginning of a hash of what tells a user's devices apart; zero: unknown.
type device [16]byte

// report is what a node reports of one stream; see [session.StreamEntry].
type report struct {
	facts
	isLeaving, isJoin, isAssumed bool
	// age is how long ago the viewer last asked.
	age int64
}

func newReports(entries []session.StreamEntry) []report {
	reports := make([]report, len(entries))
	for i, e := range entries {
		f := facts{
			ID: e.Session, Group: cmp.Or(e.Group, e.Session), IsIPv6: e.IsIPv6, Opened: e.Opened.Unix(), IsPlaying: e.IsPlaying,
			ZapTimeout: e.ZapTimeout.Milliseconds(), MaxStreams: int32(max(e.MaxStreams, 1)),
		}
		copy(f.Device[:], e.Device)
		age := max(time.Since(e.LastSeen).Milliseconds(), 0)
		reports[i] = report{facts: f, isLeaving: e.IsLeaving, isJoin: e.IsNew, isAssumed: e.IsAssumed, age: age}
	}
	return reports
}

// stream is one stream of a user. Its times are ms of one clock, Redis' or the process's.
type stream struct {
	facts
	// LastSeen is when the viewer last asked; an evicted stream asks too.
	LastSeen int64
	// ReportedAt is when the node that saw the viewer last reported the stream.
	ReportedAt int64
	// CountedSince is since when the stream counts without a break; 0: it does not count.
	CountedSince int64
	State        session.StreamState
}

// counts reports whether the stream counts at now: its viewer was not silent when last reported, and holds a place.
func (s *stream) counts(now int64, r *rules) bool {
	return s.ReportedAt-s.LastSeen <= s.ZapTimeout && s.holdsPlace(now, r)
}

// holdsPlace reports whether an evicted stream may not take the stream's place yet: the last report is not older than nodes let
// it become. The node that reported saw a viewer who asks all nodes in turn a while ago.
func (s *stream) holdsPlace(now int64, r *rules) bool {
	return s.State == session.StreamActive && s.IsPlaying && now-s.LastSeen <= s.maxSilence(r)
}

// maxSilence is for how long a stream counts that no node reports.
func (s *stream) maxSilence(r *rules) int64 { return r.HeartbeatInterval.Milliseconds() + s.ZapTimeout }

// ttl is after which silence a stream is forgotten.
func (s *stream) ttl(r *rules) int64 {
	if s.State == session.StreamEvicted {
		return r.EvictionTTL.Milliseconds()
	}
	return max(r.IdleTimeout.Milliseconds(), s.maxSilence(r))
}

// streamSet is the streams of a user, in the order in which they were opened as far as the store learns it: times are in
// seconds, so that it decides among those of one second. It is not changed: apply makes another one.
type streamSet []stream

// result is what a set says of the reports of a call.
type result struct {
	session.LimitResult
	// isExceeded: the limit is exceeded since this call.
	isExceeded bool
	// isFull: a reported stream found no room.
	isFull bool
	// ttl is for how long the set must be kept.
	ttl time.Duration
}

// applyReports returns the set after reports at a time in ms, by a node that reaches the store without a break since upSince;
// 0: since ever.
func (s streamSet) applyReports(reports []report, now, upSince int64, r *rules) (streamSet, result) {
	// Pointers into it stay valid, and a node that keeps it keeps no more than it holds.
	u := update{rules: r, now: now, streams: make(streamSet, 0, len(s)+s.numUnknown(reports))}
	for _, one := range s {
		// A clock that was set back must not keep a stream for longer.
		one.LastSeen, one.ReportedAt, one.CountedSince = min(one.LastSeen, now), min(one.ReportedAt, now), min(one.CountedSince, now)
		if one.bridge(now, upSince, r); now-one.LastSeen < one.ttl(r) {
			u.streams = append(u.streams, one)
		}
	}
	wasExceeded := u.isExceeded()
	u.result.States = make([]session.StreamState, len(reports))
	for i := range reports {
		u.result.States[i] = u.applyReport(&reports[i])
	}
	u.readmit(reports)
	u.evict()
	if u.isExceeded() {
		u.result.isExceeded, u.result.RecheckIn = !wasExceeded, reportInterval
	}
	for i := range reports {
		if one := u.find(reports[i].ID); one != nil { // a later report, or the limit, may have changed its state
			u.result.States[i] = one.State
		}
	}
	for i := range u.streams {
		u.result.ttl = max(u.result.ttl, 2*time.Duration(u.streams[i].ttl(r))*time.Millisecond)
	}
	return u.streams, u.result
}

// numUnknown returns how many of the reports are of streams that the set does not hold.
func (s streamSet) numUnknown(reports []report) (n int) {
	for i := range reports {
		if !slices.ContainsFunc(s, func(one stream) bool { return one.ID == reports[i].ID }) {
			n++
		}
	}
	return n
}

// bridge takes a stream as reported at upSince that counted when it was last reported, or was denied, and whose report is too
// old by now: perhaps no node could report it before. So its own node has until the next heartbeat, as after any report. Its
// grace period begins anew.
func (s *stream) bridge(now, upSince int64, r *rules) {
	if s.ReportedAt < upSince && now-s.LastSeen > s.maxSilence(r) && (s.CountedSince > 0 || s.State != session.StreamActive) {
		s.LastSeen, s.ReportedAt, s.CountedSince = upSince-(s.ReportedAt-s.LastSeen), upSince, upSince
	}
}

// restoredWith returns the set as it was before the store lost it, with what was reported since. A denied stream stays denied,
// unless it was superseded and is opened anew. The reports are of streams that are denied again; each plays if it may.
func (s streamSet) restoredWith(since streamSet, now int64, r *rules) (set streamSet, deniedAgain []report) {
	u := update{rules: r, streams: slices.Clone(s)}
	for i := range since {
		one := &since[i]
		old := u.find(one.ID)
		if old == nil {
			if len(u.streams) < maxTracked {
				u.streams = append(u.streams, *one)
			}
			continue
		}
		if one.Opened > old.Opened {
			old = u.reopen(old)
		}
		countedSince := old.CountedSince
		if hadBreak := one.CountedSince-old.LastSeen > old.maxSilence(r); countedSince == 0 || hadBreak {
			countedSince = one.CountedSince
		}
		p := one.assumed(one.ReportedAt)
		old.applyReport(&p, one.ReportedAt)
		if old.CountedSince = countedSince; one.State == session.StreamActive && old.State != session.StreamActive {
			deniedAgain = append(deniedAgain, one.assumed(now))
		}
	}
	return u.streams, deniedAgain
}

// assumed returns a report at a time that changes nothing of the stream, unless it is evicted and may play.
func (s *stream) assumed(at int64) report {
	return report{facts: s.facts, isAssumed: true, age: max(at-s.LastSeen, 0)}
}
