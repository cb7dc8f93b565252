package limits

import (
	"cmp"
	"math"
	"slices"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// update is one call of [streamSet.applyReports].
type update struct {
	rules   *rules
	now     int64
	streams streamSet
	result  result
}

// find returns a stream, nil if there is none.
func (u *update) find(id backends.SessionID) *stream {
	for i := range u.streams {
		if u.streams[i].ID == id {
			return &u.streams[i]
		}
	}
	return nil
}

// unit is what counts once: a stream, or an IPv4 and an IPv6 stream of one group.
type unit struct {
	streams []*stream
	// lastSeen is when the viewer last asked by either address, countedSince since when either counts without a break.
	lastSeen, countedSince int64
}

// pair returns the units of streams, in their order. A group has as many as it has streams of one family at most.
func pair(streams []*stream) []unit {
	units := make([]unit, 0, len(streams))
	for i, s := range streams {
		j := slices.IndexFunc(units, func(n unit) bool {
			return len(n.streams) == 1 && n.streams[0].Group == s.Group && n.streams[0].IsIPv6 != s.IsIPv6
		})
		if j < 0 {
			units = append(units, unit{streams[i : i+1 : i+1], s.LastSeen, s.CountedSince})
			continue
		}
		n := &units[j]
		n.streams = append(n.streams, s)
		n.lastSeen, n.countedSince = max(n.lastSeen, s.LastSeen), min(n.countedSince, s.CountedSince)
	}
	return units
}

// count marks since when each stream counts. It returns those that do, and the limit, which is the smallest of theirs.
func (u *update) count() (counted []*stream, limit int) {
	counted, limit = make([]*stream, 0, len(u.streams)), math.MaxInt
	for i := range u.streams {
		s := &u.streams[i]
		if !s.counts(u.now, u.rules) {
			s.CountedSince = 0
			continue
		}
		s.CountedSince = cmp.Or(s.CountedSince, u.now)
		counted, limit = append(counted, s), min(limit, int(s.MaxStreams))
	}
	return counted, limit
}

// isExceeded reports whether more streams count than the limit allows. A bound is never exceeded.
func (u *update) isExceeded() bool {
	counted, limit := u.count()
	return !u.rules.isBound && len(counted) > limit && len(pair(counted)) > limit
}

// applyReport applies one report, and returns the state of its stream.
func (u *update) applyReport(p *report) session.StreamState {
	if p.isLeaving {
		// If an evicted stream were forgotten, a copy of it on another node would count as new.
		u.remove(func(o stream) bool { return o.ID == p.ID && o.State == session.StreamActive })
		return session.StreamActive
	}
	s := u.find(p.ID)
	switch {
	case s != nil && p.isAssumed:
		return s.State
	case u.isBeyondBound(s, p):
		u.remove(func(o stream) bool { return o.ID == p.ID })
		return session.StreamEvicted
	case s == nil:
		if s = u.add(p); s == nil && u.result.isFull && u.wouldExceed(p) {
			return session.StreamEvicted // so many streams do not help to exceed the limit
		} else if s == nil {
			return session.StreamActive
		}
	case p.Opened > s.Opened:
		s = u.reopen(s)
	}
	s.applyReport(p, u.now)
	u.supersedeSameDevice(s, p.isJoin)
	return s.State
}

// reopen makes a stream the last of those of its second. If it was superseded it begins anew.
func (u *update) reopen(s *stream) *stream {
	reopened := *s
	if s.State == session.StreamSuperseded {
		reopened = stream{facts: facts{ID: s.ID}}
	}
	u.remove(func(o stream) bool { return o.ID == reopened.ID })
	u.streams = append(u.streams, reopened)
	return &u.streams[len(u.streams)-1]
}

// isBeyondBound reports whether a stream may not join. One that counts may go on; s is nil if the set does not hold it.
func (u *update) isBeyondBound(s *stream, p *report) bool {
	return u.rules.isBound && p.isJoin && (s == nil || !s.counts(u.now, u.rules)) && u.wouldExceed(p)
}

// readmit makes reported streams that were evicted active again, if they still ask and the limit allows one more. They count at
// once, so that none exceeds it.
func (u *update) readmit(reports []report) {
	for i := range reports {
		p := &reports[i]
		if s := u.find(p.ID); s != nil && s.State == session.StreamEvicted && p.age <= s.ZapTimeout && !u.wouldExceed(p) {
			s.State, s.IsPlaying = session.StreamActive, true
		}
	}
}

// applyReport applies a report of the stream. The node that saw the viewer last decides: another node has an idle copy of the
// session.
func (s *stream) applyReport(p *report, now int64) {
	before, seen := s.facts, now-p.age
	if seen+jitterMS >= s.LastSeen {
		if p.MaxStreams < s.MaxStreams {
			s.CountedSince = now // a lower limit has a grace period of its own
		}
		s.facts, s.ReportedAt = p.facts, now
		s.ZapTimeout = cmp.Or(p.ZapTimeout, before.ZapTimeout, unknownZapMS)
	}
	s.LastSeen, s.Opened = max(s.LastSeen, seen), max(before.Opened, p.Opened)
	s.IsPlaying = before.IsPlaying || p.IsPlaying
}

// add returns a new stream, or nil if its viewer is gone or there is no room. Streams that count for nothing make room.
func (u *update) add(p *report) *stream {
	s := stream{facts: facts{ID: p.ID}}
	if s.applyReport(p, u.now); p.age >= s.ttl(u.rules) {
		return nil
	}
	if len(u.streams) >= maxTracked {
		u.remove(func(o stream) bool {
			return o.State == session.StreamSuperseded || o.State == session.StreamActive && !o.counts(u.now, u.rules)
		})
	}
	if len(u.streams) >= maxTracked {
		u.result.isFull = true
		return nil
	}
	u.streams = append(u.streams, s)
	return &u.streams[len(u.streams)-1]
}

func (u *update) remove(which func(stream) bool) { u.streams = slices.DeleteFunc(u.streams, which) }

// wouldExceed reports whether the limit, or the reported stream's if that is smaller, does not allow that stream beside
// those that hold a place. Of a bound these are the ones that count.
func (u *update) wouldExceed(p *report) bool {
	held, limit := []*stream{{facts: p.facts}}, p.MaxStreams
	for i := range u.streams {
		if s := &u.streams[i]; s.holdsPlace(u.now, u.rules) && (!u.rules.isBound || s.counts(u.now, u.rules)) {
			held, limit = append(held, s), min(limit, s.MaxStreams)
		}
	}
	return len(pair(held)) > int(limit)
}

// supersedeSameDevice leaves a device one channel, the latest. Streams of a group are one channel at several addresses, of
// which the limit decides.
func (u *update) supersedeSameDevice(s *stream, isJoin bool) {
	for i := range u.streams {
		switch o := &u.streams[i]; {
		case s.Device == device{}, s.Device != o.Device, s.Group == o.Group:
		case s.State == session.StreamSuperseded, o.State != session.StreamActive:
		case s.isLater(o, isJoin):
			u.deactivate(o, session.StreamSuperseded)
		default:
			u.deactivate(s, session.StreamSuperseded)
		}
	}
}

// isLater reports whether a stream was opened after another one of its device. Of two that were opened within one second it is
// the one that the device asked for last: a node may report the other one late, in or after an outage of the store. If both
// were asked for at once it is the one that joins.
func (s *stream) isLater(o *stream, isJoin bool) bool {
	order := cmp.Or(cmp.Compare(s.Opened, o.Opened), cmp.Compare(s.LastSeen, o.LastSeen))
	return order > 0 || order == 0 && isJoin
}

func (u *update) deactivate(s *stream, state session.StreamState) {
	s.State = state
	u.result.Evicted = append(u.result.Evicted, session.EvictedStream{Session: s.ID, Opened: time.Unix(s.Opened, 0), State: state})
}

// evict evicts each unit that has played for the grace period together with as many units that outrank it as the limit
// allows.
func (u *update) evict() {
	counted, limit := u.count()
	if u.rules.isBound || len(counted) <= limit {
		return
	}
	grace := u.rules.GracePeriod.Milliseconds()
	for _, s := range counted {
		grace = max(grace, 2*s.ZapTimeout+reportDelayMS)
	}
	// The order of the set holds among streams of one second.
	slices.SortStableFunc(counted, func(a, b *stream) int { return cmp.Compare(a.Opened, b.Opened) })
	if u.rules.Policy == session.EvictOldest {
		slices.Reverse(counted)
	}
	var staying []unit
	for _, n := range pair(counted) {
		together := 0
		for _, o := range staying {
			if min(o.lastSeen, n.lastSeen)-max(o.countedSince, n.countedSince) >= grace {
				together++
			}
		}
		if together < limit {
			staying = append(staying, n)
			continue
		}
		for _, s := range n.streams {
			u.deactivate(s, session.StreamEvicted)
		}
	}
}
