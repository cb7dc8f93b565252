package limits

import (
	"slices"

	"usher/actors/session"
)

// markExcess records which streams are in excess, and since when. It is idempotent, and deactivates no stream.
func (s *streamSet) markExcess(r rules, now int64) {
	counted, limit := s.counted(r.policy)
	if len(counted) <= limit {
		s.exceededSince = 0
		for _, one := range counted {
			one.clearExcess()
		}
		return
	}
	if s.exceededSince == 0 {
		s.exceededSince = now
	}
	for i, one := range counted {
		switch {
		case i < limit:
			one.clearExcess()
		case one.excessSince == 0:
			one.excessSince, one.roundStart, one.rounds = now, now, 0
		}
	}
}

// evictExcess supersedes the streams that viewers zapped away from, then evicts those in excess whose grace period is
// over. It returns the ambiguous streams: those within the limit that may share their viewer with another stream.
func (s *streamSet) evictExcess(r rules, now int64) (ambiguous []*stream) {
	if s.exceededSince == 0 {
		return nil
	}
	if now-s.exceededSince >= reportWindowMS {
		s.supersedeSilent(r)
		s.markExcess(r, now)
		if s.exceededSince == 0 {
			return nil
		}
	}
	counted, limit := s.counted(r.policy)
	index := indexByViewer(counted)
	for _, one := range counted[:limit] {
		if index.hasOther(one) {
			ambiguous = append(ambiguous, one)
		}
	}
	for _, one := range counted[limit:] {
		if one.mustEvict(r, ambiguous, now) {
			s.deactivate(one, session.StreamEvicted)
		}
	}
	s.markExcess(r, now)
	return ambiguous
}

// supersedeSilent supersedes streams whose viewers may have gone on to another one: those unused for longest first, and
// no more than exceed the limit.
func (s *streamSet) supersedeSilent(r rules) {
	counted, limit := s.counted(r.policy)
	index := indexByViewer(counted)
	slices.SortFunc(counted, func(a, b *stream) int {
		if a.usedBefore(b) {
			return -1
		}
		return 1
	})
	exceeding := len(counted) - limit
	for _, one := range counted {
		if exceeding > 0 && one.isSilent(r) && index.hasLater(one) {
			s.deactivate(one, session.StreamSuperseded)
			exceeding--
		}
	}
}

// mustEvict reports whether a stream in excess is to be evicted, and counts its rounds. A round is complete when the
// stream and all ambiguous ones were used since the round began; the round that evicts lies after the grace period.
func (s *stream) mustEvict(r rules, ambiguous []*stream, now int64) bool {
	graceEnd := s.excessSince + r.gracePeriod
	isUsedAfterGrace := now >= graceEnd && s.lastSeen >= graceEnd
	if len(ambiguous) == 0 {
		return isUsedAfterGrace
	}
	first, last := s.lastSeen, s.lastSeen
	for _, o := range ambiguous {
		if o.playingSince >= s.roundStart { // a new stream outranks it: it may be the viewer's next channel
			s.roundStart, s.rounds = now, 0
		}
		first, last = min(first, o.lastSeen), max(last, o.lastSeen)
	}
	isLastRound := s.rounds >= roundsToEvict-1 && first > max(s.roundStart, graceEnd)
	if isUsedAfterGrace && (now-s.excessSince >= maxZappingMS || isLastRound) {
		return true
	}
	if first > s.roundStart {
		s.roundStart, s.rounds = last, s.rounds+1
	}
	return false
}

// recheckDelay is in how many ms the node is to report the stream again; 0: with the next heartbeat.
func (s *streamSet) recheckDelay(r rules, one *stream, ambiguous []*stream, now int64) int64 {
	if s.exceededSince == 0 || !one.isCounted() {
		return 0
	}
	switch graceLeft := one.excessSince + r.gracePeriod - now; {
	case len(ambiguous) > 0:
		return reportIntervalMS
	case one.excessSince == 0:
		return 0
	case graceLeft > 0:
		return graceLeft
	default:
		return reportIntervalMS
	}
}

// viewerIndex groups streams that may share a viewer, so that not every pair of them is compared.
type viewerIndex struct {
	// byDevice has the streams with a device, byAddress those with an address, withoutDevice those of them that have no
	// device.
	byDevice, byAddress, withoutDevice map[string]*viewerGroup
}

type viewerGroup struct {
	lastUsed *stream
	size     int
}

func indexByViewer(counted []*stream) viewerIndex {
	x := viewerIndex{make(map[string]*viewerGroup), make(map[string]*viewerGroup), make(map[string]*viewerGroup)}
	for _, one := range counted {
		if one.device != "" {
			addToGroup(x.byDevice, one.device, one)
		}
		if one.address != "" {
			addToGroup(x.byAddress, one.address, one)
		}
		if one.address != "" && one.device == "" {
			addToGroup(x.withoutDevice, one.address, one)
		}
	}
	return x
}

func addToGroup(groups map[string]*viewerGroup, name string, one *stream) {
	g := groups[name]
	if g == nil {
		g = &viewerGroup{lastUsed: one}
		groups[name] = g
	}
	g.size++
	if g.lastUsed.usedBefore(one) {
		g.lastUsed = one
	}
}

// groupsOf returns the groups with the streams that may share the stream's viewer; either may be nil.
func (x viewerIndex) groupsOf(one *stream) [2]*viewerGroup {
	if one.device == "" {
		return [2]*viewerGroup{x.byAddress[one.address], nil}
	}
	return [2]*viewerGroup{x.byDevice[one.device], x.withoutDevice[one.address]}
}

// hasLater reports whether a stream that may have the same viewer was used later.
func (x viewerIndex) hasLater(one *stream) bool {
	for _, g := range x.groupsOf(one) {
		if g != nil && one.usedBefore(g.lastUsed) {
			return true
		}
	}
	return false
}

// hasOther reports whether there is another stream that may have the same viewer.
func (x viewerIndex) hasOther(one *stream) bool {
	size := 0
	for _, g := range x.groupsOf(one) {
		if g != nil {
			size += g.size
		}
	}
	return size > 1
}
