package viewer

import (
	"bytes"
	"slices"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/edge"
	"usher/bench/viewer/playlist"
	"usher/bench/viewer/wire"
)

// open opens a channel at its entry URL, and begins to play.
func (w *worker) open(slot uint32, v *viewer) {
	e, intended := w.engine, v.due
	w.url = e.appendEntryURL(w.url[:0], v)
	failed := w.loadPlaylist(slot, v)
	if failed == "" && len(w.list.Variants) == 0 && len(w.list.Segments) == 0 {
		failed = noSegments
	}
	w.record(record.Opening, v, intended, failed)
	if failed != "" {
		w.failed(v, failed)
		return
	}
	v.phase, v.reload, v.sequence = playing, intended, emptyBuffer
	v.moved, v.period, v.isHalfway, v.hasMultivariant = w.x.End.Sub(e.start), max(v.period, shortestPeriod), false, false
	if len(w.list.Variants) == 0 {
		w.play(slot, v)
		return
	}
	w.segment = playlist.Resolve(w.segment[:0], w.url, w.choose())
	if !e.store(w.segment, &v.mediaOrigin, &v.media) || !w.storeMultivariant(v) {
		w.failed(v, badURL)
		return
	}
	w.reload(slot, v, w.x.End.Sub(e.start))
}

// storeMultivariant keeps where the multivariant playlist at w.url is, if the viewer reloads it.
func (w *worker) storeMultivariant(v *viewer) bool {
	e, again := w.engine, w.url
	v.hasMultivariant = e.reloadsMultivariant(v)
	w.segment = e.appendEntryURL(w.segment[:0], v)
	if !v.hasMultivariant || bytes.Equal(w.url, w.segment) {
		again = nil
	}
	return e.store(again, &v.multivariantOrigin, &v.multivariant)
}

// emptyBuffer is the sequence of a viewer who has fetched no segment yet.
const emptyBuffer = -1

// choose returns the URI of the variant that is played.
func (w *worker) choose() []byte {
	if w.engine.config.Behaviour.FirstVariant {
		return w.list.Variants[0].URI
	}
	return w.list.Lowest().URI
}

// reload loads the media playlist, and fetches what is new in it.
func (w *worker) reload(slot uint32, v *viewer, intended time.Duration) {
	w.url = w.engine.append(w.url[:0], v.mediaOrigin, v.media)
	failed := w.loadPlaylist(slot, v)
	if failed == "" {
		failed = w.checkLive(v, intended)
	}
	w.record(record.Playlist, v, intended, failed)
	if failed != "" {
		w.failed(v, failed)
		return
	}
	w.play(slot, v)
}

// stalledAfter is how many target durations a live list may stay as it is: one until the origin writes the next segment, and as long as a
// node serves a stale one, which is three and a half.
const stalledAfter = 5

// checkLive returns what is wrong with the media playlist in w.list, which is to be played on.
func (w *worker) checkLive(v *viewer, intended time.Duration) (failed string) {
	list := &w.list
	switch {
	case len(list.Variants) > 0:
		return notPlaylist
	case len(list.Segments) == 0:
		return noSegments
	case list.HasEnded || v.sequence != list.Sequence+int64(len(list.Segments)): // a viewer has all that was listed before
		v.moved = w.x.End.Sub(w.engine.start)
	case intended-v.moved > stalledAfter*max(shortestPeriod, list.Target):
		return stalled
	}
	return ""
}

// reloadMultivariant reloads the multivariant playlist. If it names another media playlist, with a new ticket, that one is played on.
func (w *worker) reloadMultivariant(slot uint32, v *viewer) {
	e := w.engine
	if v.multivariant.length > 0 {
		w.url = e.append(w.url[:0], v.multivariantOrigin, v.multivariant)
	} else {
		w.url = e.appendEntryURL(w.url[:0], v)
	}
	failed := w.loadPlaylist(slot, v)
	if failed == "" && len(w.list.Variants) == 0 {
		failed = notPlaylist
	}
	w.record(record.Multivariant, v, v.due, failed)
	if failed != "" {
		w.failed(v, failed)
		return
	}
	w.segment = playlist.Resolve(w.segment[:0], w.url, w.choose())
	if !e.store(w.segment, &v.mediaOrigin, &v.media) {
		w.failed(v, badURL)
		return
	}
	v.failures = 0
	v.due, v.isHalfway = v.reload, false
}

// What is wrong with an answer that is no failure of HTTP.
const (
	// noAnswer is none when the run ended, for a time in which a server answers.
	noAnswer    = "no answer"
	notPlaylist = "not a playlist"
	// noSegments is a media playlist that lists nothing, and stalled a live one that lists nothing new for too long.
	noSegments = "no segments"
	stalled    = "stalled"
	badURL     = "bad URL"
	redirected = "too many redirects"
)

// Failures returns what requests of viewers and edges can fail by, beside a status such as "status 503".
func Failures() []string {
	return slices.Concat([]string{notPlaylist, noSegments, stalled, badURL, redirected, noAnswer}, wire.Failures(), edge.Failures())
}

// Counts returns the names of what is counted beside requests. A count that is zero is in no result.
func Counts() []string {
	return []string{"free_rides", "denials", "zaps", "pauses", "roams", "hops", "leaves", "returns", "segments.missed"}
}

// shortestPeriod is that of a playlist without a target duration, or with one of less than a second.
const shortestPeriod = time.Second

// play fetches the new segments of the media playlist in w.list, and says when it is reloaded.
func (w *worker) play(slot uint32, v *viewer) {
	e := w.engine
	v.period = max(shortestPeriod, w.list.Target)
	if !e.store(w.url, &v.mediaOrigin, &v.media) {
		w.failed(v, badURL)
		return
	}
	if failed := w.fetchSegments(slot, v); failed != "" {
		w.failed(v, failed)
		return
	}
	v.failures = 0
	v.advance()
	switch {
	case w.list.HasEnded:
		v.phase = opening // the next film
	case v.hasMultivariant:
		v.due, v.isHalfway = v.reload-v.period/2, true
	}
}

// reloadsMultivariant reports whether the viewer's player reloads the multivariant playlist.
func (e *engine) reloadsMultivariant(v *viewer) bool {
	share := e.config.Behaviour.Multivariant
	return share > 0 && float64(mix(e.config.Seed+uint64(v.number))>>11)/(1<<53) < share
}

// fetchSegments fetches the listed segments that the viewer has not. One is due when the playlist has listed it. While the buffer fills,
// it is due when the one before it is complete.
func (w *worker) fetchSegments(slot uint32, v *viewer) (failed string) {
	list, due := &w.list, w.x.End
	isStart := v.sequence == emptyBuffer
	w.engine.catchUp(v, list)
	if isStart && len(list.Init.URI) > 0 && !w.engine.config.Light {
		if failed = w.fetch(slot, v, list.Init, due); failed != "" {
			return failed
		}
	}
	for ; v.sequence < list.Sequence+int64(len(list.Segments)); v.sequence++ {
		s := &list.Segments[v.sequence-list.Sequence]
		if s.Gap || !w.engine.wants(v) {
			continue
		}
		if isStart && w.x.End.After(due) {
			due = w.x.End
		}
		if failed = w.fetch(slot, v, s.Resource, due); failed != "" {
			return failed
		}
	}
	return ""
}

// catchUp moves the viewer to a segment that is listed, or will be next.
func (e *engine) catchUp(v *viewer, list *playlist.Playlist) {
	end := list.Sequence + int64(len(list.Segments))
	switch {
	case v.sequence == emptyBuffer:
		v.sequence = max(list.Sequence, end-int64(e.config.Behaviour.Buffer))
	case v.sequence > end: // the server began to count anew
		v.sequence = list.Sequence
	case v.sequence < list.Sequence:
		e.recorder.Count("segments.missed", float64(list.Sequence-v.sequence))
		v.sequence = list.Sequence
	}
}

// wants reports whether the viewer fetches the segment.
func (e *engine) wants(v *viewer) bool {
	every := uint64(e.config.SegmentEvery)
	if every == 0 {
		return !e.config.Light
	}
	return mix(uint64(v.number)^uint64(v.sequence))%every == 0
}

func (w *worker) fetch(slot uint32, v *viewer, r playlist.Resource, due time.Time) (failed string) {
	w.segment = playlist.Resolve(w.segment[:0], w.url, r.URI)
	w.x.Offset, w.x.Length = r.Offset, r.Length
	if failed = w.follow(slot, v, &w.segment); failed == "" && w.x.Bytes == 0 {
		failed = wire.BrokenBody // no segment is empty
	}
	w.x.Offset, w.x.Length = 0, 0
	w.record(record.Segment, v, due.Sub(w.engine.start), failed)
	return failed
}

// failed says when the viewer tries again, as set-top boxes do: soon, and after a denial or many failures at the entry URL.
func (w *worker) failed(v *viewer, failure string) {
	b := &w.engine.config.Behaviour
	wait := b.Retry
	v.failures++ // after 255 failures they count anew
	if isDenial(failure) {
		wait = b.RetryDenied
		v.phase = opening
	} else if int(v.failures)%b.GiveUp == 0 {
		v.phase = opening
	}
	v.due = time.Since(w.engine.start) + wait
	v.isHalfway = false
}

func isDenial(failure string) bool { return failure == "status 403" || failure == "status 401" }
