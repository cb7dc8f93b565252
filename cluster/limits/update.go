package limits

import (
	"bytes"
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
	for i := range u.streams {
		if u.streams[i].id == id {
			return &u.streams[i]
		}
	}
	return nil
}

// count marks since when each stream counts. It returns those that do, the limit, which is the smallest of theirs, and
// whether they exceed it.
func (u *update) count() (counted []*stream, limit int, isExceeded bool) {
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
	return counted, limit, len(counted) > limit
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
	case s == nil:
		if s = u.add(p); s == nil {
			return u.stateWithoutRoom(p)
		}
	case s.state == session.StreamSuperseded && p.opened > s.opened:
		*s = stream{id: s.id}
	}
	s.applyReport(p, u.now)
	u.supersedeSameDevice(s, p.isJoin)
	return s.state
}

// readmit makes a reported stream that was evicted active again, if it still asks and the limit allows one more. It counts
// at once, so that it exceeds nothing.
func (u *update) readmit(p *report) {
	s := u.find(p.id)
	if s != nil && s.state == session.StreamEvicted && p.age <= s.zapTimeout && !u.isLimitReached(s.maxStreams) {
		s.state, s.isPlaying = session.StreamActive, true
	}
}

// applyReport applies a report of the stream. The node that saw the viewer last decides: another node has an idle copy of the
// session.
func (s *stream) applyReport(p *report, now int64) {
	seen := now - p.age
	if seen+jitterMS >= s.lastSeen {
		if p.maxStreams < s.maxStreams && s.countedSince > 0 {
			s.countedSince = now // a lower limit has a grace period of its own
		}
		s.reportedAt, s.maxStreams, s.device = now, p.maxStreams, p.device
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
	if u.result.isFull && u.isLimitReached(p.maxStreams) {
		return session.StreamEvicted
	}
	return session.StreamActive
}

// isLimitReached reports whether the limit, or the one given if that is smaller, allows no further stream.
func (u *update) isLimitReached(most int) bool {
	counted, limit, _ := u.count()
	return len(counted) > 0 && len(counted) >= min(limit, most)
}

// supersedeSameDevice leaves a device one stream: the one opened last; within one second, the one that joined last.
func (u *update) supersedeSameDevice(s *stream, isJoin bool) {
	if s.device == "" || s.state == session.StreamSuperseded {
		return
	}
	for i := range u.streams {
		o := &u.streams[i]
		if o == s || o.state != session.StreamActive || o.device != s.device {
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

// evict evicts each stream that has played for the grace period together with as many streams that outrank it as the limit
// allows.
func (u *update) evict() {
	counted, limit, isExceeded := u.count()
	if !isExceeded {
		return
	}
	grace := u.rules.gracePeriod
	for _, s := range counted {
		grace = max(grace, 2*s.zapTimeout+reportDelayMS)
	}
	slices.SortFunc(counted, u.rules.compareRank)
	for i, s := range counted {
		together := 0
		for _, o := range counted[:i] {
			if o.state == session.StreamActive && min(o.lastSeen, s.lastSeen)-max(o.countedSince, s.countedSince) >= grace {
				together++
			}
		}
		if together >= limit {
			u.deactivate(s, session.StreamEvicted)
		}
	}
}

// compareRank orders streams by which one stays active.
func (r *rules) compareRank(a, b *stream) int {
	byAge := cmp.Compare(a.opened, b.opened)
	if r.policy == session.EvictOldest {
		byAge = -byAge
	}
	return cmp.Or(byAge, bytes.Compare(a.id[:], b.id[:]))
}
