package viewer

import (
	"math"
	"time"
)

// viewer is one viewer. It has no pointers, and a million of them are a plain table. The worker of the viewer's turn owns it, then
// the wheel.
type viewer struct {
	// due is when the next turn is meant to begin, since the start of the run. Latencies count from it.
	due time.Duration
	// reload is when the schedule that was fixed at the viewer's start reloads the media playlist next. due is another time for a
	// retry, or halfway before it for a multivariant playlist.
	reload time.Duration
	// period is the time between two reloads.
	period time.Duration
	// moved is when the playlist last listed something new, since the start of the run.
	moved time.Duration
	// sequence is the media sequence number of the next segment to fetch.
	sequence int64
	// media and multivariant are the playlists' paths at their origins. An empty multivariant is the entry URL.
	media, multivariant text
	number, channel     uint32
	// address is the index of the viewer's address.
	address uint32
	// next is the next slot in a chain.
	next uint32
	// node is the target of the entry URL; the origins are those of the playlists.
	node, mediaOrigin, multivariantOrigin uint16
	phase                                 phase
	failures                              uint8
	// isHalfway reports that the next turn is for the multivariant playlist.
	isHalfway bool
	// hasMultivariant reports that the viewer reloads a multivariant playlist.
	hasMultivariant bool
}

// phase is what the next turn does.
type phase uint8

const (
	arriving phase = iota // opens for the first time
	away                  // comes back
	opening
	playing
)

// advance makes the viewer due at the next reload of their schedule.
func (v *viewer) advance() {
	for v.reload <= v.due {
		v.reload += v.period
	}
	v.due, v.isHalfway = v.reload, false
}

// draw returns a number from 0 to 1 by chance, the same each time for one purpose at one turn of one viewer.
func (e *engine) draw(v *viewer, purpose uint64) float64 {
	return float64(mix(e.config.Seed^mix(uint64(v.number)^mix(uint64(v.due)^purpose<<56)))>>11) / (1 << 53)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// What viewers draw by chance.
const (
	drawLeave = iota
	drawAway
	drawZap
	drawChannel
	drawPause
	drawPauseFor
	drawRoam
	drawHop
	drawMultivariant
	drawSegment
	drawTrace
)

// happens reports whether something that happens once in mean on average happens in this period.
func (e *engine) happens(v *viewer, purpose uint64, mean time.Duration) bool {
	return mean > 0 && e.draw(v, purpose) < 1-math.Exp(-v.period.Seconds()/mean.Seconds())
}

// lasts returns how long something lasts that lasts mean on average.
func (e *engine) lasts(v *viewer, purpose uint64, mean time.Duration) time.Duration {
	return time.Duration(-math.Log(1-e.draw(v, purpose)) * float64(mean))
}

// behave does what a viewer does beside playing. Without it, this turn reloads the playlist.
func (e *engine) behave(slot uint32, v *viewer) (isReload, isGone bool) {
	b := &e.config.Behaviour
	switch {
	case e.happens(v, drawLeave, b.Watch):
		return false, e.leave(slot, v)
	case e.happens(v, drawPause, b.Pause):
		e.recorder.Count("pauses", 1)
		v.due = wholeTicks(v.due + max(v.period, e.lasts(v, drawPauseFor, b.PauseFor)))
		v.reload = v.due
		if e.config.Auth == nil {
			v.sequence = emptyBuffer // live again, and not what was missed
		}
		return false, false
	case e.happens(v, drawZap, b.Zap):
		e.recorder.Count("zaps", 1)
		n := uint32(len(e.config.Channels))
		v.channel = (v.channel + 1 + uint32(e.draw(v, drawChannel)*float64(max(n, 2)-1))) % n
		v.phase = opening
		return false, false
	}
	if e.happens(v, drawRoam, b.Roam) {
		e.recorder.Count("roams", 1)
		v.address += 0x9e3779b1 // far away, and a new one each time
		e.connections.drop(slot)
	}
	if e.happens(v, drawHop, b.Hop) {
		e.recorder.Count("hops", 1)
		e.hop(v)
		e.connections.drop(slot)
	}
	return true, false
}

// hop moves the viewer to the next node, as a balancer does. Playlists of other hosts stay where they are.
func (e *engine) hop(v *viewer) {
	n := uint16(len(e.config.Targets))
	v.node = (v.node + 1) % n
	if v.mediaOrigin < n {
		v.mediaOrigin = v.node
	}
	if v.multivariantOrigin < n {
		v.multivariantOrigin = v.node
	}
}

// leave ends watching, for some time or for good.
func (e *engine) leave(slot uint32, v *viewer) (isGone bool) {
	e.recorder.Count("leaves", 1)
	e.alive.Add(-1)
	e.connections.drop(slot)
	if mean := e.config.Behaviour.Away; mean > 0 {
		v.due += e.lasts(v, drawAway, mean)
		v.phase = away
		return false
	}
	e.free(slot)
	return true
}
