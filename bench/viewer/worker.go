package viewer

import (
	"time"

	"usher/bench/viewer/playlist"
	"usher/bench/viewer/wire"
)

// worker runs turns of viewers, one at a time. It keeps the buffers that they need while a request is in flight.
type worker struct {
	engine *engine
	x      *wire.Exchange
	list   playlist.Playlist
	// url is that of the playlist at hand, and segment that of a segment.
	url, segment []byte
	// trace is the id of the trace of the last request; empty: none.
	trace []byte
	// sent is when the request at hand was first sent, before its redirects.
	sent time.Time
}

func newWorker(e *engine) *worker {
	x := wire.NewExchange()
	x.Timeout = e.config.Timeout
	return &worker{engine: e, x: x}
}

// run runs a turn, and others that wait.
func (w *worker) run(t turn) {
	e := w.engine
	for ok := true; ok; t, ok = e.next(w) {
		v := &e.viewers[t.slot]
		e.delays.add(time.Since(e.start) - max(t.from, v.due))
		w.turns(t.slot, v)
	}
}

// turns runs a viewer's turn, and those that are due when it is over.
func (w *worker) turns(slot uint32, v *viewer) {
	e := w.engine
	for {
		if isGone := w.turn(slot, v); isGone || e.client.IsClosed() {
			return
		}
		now := time.Since(e.start)
		switch {
		case v.due > now:
			e.wheel.add(slot)
			return
		case e.isBehind(): // others first
			e.submit(turn{slot, now})
			return
		}
	}
}

// turn does what a viewer is due to do, and says when they are due again.
func (w *worker) turn(slot uint32, v *viewer) (isGone bool) {
	e := w.engine
	if now := time.Since(e.start); now-v.due > e.config.Timeout {
		return e.skip(slot, v, now)
	}
	switch v.phase {
	case arriving:
		e.recorder.Started(1)
		e.alive.Add(1)
		v.phase = opening
	case away:
		e.recorder.Count("returns", 1)
		e.alive.Add(1)
		v.phase = opening
	}
	if v.isHalfway {
		w.reloadMultivariant(slot, v)
		return false
	}
	if v.phase == playing {
		if isReload, isGone := e.behave(slot, v); !isReload {
			return isGone
		}
	}
	switch {
	case e.config.Auth != nil:
		w.ask(slot, v)
	case v.phase == opening:
		w.open(slot, v)
	default:
		w.reload(slot, v, v.due)
	}
	return false
}

// skip drops what could not be sent in time: a start, or the reloads that are more than the timeout late.
func (e *engine) skip(slot uint32, v *viewer, now time.Duration) (isGone bool) {
	dropped := 0
	if v.phase != playing || v.due != v.reload { // a start, a retry, or a multivariant playlist
		dropped++
	}
	switch v.phase {
	case arriving:
		e.free(slot)
		isGone = true
	case playing:
		for v.reload < now-e.config.Timeout {
			v.reload += v.period
			dropped++
		}
		v.due, v.isHalfway = v.reload, false
	default:
		v.due = now
	}
	e.recorder.Dropped(dropped)
	return isGone
}
