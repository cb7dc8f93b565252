package viewer

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"usher/bench/record"
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
	isRequest := true
	if v.phase == playing {
		if isRequest, isGone = e.behave(slot, v); !isRequest {
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

// skip drops what could not be sent in time: a start, or reloads.
func (e *engine) skip(slot uint32, v *viewer, now time.Duration) (isGone bool) {
	dropped := 1
	switch v.phase {
	case arriving:
		e.free(slot)
		isGone = true
	case playing:
		for v.due, v.isHalfway = v.reload, false; v.due < now; dropped++ {
			v.reload += v.period
			v.due = v.reload
		}
	default:
		v.due = now
	}
	e.recorder.Dropped(dropped)
	return isGone
}

// open opens a channel at its entry URL, and begins to play.
func (w *worker) open(slot uint32, v *viewer) {
	e, intended := w.engine, v.due
	w.url = e.appendEntryURL(w.url[:0], v)
	failed := w.loadPlaylist(slot, v)
	w.record(record.Opening, v, intended, failed)
	if failed != "" {
		w.failed(v, failed)
		return
	}
	v.phase, v.reload, v.sequence = playing, intended, emptyBuffer
	v.isHalfway = false
	if len(w.list.Variants) == 0 {
		w.play(slot, v)
		return
	}
	w.segment = playlist.Resolve(w.segment[:0], w.url, w.choose())
	again := w.url
	if !e.reloadsMultivariant(v) {
		again = nil
	}
	if !e.store(again, &v.multivariantOrigin, &v.multivariant) || !e.store(w.segment, &v.mediaOrigin, &v.media) {
		w.failed(v, badURL)
		return
	}
	w.reload(slot, v, w.x.End.Sub(e.start))
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
	if failed == "" && len(w.list.Variants) > 0 {
		failed = notPlaylist
	}
	w.record(record.Playlist, v, intended, failed)
	if failed != "" {
		w.failed(v, failed)
		return
	}
	w.play(slot, v)
}

// reloadMultivariant reloads the multivariant playlist. If it names another media playlist, with a new ticket, that one is played on.
func (w *worker) reloadMultivariant(slot uint32, v *viewer) {
	e := w.engine
	w.url = e.append(w.url[:0], v.multivariantOrigin, v.multivariant)
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
	notPlaylist = "not a playlist"
	badURL      = "bad URL"
	redirected  = "too many redirects"
)

// loadPlaylist loads the playlist at w.url, which becomes that of the last redirect.
func (w *worker) loadPlaylist(slot uint32, v *viewer) (failed string) {
	w.x.KeepBody = true
	failed = w.follow(slot, v, &w.url)
	w.x.KeepBody = false
	if failed == "" && w.list.Read(w.x.Body) != nil {
		failed = notPlaylist
	}
	return failed
}

// maxRedirects is how many redirects a viewer follows.
const maxRedirects = 5

// follow fetches a URL and follows redirects.
func (w *worker) follow(slot uint32, v *viewer, url *[]byte) (failed string) {
	e := w.engine
	w.beginTrace()
	for n := 0; ; n++ {
		origin, target, ok := playlist.SplitURL(*url)
		var index uint16
		if ok {
			index, ok = e.origins.addBytes(origin)
		}
		if !ok {
			return badURL
		}
		if len(target) == 0 {
			target = []byte("/")
		}
		w.x.Target, w.x.Header = target, w.appendHeader(w.x.Header[:0], v)
		server := e.origins.at(index)
		conn := e.connections.take(slot, v, server)
		conn.Do(w.x)
		e.connections.give(server, conn)
		if n == 0 {
			w.sent = w.x.Sent
		}
		if w.x.Failure != "" || w.x.Status < 300 || w.x.Status > 399 || len(w.x.Location) == 0 {
			return w.x.FailureText()
		}
		if n == maxRedirects {
			return redirected
		}
		*url = append((*url)[:0], playlist.Resolve(nil, *url, w.x.Location)...)
	}
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
	if v.multivariant.length > 0 {
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
	if isStart {
		v.sequence = list.Sequence + int64(max(0, len(list.Segments)-w.engine.config.Behaviour.Buffer))
	}
	end := list.Sequence + int64(len(list.Segments))
	if v.sequence > end { // the server began to count anew
		v.sequence = list.Sequence
	}
	if missed := list.Sequence - v.sequence; missed > 0 {
		w.engine.recorder.Count("segments.missed", float64(missed))
		v.sequence = list.Sequence
	}
	if isStart && len(list.Init.URI) > 0 && !w.engine.config.Light {
		if failed = w.fetch(slot, v, list.Init, due); failed != "" {
			return failed
		}
	}
	for ; v.sequence < end; v.sequence++ {
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
	failed = w.follow(slot, v, &w.segment)
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

// record records a request that was meant to be sent at intended.
func (w *worker) record(op record.Op, v *viewer, intended time.Duration, failed string) {
	e := w.engine
	if e.client.IsClosed() {
		return // the run's end is no failure
	}
	if e.config.IsBad != nil && e.config.IsBad(int(v.number)) {
		switch {
		case failed == "":
			e.recorder.Count("free_rides", 1)
		case isDenial(failed):
			e.recorder.Count("denials", 1)
			failed = ""
		}
	}
	q := record.Request{
		Op: op, Intended: e.start.Add(intended), Sent: w.sent, FirstByte: w.x.FirstByte, End: w.x.End, Bytes: w.x.Bytes, Failure: failed,
	}
	e.recorder.Request(q)
	e.delays.addFailure(failed)
	if len(w.trace) > 0 {
		e.slowest.add(op, q.End.Sub(q.Intended), w.trace)
	}
}

// beginTrace draws whether the next request is traced, and its trace's id.
func (w *worker) beginTrace() {
	w.trace = w.trace[:0]
	share := w.engine.config.TraceShare
	if share == 0 || share < 1 && rand.Float64() >= share {
		return
	}
	var id [16]byte
	for i := range 2 {
		for n, x := 0, rand.Uint64()|1; n < 8; n++ { // an id is not zero
			id[8*i+n] = byte(x >> (8 * n))
		}
	}
	w.trace = hex.AppendEncode(w.trace, id[:])
}

// appendHeader appends the header of a viewer's request.
func (w *worker) appendHeader(dst []byte, v *viewer) []byte {
	e := w.engine
	dst = append(append(append(dst, "User-Agent: "...), e.config.UserAgent...), "\r\nAccept: */*\r\n"...)
	if a := addressIn(e.config.Forwarded, v.address); a.IsValid() {
		dst = append(a.AppendTo(append(dst, "X-Forwarded-For: "...)), "\r\n"...)
	}
	return w.appendTrace(dst)
}

// appendTrace appends the header line of a traced request.
func (w *worker) appendTrace(dst []byte) []byte {
	if len(w.trace) == 0 {
		return dst
	}
	return append(w.appendTraceparent(append(dst, "traceparent: "...)), "\r\n"...)
}

// appendTraceparent appends a W3C traceparent, nothing if the request is not traced. The span is the viewer's own, whose child is
// the server's.
func (w *worker) appendTraceparent(dst []byte) []byte {
	if len(w.trace) == 0 {
		return dst
	}
	dst = append(append(dst, "00-"...), w.trace...)
	return append(append(append(dst, '-'), w.trace[:16]...), "-01"...)
}

// appendEntryURL appends the entry URL of a viewer.
func (e *engine) appendEntryURL(dst []byte, v *viewer) []byte {
	return e.appendPath(e.origins.appendURL(dst, v.node), v)
}

// appendPath appends the path and query of the entry URL of a viewer.
func (e *engine) appendPath(dst []byte, v *viewer) []byte {
	rest := e.config.Path
	for {
		before, after, found := strings.Cut(rest, "{")
		dst = append(dst, before...)
		if !found {
			return dst
		}
		name, after, _ := strings.Cut(after, "}")
		switch name {
		case "channel":
			dst = append(dst, e.config.Channels[v.channel]...)
		case "token":
			dst = append(dst, e.token(v)...)
		}
		rest = after
	}
}

func (e *engine) token(v *viewer) string {
	if e.config.Token != nil {
		return e.config.Token(int(v.number))
	}
	return "viewer-" + strconv.Itoa(int(v.number))
}

// append appends the URL of a playlist.
func (e *engine) append(dst []byte, origin uint16, path text) []byte {
	return e.texts.append(e.origins.appendURL(dst, origin), path)
}

// store keeps the URL of a playlist, nothing if that is empty.
func (e *engine) store(url []byte, origin *uint16, path *text) (ok bool) {
	if len(url) == 0 {
		*path, ok = e.texts.set(*path, nil)
		return ok
	}
	name, rest, ok := playlist.SplitURL(url)
	if !ok {
		return false
	}
	index, ok := e.origins.addBytes(name)
	if !ok {
		return false
	}
	*origin = index
	if int(path.length) == len(rest) && e.texts.equal(*path, rest) {
		return true
	}
	*path, ok = e.texts.set(*path, rest)
	return ok
}
