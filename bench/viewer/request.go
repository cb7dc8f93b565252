package viewer

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/playlist"
	"usher/bench/viewer/wire"
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
		server := w.prepare(v, *url)
		if server == nil {
			return badURL
		}
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

// prepare makes the request for a URL. It returns nil, and a request of no duration, if no request can be sent to it.
func (w *worker) prepare(v *viewer, url []byte) *wire.Origin {
	origin, target, ok := playlist.SplitURL(url)
	var index uint16
	if ok = ok && !bytes.ContainsAny(target, " \t\r\n"); ok {
		index, ok = w.engine.origins.addBytes(origin)
	}
	if !ok {
		w.sent = time.Now()
		w.x.Sent, w.x.FirstByte, w.x.End, w.x.Bytes = w.sent, time.Time{}, w.sent, 0
		return nil
	}
	if len(target) == 0 {
		target = []byte("/")
	}
	w.x.Target, w.x.Header = target, w.appendHeader(w.x.Header[:0], v)
	return w.engine.origins.at(index)
}

// record records a request that was meant to be sent at intended.
func (w *worker) record(op record.Op, v *viewer, intended time.Duration, failed string) {
	e := w.engine
	if e.client.IsClosed() {
		// The run's end is no failure of the server's, but for a request that it left without an answer.
		if failed = ""; w.x.FirstByte.IsZero() && w.x.End.Sub(w.x.Sent) > e.delays.unansweredAfter(op) {
			failed = noAnswer
		}
		if failed == "" {
			e.delays.unfinished.Add(1)
			raise(&e.delays.oldest, w.x.End.Sub(e.start)-intended)
			return
		}
	} else if !w.x.FirstByte.IsZero() {
		raise(&e.delays.answers[op], w.x.FirstByte.Sub(w.x.Sent))
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
