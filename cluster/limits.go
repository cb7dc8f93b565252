package cluster

import (
	"bytes"
	"slices"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// What holds of a user's limit is here and, line by line the same, in lua/limit.lua, which runs in Redis; tests hold the
// two to one another. All times are in milliseconds of one clock, Redis' or the process's, but opened, which is in
// seconds as tickets have it.
//
//   - A session takes a place from when it is counted until it loses it, leaves or is silent for LimitRules.Idle.
//   - Those beyond the smallest Max that any held session was given are in excess, by policy: the ones opened first or
//     last. The smallest, because it does not depend on who asks: with the caller's own, two sessions whose decisions
//     differ would start and stop each other's windows at each heartbeat. So a limit that is lowered holds with the first
//     session that hears of it, and one that is raised with the last.
//   - One that was in excess for LimitRules.Soft and still asks after that is evicted. Who is silent needs no eviction.
//   - Several sessions of what may be one viewer may be a zapping one's. So when the limit is exceeded those that went
//     silent are superseded, and nobody is evicted until all of them that are in the way were seen to play at once.
//   - Who lost his place keeps that standing while he asks, whatever call is lost, late or repeated.
const (
	// mostMembers bounds a user's sessions, so that a flood of them does not hold Redis up.
	mostMembers = 512
	// graceMS is for how long all nodes may tell how their sessions stand after the limit was exceeded, before a session
	// counts as silent: the node that speaks first may not be the one where it is watched.
	graceMS = 1000
	// tickMS is how often nodes tell that while it matters.
	tickMS = 1000
	// jitterMS is by how much two calls may place the same request apart.
	jitterMS = 1000
	// playingRounds is how often, in turn, sessions of what may be one viewer have to be seen all to be watched at once.
	// Zapping there and back takes two.
	playingRounds = 4
	// zappingMS is after how long in excess nobody passes for zapping any more, so that one who opens session after
	// session does not escape his limit.
	zappingMS = 600_000
)

// limitTerms are LimitRules in milliseconds.
type limitTerms struct {
	policy                          session.LimitPolicy
	soft, silence, evictedFor, idle int64
}

func termsOf(r session.LimitRules) limitTerms {
	return limitTerms{
		policy: r.Policy, soft: r.GracePeriod.Milliseconds(), silence: r.ZapTimeout.Milliseconds(),
		evictedFor: r.EvictionTTL.Milliseconds(), idle: r.IdleTimeout.Milliseconds(),
	}
}

// keep is for how long a user is remembered after the last call: longer than any of his sessions.
func (t limitTerms) keep() int64 { return 2 * max(t.idle, t.evictedFor) }

// limitCall is a Join or a Hold.
type limitCall struct {
	join    bool
	id      backends.SessionID
	opened  int64
	age     int64 // since it was seen
	counted bool
	max     int
	// device and address tell viewers apart, if not empty.
	device, address string
}

func callOf(join bool, m session.StreamEntry, now time.Time) limitCall {
	return limitCall{
		join: join, id: m.Session, opened: m.Opened.Unix(), age: max(now.Sub(m.LastSeen).Milliseconds(), 0),
		counted: m.IsPlaying, max: max(m.MaxStreams, 1), device: m.Device, address: m.Address,
	}
}

// member is a session of a user.
type member struct {
	id     backends.SessionID
	opened int64
	// seen is when its viewer last asked for something; an evicted one's requests count, too. beat is when the node that
	// saw him last said so: up to then it knows.
	seen, beat int64
	// counted is since when it takes a place; 0: it does not play yet.
	counted  int64
	standing session.StreamState
	// excess is since when it is in excess; 0: it is not. Since mark it was not yet seen in turn with those in its way,
	// before that it was so many rounds.
	excess, mark int64
	rounds       int
	max          int

	device, address string
}

func (m *member) playing() bool { return m.standing == session.StreamActive && m.counted > 0 }

// silent says that its viewer was, when last told, away for longer than any player pauses.
func (m *member) silent(t limitTerms) bool { return m.beat-m.seen > t.silence }

// companion says that two sessions may be one viewer's, who zaps from one to the other.
func (m *member) companion(o *member) bool {
	if m.device != "" && o.device != "" {
		return m.device == o.device
	}
	return m.address != "" && m.address == o.address
}

// usedBefore orders by use.
func (m *member) usedBefore(o *member) bool {
	if m.seen != o.seen {
		return m.seen < o.seen
	}
	return bytes.Compare(m.id[:], o.id[:]) < 0
}

// outranks orders by who is to keep his place.
func (m *member) outranks(o *member, p session.LimitPolicy) bool {
	switch {
	case m.opened == o.opened:
		return bytes.Compare(m.id[:], o.id[:]) < 0
	case p == session.EvictOldest:
		return m.opened > o.opened
	default:
		return m.opened < o.opened
	}
}

func (m *member) within() { m.excess, m.mark, m.rounds = 0, 0, 0 }

// roster is a user's sessions.
type roster struct {
	members map[backends.SessionID]*member
	// over is since when the limit is exceeded; 0: it is not.
	over int64
	// cut are who lost their places by the call at hand.
	cut []session.EvictedStream
}

func newRoster() *roster { return &roster{members: make(map[backends.SessionID]*member)} }

// call does a Join or a Hold. exceeded says that the limit is exceeded since this very call.
func (r *roster) call(t limitTerms, calls []limitCall, now int64) (said session.LimitResult, exceeded bool) {
	r.refresh(t, now)
	was := r.over
	members := make([]*member, len(calls))
	for i, c := range calls {
		members[i] = r.admit(t, c, now)
	}
	r.rank(t, now)
	doubtful := r.settle(t, now)
	said.States = make([]session.StreamState, len(calls))
	for i, m := range members {
		if m == nil {
			continue
		}
		said.States[i] = m.standing
		if again := time.Duration(r.again(t, m, doubtful, now)) * time.Millisecond; again > 0 && (said.RecheckIn == 0 || again < said.RecheckIn) {
			said.RecheckIn = again
		}
	}
	said.Evicted, r.cut = r.cut, nil
	return said, was == 0 && r.over > 0
}

// leave gives a place back. Those who lost theirs have none: were they forgotten, a copy of theirs on another node would
// count as new.
func (r *roster) leave(t limitTerms, id backends.SessionID, now int64) {
	r.refresh(t, now)
	if m := r.members[id]; m != nil && m.standing == session.StreamActive {
		delete(r.members, id)
		r.rank(t, now)
	}
}

// refresh forgets who is gone, so that what is still in excess is known before somebody new comes.
func (r *roster) refresh(t limitTerms, now int64) {
	r.over = min(r.over, now)
	for id, m := range r.members {
		// A clock that was set back, as by a failover, must not keep anybody for longer.
		m.seen, m.beat, m.counted = min(m.seen, now), min(m.beat, now), min(m.counted, now)
		m.excess, m.mark = min(m.excess, now), min(m.mark, now)
		patience := t.idle
		if m.standing == session.StreamEvicted {
			patience = t.evictedFor
		}
		if now-m.seen >= patience {
			delete(r.members, id)
		}
	}
	r.rank(t, now)
}

// admit finds or makes the caller's entry; nil if it is too long silent to have one.
func (r *roster) admit(t limitTerms, c limitCall, now int64) *member {
	m := r.members[c.id]
	switch {
	case m == nil && c.age >= t.idle:
		return nil
	case m == nil:
		r.makeRoom()
		m = &member{id: c.id}
		r.members[c.id] = m
		m.begin(c, now)
	case m.standing == session.StreamSuperseded && c.opened > m.opened:
		m.begin(c, now)
	default:
		m.touch(c, now)
	}
	if m.standing == session.StreamEvicted {
		r.readmit(t, c, m, now)
	}
	if m.standing == session.StreamActive && m.device != "" {
		r.supersedeDevice(c, m)
	}
	return m
}

// begin makes an entry a new session's.
func (m *member) begin(c limitCall, now int64) {
	*m = member{
		id: m.id, opened: c.opened, seen: now - c.age, beat: now, max: c.max, device: c.device, address: c.address,
	}
	if c.counted {
		m.counted = now
	}
}

// touch takes what a node says. The node that saw the viewer last speaks for the session: another one has an idle copy.
func (m *member) touch(c limitCall, now int64) {
	seen := now - c.age
	if seen+jitterMS >= m.seen {
		m.beat, m.max, m.device, m.address = now, c.max, c.device, c.address
	}
	m.seen, m.opened = max(m.seen, seen), max(m.opened, c.opened)
	if c.counted && m.counted == 0 {
		m.counted = now
	}
}

// supersedeDevice leaves each device one session: the one opened last; of one second, the one that joined last.
func (r *roster) supersedeDevice(c limitCall, m *member) {
	for _, o := range r.members {
		if o == m || o.standing != session.StreamActive || o.device != m.device {
			continue
		}
		if m.opensAfter(o, c.join) {
			r.lose(o, session.StreamSuperseded)
			continue
		}
		r.lose(m, session.StreamSuperseded)
		return
	}
}

func (m *member) opensAfter(o *member, join bool) bool {
	return m.opened > o.opened || m.opened == o.opened && join
}

// readmit gives an evicted session a place again if one is free, or if a session is in its way that its viewer has left.
// It is counted at once, so that it exceeds nothing.
func (r *roster) readmit(t limitTerms, c limitCall, m *member, now int64) {
	playing, most := 0, m.max
	var left *member
	for _, o := range r.members {
		if o.standing != session.StreamActive {
			continue
		}
		most = min(most, o.max)
		sameDevice := m.device != "" && o.device == m.device
		away := m.companion(o) && o.usedBefore(m) && o.silent(t)
		if sameDevice && !away && !m.opensAfter(o, c.join) {
			return // its viewer is there
		}
		if !o.playing() {
			continue
		}
		playing++
		if (away || sameDevice) && (left == nil || o.usedBefore(left)) {
			left = o
		}
	}
	if playing > most || playing == most && left == nil {
		return
	}
	if playing == most {
		r.lose(left, session.StreamSuperseded)
	}
	m.standing, m.counted = session.StreamActive, now
	m.within()
}

// lose takes a session's place.
func (r *roster) lose(m *member, s session.StreamState) {
	m.standing = s
	m.within()
	r.cut = append(r.cut, session.EvictedStream{Session: m.id, Opened: time.Unix(m.opened, 0), State: s})
}

// makeRoom forgets somebody if there are too many: rather one without a place, rather one who was long not seen.
func (r *roster) makeRoom() {
	if len(r.members) < mostMembers {
		return
	}
	var least *member
	for _, m := range r.members {
		if least == nil || m.worth() < least.worth() || m.worth() == least.worth() && m.usedBefore(least) {
			least = m
		}
	}
	delete(r.members, least.id)
}

// worth is how much there is to lose if an entry is forgotten.
func (m *member) worth() int {
	switch {
	case m.standing == session.StreamSuperseded:
		return 0
	case m.standing == session.StreamEvicted:
		return 1
	case m.counted == 0:
		return 2
	case m.excess > 0:
		return 3
	default:
		return 4
	}
}

// ranked are those who take places, those who are to keep theirs first, and how many places there are.
func (r *roster) ranked(p session.LimitPolicy) (playing []*member, most int) {
	for _, m := range r.members {
		if m.standing != session.StreamActive {
			continue
		}
		if most == 0 || m.max < most {
			most = m.max
		}
		if m.playing() {
			playing = append(playing, m)
		}
	}
	if len(playing) > most {
		slices.SortFunc(playing, func(a, b *member) int {
			if a.outranks(b, p) {
				return -1
			}
			return 1
		})
	}
	return playing, most
}
