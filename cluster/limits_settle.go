package cluster

import (
	"slices"

	"usher/actors/session"
)

// rank says who is in excess, and since when. It is idempotent, and nobody loses a place by it.
func (r *roster) rank(t limitTerms, now int64) {
	playing, most := r.ranked(t.policy)
	if len(playing) <= most {
		r.over = 0
		for _, m := range playing {
			m.within()
		}
		return
	}
	if r.over == 0 {
		r.over = now
	}
	for i, m := range playing {
		switch {
		case i < most:
			m.within()
		case m.excess == 0:
			m.excess, m.mark, m.rounds = now, now, 0
		}
	}
}

// settle takes the places of those who zapped away, then of those in excess whose time is up. It returns who keeps his
// place although his viewer may be another's as well.
func (r *roster) settle(t limitTerms, now int64) (doubtful []*member) {
	if r.over == 0 {
		return nil
	}
	if now-r.over >= graceMS {
		r.supersedeSilent(t)
		r.rank(t, now)
		if r.over == 0 {
			return nil
		}
	}
	playing, most := r.ranked(t.policy)
	for crowd, i := crowdOf(playing), 0; i < most; i++ {
		if crowd.accompanied(playing[i]) {
			doubtful = append(doubtful, playing[i])
		}
	}
	for _, m := range playing[most:] {
		if m.due(t, doubtful, now) {
			r.lose(m, session.StreamEvicted)
		}
	}
	r.rank(t, now)
	return doubtful
}

// supersedeSilent takes the places of sessions whose viewers may have gone on to another, the longest unused first, and
// no more than exceed the limit.
func (r *roster) supersedeSilent(t limitTerms) {
	playing, most := r.ranked(t.policy)
	latest := crowdOf(playing)
	slices.SortFunc(playing, func(a, b *member) int {
		if a.usedBefore(b) {
			return -1
		}
		return 1
	})
	exceeding := len(playing) - most
	for _, m := range playing {
		if exceeding > 0 && m.silent(t) && latest.followed(m) {
			r.lose(m, session.StreamSuperseded)
			exceeding--
		}
	}
}

// due says that a session in excess is to be evicted, and counts its rounds. A round is over when it and all in its way who
// may be zapped away from were seen since the last one; the round that evicts lies after the window.
func (m *member) due(t limitTerms, doubtful []*member, now int64) bool {
	end := m.excess + t.soft
	asks := now >= end && m.seen >= end
	if len(doubtful) == 0 {
		return asks
	}
	first, last := m.seen, m.seen
	for _, d := range doubtful {
		if d.counted >= m.mark { // somebody new is in the way: it may be the viewer's next channel
			m.mark, m.rounds = now, 0
		}
		first, last = min(first, d.seen), max(last, d.seen)
	}
	if asks && (now-m.excess >= zappingMS || m.rounds >= playingRounds-1 && first > max(m.mark, end)) {
		return true
	}
	if first > m.mark {
		m.mark, m.rounds = last, m.rounds+1
	}
	return false
}

// again is when the caller's node is to tell more of it; 0: with the next heartbeat.
func (r *roster) again(t limitTerms, m *member, doubtful []*member, now int64) int64 {
	if r.over == 0 || !m.playing() {
		return 0
	}
	switch wait := m.excess + t.soft - now; {
	case len(doubtful) > 0:
		return tickMS
	case m.excess == 0:
		return 0
	case wait > 0:
		return wait
	default:
		return tickMS
	}
}

// crowd tells companions without comparing each with each.
type crowd struct {
	// device are those with a device, address those at an address, bare those of them without a device.
	device, address, bare map[string]*group
}

type group struct {
	latest *member // in use
	size   int
}

func crowdOf(playing []*member) crowd {
	c := crowd{make(map[string]*group), make(map[string]*group), make(map[string]*group)}
	for _, m := range playing {
		if m.device != "" {
			add(c.device, m.device, m)
		}
		if m.address != "" {
			add(c.address, m.address, m)
		}
		if m.address != "" && m.device == "" {
			add(c.bare, m.address, m)
		}
	}
	return c
}

func add(groups map[string]*group, name string, m *member) {
	g := groups[name]
	if g == nil {
		g = &group{latest: m}
		groups[name] = g
	}
	g.size++
	if g.latest.usedBefore(m) {
		g.latest = m
	}
}

// around are the groups that a session's companions are in.
func (c crowd) around(m *member) [2]*group {
	if m.device == "" {
		return [2]*group{c.address[m.address], nil}
	}
	return [2]*group{c.device[m.device], c.bare[m.address]}
}

// followed says that a companion was used later.
func (c crowd) followed(m *member) bool {
	for _, g := range c.around(m) {
		if g != nil && m.usedBefore(g.latest) {
			return true
		}
	}
	return false
}

// accompanied says that there is a companion.
func (c crowd) accompanied(m *member) bool {
	size := 0
	for _, g := range c.around(m) {
		if g != nil {
			size += g.size
		}
	}
	return size > 1
}
