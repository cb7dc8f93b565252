package limits

import (
	"cmp"
	"slices"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// update is one call of [streamSet.apply].
type update struct {
	rules   *rules
	now     int64
	streams streamSet
	result  result
}

func (u *update) find(id backends.SessionID) *stream {
	if i := u.index(id); i >= 0 {
		return &u.streams[i]
	}
	return nil
}

// index returns where a stream is, or -1.
func (u *update) index(id backends.SessionID) int {
	return slices.IndexFunc(u.streams, func(s stream) bool { return s.id == id })
}

// unit is what counts once: a stream, or an IPv4 and an IPv6 stream of one group. In the latter case other is the one that
// ranks lower.
type unit struct{ stream, other *stream }

// lastSeen is when the unit's viewer last asked by either address.
func (n *unit) lastSeen() int64 {
	if n.other == nil {
		return n.stream.lastSeen
	}
	return max(n.stream.lastSeen, n.other.lastSeen)
}

// countedSince is since when either address counts without a break.
func (n *unit) countedSince() int64 {
	if n.other == nil {
		return n.stream.countedSince
	}
	return min(n.stream.countedSince, n.other.countedSince)
}

// pair returns the units of streams, in their order. A group has as many as it has streams of one family at most.
func pair(streams []*stream) []unit {
	units := make([]unit, 0, len(streams))
next:
	for _, s := range streams {
		for i := range units {
			if n := &units[i]; n.other == nil && n.stream.group == s.group && n.stream.isIPv6 != s.isIPv6 {
				n.other = s
				continue next
			}
		}
		units = append(units, unit{stream: s})
	}
	return units
}

// count marks since when each stream counts. It returns those that do, and the limit, which is the smallest of theirs.
func (u *update) count() (counted []*stream, limit int) {
	counted = make([]*stream, 0, len(u.streams))
	for i := range u.streams {
		s := &u.streams[i]
		switch {
		case !s.counts(u.now, u.rules):
			s.countedSince = 0
			continue
		case s.countedSince == 0:
			s.countedSince = u.now
		}
		if len(counted) == 0 || s.maxStreams < limit {
			limit = s.maxStreams
		}
		counted = append(counted, s)
	}
	return counted, limit
}

// isExceeded reports whether more streams count than the limit allows.
func (u *update) isExceeded() bool {
	counted, limit := u.count()
	return len(counted) > limit && len(pair(counted)) > limit
}

// applyReport applies one report, and returns the state of its stream.
func (u *update) applyReport(p *report) session.StreamState {
	if p.isLeaving {
		// If an evicted stream were forgotten, a copy of it on another node would count as new.
		u.remove(func(o stream) bool { return o.id == p.id && o.state == session.StreamActive })
		return session.StreamActive
	}
	s := u.find(p.id)
	switch {
	case s != nil && p.isAssumed:
		return s.state
	case u.isBeyondBound(s, p):
		u.remove(func(o stream) bool { return o.id == p.id })
		return session.StreamEvicted
	case s == nil:
		if s = u.add(p); s == nil {
			return u.stateWithoutRoom(p)
		}
	case p.opened > s.opened:
		s = u.reopen(s)
	}
	s.applyReport(p, u.now)
	u.supersedeSameDevice(s, p.isJoin)
	return s.state
}

// reopen makes a stream the last of those of its second. If it was superseded it begins anew.
func (u *update) reopen(s *stream) *stream {
	if s.state == session.StreamSuperseded {
		*s = stream{id: s.id}
	}
	u.streams.moveLast(u.index(s.id))
	return &u.streams[len(u.streams)-1]
}

// isBeyondBound reports whether a stream may not join. One that counts may go on; s is nil if the set does not hold it.
func (u *update) isBeyondBound(s *stream, p *report) bool {
	if !u.rules.isBound || !p.isJoin || s != nil && s.counts(u.now, u.rules) {
		return false
	}
	return u.wouldExceed(p)
}

// readmit makes a reported stream that was evicted active again, if it still asks and the limit allows one more. It counts
// at once, so that it exceeds nothing.
func (u *update) readmit(p *report) {
	s := u.find(p.id)
	if s != nil && s.state == session.StreamEvicted && p.age <= s.zapTimeout && !u.wouldExceed(p) {
		s.state, s.isPlaying = session.StreamActive, true
	}
}

// applyReport applies a report of the stream. The node that saw the viewer last decides: another node has an idle copy of the
// session.
func (s *stream) applyReport(p *report, now int64) {
	seen := now - p.age
	if seen+jitterMS >= s.lastSeen {
		if p.maxStreams < s.maxStreams {
			s.countedSince = now // a lower limit has a grace period of its own
		}
		s.reportedAt, s.maxStreams, s.device = now, p.maxStreams, p.device
		s.group, s.isIPv6 = p.group, p.isIPv6
		s.zapTimeout = cmp.Or(p.zapTimeout, s.zapTimeout, unknownZapMS)
	}
	s.lastSeen, s.opened = max(s.lastSeen, seen), max(s.opened, p.opened)
	s.isPlaying = s.isPlaying || p.isPlaying
}

// add returns a new stream, or nil if its viewer is gone or there is no room. Streams that count for nothing make room.
func (u *update) add(p *report) *stream {
	s := stream{id: p.id}
	if s.applyReport(p, u.now); p.age >= s.ttl(u.rules) {
		return nil
	}
	if len(u.streams) >= maxTracked {
		u.remove(func(o stream) bool {
			return o.state == session.StreamSuperseded || o.state == session.StreamActive && !o.counts(u.now, u.rules)
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

// stateWithoutRoom is the state of a stream that the set does not hold: so many streams do not help to exceed the limit.
func (u *update) stateWithoutRoom(p *report) session.StreamState {
	if u.result.isFull && u.wouldExceed(p) {
		return session.StreamEvicted
	}
	return session.StreamActive
}

// wouldExceed reports whether the limit, or the reported stream's if that is smaller, does not allow that stream beside
// those that count.
func (u *update) wouldExceed(p *report) bool {
	counted, limit := u.count()
	if len(counted) == 0 {
		return false
	}
	counted = append(counted, &stream{id: p.id, group: p.group, isIPv6: p.isIPv6})
	return len(pair(counted)) > min(limit, p.maxStreams)
}

// supersedeSameDevice leaves a device one channel: the one opened last; within one second, the one that joined last. Streams
// of a group are one channel at several addresses, of which the limit decides.
func (u *update) supersedeSameDevice(s *stream, isJoin bool) {
	if s.device == "" || s.state == session.StreamSuperseded {
		return
	}
	for i := range u.streams {
		o := &u.streams[i]
		if o.group == s.group || o.state != session.StreamActive || o.device != s.device {
			continue
		}
		if s.opened > o.opened || s.opened == o.opened && isJoin {
			u.deactivate(o, session.StreamSuperseded)
			continue
		}
		u.deactivate(s, session.StreamSuperseded)
		return
	}
}

func (u *update) deactivate(s *stream, state session.StreamState) {
	s.state = state
	u.result.Evicted = append(u.result.Evicted, session.EvictedStream{
		Session: s.id, Opened: time.Unix(s.opened, 0), State: state,
	})
}

// evict evicts each unit that has played for the grace period together with as many units that outrank it as the limit
// allows.
func (u *update) evict() {
	counted, limit := u.count()
	if u.rules.isBound || len(counted) <= limit {
		return
	}
	grace := u.rules.gracePeriod
	for _, s := range counted {
		grace = max(grace, 2*s.zapTimeout+reportDelayMS)
	}
	u.rules.sortByRank(counted)
	units := pair(counted)
	for i := range units {
		together := 0
		for j := range units[:i] {
			if units[j].stream.state == session.StreamActive && units[i].togetherWith(&units[j]) >= grace {
				together++
			}
		}
		if together >= limit {
			u.deactivate(units[i].stream, session.StreamEvicted)
			if other := units[i].other; other != nil {
				u.deactivate(other, session.StreamEvicted)
			}
		}
	}
}

// togetherWith returns for how long both have played.
func (n *unit) togetherWith(o *unit) int64 {
	return min(o.lastSeen(), n.lastSeen()) - max(o.countedSince(), n.countedSince())
}

// sortByRank orders streams by which one stays active. They come in the order of the set, which holds among those of one
// second.
func (r *rules) sortByRank(streams []*stream) {
	slices.SortStableFunc(streams, func(a, b *stream) int { return cmp.Compare(a.opened, b.opened) })
	if r.policy == session.EvictOldest {
		slices.Reverse(streams)
	}
}
