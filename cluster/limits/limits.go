package limits

import (
	"bytes"
	"slices"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// The rules of a user's limit are here and, function by function the same, in lua/stream_limit.lua, which Redis runs;
// tests compare the two. All times are milliseconds of one clock, Redis' or the process's, except opened, which is in
// seconds as in tickets.
//
//   - A stream counts from when it plays until it is deactivated, leaves, or is silent for LimitRules.IdleTimeout.
//   - The limit is the smallest MaxStreams of the active streams. It does not depend on which stream is reported: with the
//     reported one's own, two streams with different limits would start and stop each other's grace periods at each
//     heartbeat. So a lower limit holds from the first stream that knows it, and a higher one from the last.
//   - The streams beyond the limit are in excess, by policy: those opened first or last. A stream that was in excess for
//     LimitRules.GracePeriod and is still used after that is evicted. A stream that is no longer used needs no eviction.
//   - Several streams that may have one viewer may be the streams of a viewer who zaps. So when the limit is exceeded,
//     those that fell silent are superseded, and no stream is evicted until the ones before it are seen to be watched at
//     the same time.
//   - An evicted or superseded stream stays so while it is used, whichever call is lost, late or repeated.
const (
	// maxTracked bounds a user's streams, so that a flood of them does not delay Redis.
	maxTracked = 512
	// reportWindowMS is for how long all nodes may report their streams after the limit was exceeded, before a stream
	// counts as silent: the node that reports first may not be the one where the stream is watched.
	reportWindowMS = 1000
	// reportIntervalMS is how often nodes report while it matters.
	reportIntervalMS = 1000
	// jitterMS is how far apart two reports of the same request may be.
	jitterMS = 1000
	// roundsToEvict is how often in turn all streams that may have one viewer must be used, before they count as watched at
	// the same time. Zapping there and back takes two rounds.
	roundsToEvict = 4
	// maxZappingMS is how long a stream in excess may pass for zapping, so that a viewer who opens stream after stream does
	// not escape the limit.
	maxZappingMS = 600_000
)

// rules are session.LimitRules in milliseconds.
type rules struct {
	policy                                            session.LimitPolicy
	gracePeriod, zapTimeout, evictionTTL, idleTimeout int64
}

func rulesInMillis(r session.LimitRules) rules {
	return rules{
		policy: r.Policy, gracePeriod: r.GracePeriod.Milliseconds(), zapTimeout: r.ZapTimeout.Milliseconds(),
		evictionTTL: r.EvictionTTL.Milliseconds(), idleTimeout: r.IdleTimeout.Milliseconds(),
	}
}

// userTTL is for how long a user is remembered after the last report: longer than any of the user's streams.
func (r rules) userTTL() int64 { return 2 * max(r.idleTimeout, r.evictionTTL) }

// report is what a node says of one stream.
type report struct {
	// isJoin: the stream was just opened.
	isJoin bool
	id     backends.SessionID
	opened int64
	// age is how long ago the stream was last used.
	age        int64
	isPlaying  bool
	maxStreams int
	// device and address tell viewers apart, unless they are empty.
	device, address string
}

func newReport(isJoin bool, e session.StreamEntry, now time.Time) report {
	return report{
		isJoin: isJoin, id: e.Session, opened: e.Opened.Unix(), age: max(now.Sub(e.LastSeen).Milliseconds(), 0),
		isPlaying: e.IsPlaying, maxStreams: max(e.MaxStreams, 1), device: e.Device, address: e.Address,
	}
}

// stream is one stream of a user.
type stream struct {
	id     backends.SessionID
	opened int64
	// lastSeen is when the viewer last requested something; the requests of an evicted stream count too.
	lastSeen int64
	// reportedAt is when the node that saw the viewer last reported it.
	reportedAt int64
	// playingSince is when the stream began to count, or 0.
	playingSince int64
	state        session.StreamState
	// excessSince is when the stream first exceeded the limit, or 0.
	excessSince int64
	// roundStart is when the current round began, and rounds is how many rounds are complete; see mustEvict.
	roundStart int64
	rounds     int
	maxStreams int

	device, address string
}

func (s *stream) isCounted() bool { return s.state == session.StreamActive && s.playingSince > 0 }

// isSilent reports whether the viewer, when last reported, had requested nothing for longer than any player pauses.
func (s *stream) isSilent(r rules) bool { return s.reportedAt-s.lastSeen > r.zapTimeout }

// mayShareViewer reports whether two streams may belong to one viewer who zaps between them.
func (s *stream) mayShareViewer(o *stream) bool {
	if s.device != "" && o.device != "" {
		return s.device == o.device
	}
	return s.address != "" && s.address == o.address
}

// usedBefore orders streams by their last use.
func (s *stream) usedBefore(o *stream) bool {
	if s.lastSeen != o.lastSeen {
		return s.lastSeen < o.lastSeen
	}
	return bytes.Compare(s.id[:], o.id[:]) < 0
}

// outranks orders streams by which one stays active.
func (s *stream) outranks(o *stream, p session.LimitPolicy) bool {
	switch {
	case s.opened == o.opened:
		return bytes.Compare(s.id[:], o.id[:]) < 0
	case p == session.EvictOldest:
		return s.opened > o.opened
	default:
		return s.opened < o.opened
	}
}

func (s *stream) clearExcess() { s.excessSince, s.roundStart, s.rounds = 0, 0, 0 }

// streamSet is the streams of a user.
type streamSet struct {
	streams map[backends.SessionID]*stream
	// exceededSince is when the limit was first exceeded, or 0.
	exceededSince int64
	// evicted are the streams that the current call evicted or superseded.
	evicted []session.EvictedStream
}

func newStreamSet() *streamSet { return &streamSet{streams: make(map[backends.SessionID]*stream)} }

// apply takes reports. isExceeded says that the limit is exceeded since this very call.
func (s *streamSet) apply(r rules, reports []report, now int64) (result session.LimitResult, isExceeded bool) {
	s.expire(r, now)
	before := s.exceededSince
	reported := make([]*stream, len(reports))
	for i, p := range reports {
		reported[i] = s.findOrCreate(r, p, now)
	}
	s.markExcess(r, now)
	ambiguous := s.evictExcess(r, now)
	result.States = make([]session.StreamState, len(reports))
	for i, one := range reported {
		if one == nil {
			continue
		}
		result.States[i] = one.state
		delay := time.Duration(s.recheckDelay(r, one, ambiguous, now)) * time.Millisecond
		if delay > 0 && (result.RecheckIn == 0 || delay < result.RecheckIn) {
			result.RecheckIn = delay
		}
	}
	result.Evicted, s.evicted = s.evicted, nil
	return result, before == 0 && s.exceededSince > 0
}

// leave removes an active stream. An evicted or superseded one stays: if it were forgotten, a copy of it on another node
// would count as new.
func (s *streamSet) leave(r rules, id backends.SessionID, now int64) {
	s.expire(r, now)
	if one := s.streams[id]; one != nil && one.state == session.StreamActive {
		delete(s.streams, id)
		s.markExcess(r, now)
	}
}

// expire removes streams that are no longer used, so that the excess is known before a new stream joins.
func (s *streamSet) expire(r rules, now int64) {
	s.exceededSince = min(s.exceededSince, now)
	for id, one := range s.streams {
		// A clock that was set back, for example by a failover, must not keep a stream for longer.
		one.lastSeen, one.reportedAt = min(one.lastSeen, now), min(one.reportedAt, now)
		one.playingSince = min(one.playingSince, now)
		one.excessSince, one.roundStart = min(one.excessSince, now), min(one.roundStart, now)
		ttl := r.idleTimeout
		if one.state == session.StreamEvicted {
			ttl = r.evictionTTL
		}
		if now-one.lastSeen >= ttl {
			delete(s.streams, id)
		}
	}
	s.markExcess(r, now)
}

// findOrCreate returns the reported stream, or nil if it is unknown and no longer used.
func (s *streamSet) findOrCreate(r rules, p report, now int64) *stream {
	one := s.streams[p.id]
	switch {
	case one == nil && p.age >= r.idleTimeout:
		return nil
	case one == nil:
		s.makeRoom()
		one = &stream{id: p.id}
		s.streams[p.id] = one
		one.reset(p, now)
	case one.state == session.StreamSuperseded && p.opened > one.opened:
		one.reset(p, now)
	default:
		one.update(p, now)
	}
	if one.state == session.StreamEvicted {
		s.readmit(r, p, one, now)
	}
	if one.state == session.StreamActive && one.device != "" {
		s.supersedeSameDevice(p, one)
	}
	return one
}

// reset makes the entry a new stream's.
func (s *stream) reset(p report, now int64) {
	*s = stream{
		id: s.id, opened: p.opened, lastSeen: now - p.age, reportedAt: now, maxStreams: p.maxStreams, device: p.device,
		address: p.address,
	}
	if p.isPlaying {
		s.playingSince = now
	}
}

// update takes a report. The node that saw the viewer last decides: another node has an idle copy of the session.
func (s *stream) update(p report, now int64) {
	seen := now - p.age
	if seen+jitterMS >= s.lastSeen {
		s.reportedAt, s.maxStreams, s.device, s.address = now, p.maxStreams, p.device, p.address
	}
	s.lastSeen, s.opened = max(s.lastSeen, seen), max(s.opened, p.opened)
	if p.isPlaying && s.playingSince == 0 {
		s.playingSince = now
	}
}

// supersedeSameDevice leaves a device one stream: the one opened last; within one second, the one that joined last.
func (s *streamSet) supersedeSameDevice(p report, one *stream) {
	for _, o := range s.streams {
		if o == one || o.state != session.StreamActive || o.device != one.device {
			continue
		}
		if one.isNewerThan(o, p.isJoin) {
			s.deactivate(o, session.StreamSuperseded)
			continue
		}
		s.deactivate(one, session.StreamSuperseded)
		return
	}
}

func (s *stream) isNewerThan(o *stream, isJoin bool) bool {
	return s.opened > o.opened || s.opened == o.opened && isJoin
}

// readmit makes an evicted stream active again if the limit allows one more, or if it can replace an active one. It counts
// at once, so that it exceeds nothing.
func (s *streamSet) readmit(r rules, p report, one *stream, now int64) {
	counted, limit := 0, one.maxStreams
	var replaced *stream
	for _, o := range s.streams {
		if o.state != session.StreamActive {
			continue
		}
		limit = min(limit, o.maxStreams)
		canReplace := one.canReplace(o, r, p.isJoin)
		if one.isSameDevice(o) && !canReplace {
			return // the viewer watches the other stream
		}
		if !o.isCounted() {
			continue
		}
		counted++
		if canReplace && (replaced == nil || o.usedBefore(replaced)) {
			replaced = o
		}
	}
	if counted == limit && replaced != nil {
		s.deactivate(replaced, session.StreamSuperseded)
		counted--
	}
	if counted >= limit {
		return
	}
	one.state, one.playingSince = session.StreamActive, now
	one.clearExcess()
}

func (s *stream) isSameDevice(o *stream) bool { return s.device != "" && o.device == s.device }

// canReplace reports whether the viewer has left the other stream for this one.
func (s *stream) canReplace(o *stream, r rules, isJoin bool) bool {
	if s.mayShareViewer(o) && o.usedBefore(s) && o.isSilent(r) {
		return true
	}
	return s.isSameDevice(o) && s.isNewerThan(o, isJoin)
}

// deactivate makes a stream evicted or superseded.
func (s *streamSet) deactivate(one *stream, state session.StreamState) {
	one.state = state
	one.clearExcess()
	s.evicted = append(s.evicted, session.EvictedStream{Session: one.id, Opened: time.Unix(one.opened, 0), State: state})
}

// makeRoom removes a stream if there are too many: one that is not active if possible, then the one unused for longest.
func (s *streamSet) makeRoom() {
	if len(s.streams) < maxTracked {
		return
	}
	var least *stream
	for _, one := range s.streams {
		if least == nil || one.rank() < least.rank() || one.rank() == least.rank() && one.usedBefore(least) {
			least = one
		}
	}
	delete(s.streams, least.id)
}

// rank is how much is lost if the entry is removed.
func (s *stream) rank() int {
	switch {
	case s.state == session.StreamSuperseded:
		return 0
	case s.state == session.StreamEvicted:
		return 1
	case s.playingSince == 0:
		return 2
	case s.excessSince > 0:
		return 3
	default:
		return 4
	}
}

// counted returns the streams that count, and the limit. If they exceed it, those that stay active come first.
func (s *streamSet) counted(p session.LimitPolicy) (counted []*stream, limit int) {
	for _, one := range s.streams {
		if one.state != session.StreamActive {
			continue
		}
		if limit == 0 || one.maxStreams < limit {
			limit = one.maxStreams
		}
		if one.isCounted() {
			counted = append(counted, one)
		}
	}
	if len(counted) > limit {
		slices.SortFunc(counted, func(a, b *stream) int {
			if a.outranks(b, p) {
				return -1
			}
			return 1
		})
	}
	return counted, limit
}
