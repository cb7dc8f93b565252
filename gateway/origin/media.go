package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Media returns a segment, part, key or init section: from memory while it is fresh, else as a body that is still
// arriving, shared by all who ask for it meanwhile. A viewer's range and conditions are evaluated against the whole
// object if it is there; a part of an object that is not is fetched as a part. A hit does not allocate.
//
// It returns a *StatusError, an *UnreachableError, a *backends.Overload, [ErrPath] or [ErrClosed], possibly wrapped,
// or ctx's own error. ctx also bounds the reading of the Stream.
func (o *Origin) Media(ctx context.Context, r Request) (Stream, error) {
	k := key{origin: o.id, path: r.Path, query: r.Query, media: true}
	if e := o.cache.fresh(k); e != nil {
		return e.stream(&r, false)
	}
	return o.mediaMiss(ctx, r, k)
}

// errOtherVersion says that If-Range names another version than the origin has: the viewer wants the whole.
var errOtherVersion = errors.New("another version")

func (o *Origin) mediaMiss(ctx context.Context, r Request, k key) (Stream, error) {
	want := parseRange(r.Range)
	if want.set && !want.everything() && !r.Head {
		part := k
		part.variant = want.String()
		s, err := o.fetchMedia(ctx, &r, part, want)
		if !errors.Is(err, errOtherVersion) {
			return s, err
		}
		r.Range = ""
	}
	return o.fetchMedia(ctx, &r, k, byteRange{})
}

// fetchMedia gives what the cache has under k, or follows the flight that fetches it.
func (o *Origin) fetchMedia(ctx context.Context, r *Request, k key, want byteRange) (Stream, error) {
	old := o.cache.get(k)
	if old.servable(o.cache.now()) && o.cache.now() < old.retryAt.Load() {
		o.count.stale.Add(1)
		return old.stream(r, true)
	}
	f, e, err := o.join(k, want, r) //nolint:contextcheck // a flight is nobody's
	switch {
	case err == nil && e != nil:
		return e.stream(r, false)
	case err == nil:
		err = o.answered(ctx, f, old)
	}
	switch {
	case err == nil:
		return f.stream(ctx, r)
	case f != nil:
		f.leave(nil)
	}
	if ctx.Err() == nil && o.excuse(old, err) {
		return old.stream(r, true)
	}
	return Stream{}, err
}

// answered waits for the head of a flight.
func (o *Origin) answered(ctx context.Context, f *flight, old *entry) error {
	if !old.servable(o.cache.now()) {
		return f.answered(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, o.patience(f))
	defer cancel()
	err := f.answered(limited)
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	if old.servable(o.cache.now()) {
		return errImpatient
	}
	return f.answered(ctx) // there is nothing else to give any more
}

// stream answers from memory.
func (e *entry) stream(r *Request, stale bool) (Stream, error) {
	if e.missing != nil {
		return Stream{}, e.missing
	}
	o := e.object
	var out outcome
	switch {
	case o.Status == http.StatusOK:
		out = decide(r, parseRange(r.Range), &o.Header, int64(len(o.Body)))
	case sameVersion(r.IfRange, &o.Header):
		out = decidePart(r, &o.Header, o.ContentRange, int64(len(o.Body)))
	default:
		return Stream{}, errOtherVersion
	}
	s := Stream{
		Header: &o.Header, Status: out.status, ContentRange: out.contentRange,
		ContentLength: out.hi - out.lo, Fetched: o.Fetched, Stale: stale,
	}
	if out.status == o.Status {
		s.object = o
	}
	if !r.Head {
		s.body = o.Body[out.lo:out.hi]
	}
	return s, nil
}

// stream follows the flight, whose head is there and which the viewer has entered.
func (f *flight) stream(ctx context.Context, r *Request) (Stream, error) {
	f.mu.Lock()
	h, e := f.head, f.entry
	f.mu.Unlock()
	if e != nil && e.object != nil {
		defer f.leave(nil)
		return e.stream(r, false)
	}
	var out outcome
	switch {
	case h.status == http.StatusOK:
		out = decide(r, parseRange(r.Range), &h.Header, h.length)
	case h.status == http.StatusRequestedRangeNotSatisfiable:
		out = outcome{status: h.status, contentRange: h.unsatisfied}
	case sameVersion(r.IfRange, &h.Header):
		out = decidePart(r, &h.Header, h.part.String(), h.length)
	default:
		f.leave(nil)
		return Stream{}, errOtherVersion
	}
	s := Stream{
		Header: &h.Header, Status: out.status, ContentRange: out.contentRange,
		ContentLength: out.hi - out.lo, Fetched: h.fetched,
	}
	if out.hi < 0 {
		s.ContentLength = -1
	}
	if r.Head || s.ContentLength == 0 {
		f.leave(nil)
		return s, nil
	}
	s.live = f.follow(ctx, out.lo, out.hi)
	return s, nil
}

// receiveMedia publishes the head, then the body as it arrives. From the head on there is no going back to another
// address: viewers have been told.
func (o *Origin) receiveMedia(f *flight, a *answer) (*entry, bool, error) {
	h, err := o.mediaHead(f, a)
	if err != nil {
		return nil, false, &UnreachableError{Origin: o.name, Err: err}
	}
	if h.status == http.StatusRequestedRangeNotSatisfiable {
		f.begin(h, false)
		return nil, true, nil
	}
	body, encoded, err := decoder(a.Header.Get("Content-Encoding"), a)
	if err != nil {
		return nil, false, o.broken(f, err)
	}
	if encoded {
		h.length = -1
	}
	f.begin(h, encoded)
	if err := f.fill(body, o.config.Fetch.IdleTimeout); err != nil {
		return nil, true, o.broken(f, err)
	}
	return o.keepMedia(f, h), true, nil
}

// mediaHead reads what viewers are told, and checks that a part is the one that was asked for.
func (o *Origin) mediaHead(f *flight, a *answer) (*head, error) {
	now := time.Now()
	life := mediaLifetime(a.Header, now, o.config.Cache.MediaTTL)
	encoding := a.Header.Get("Content-Encoding")
	h := &head{
		Header:   viewerHeader(a.Header, true),
		status:   http.StatusOK,
		length:   a.ContentLength,
		fetched:  now.Add(-life.age),
		received: a.received,
		life:     life,
		etag:     a.Header.Get("ETag"),
	}
	if encoding != "" && encoding != "identity" && h.ETag != "" && h.ETag[0] == '"' {
		h.ETag = "W/" + h.ETag // decoded, it is the same only in meaning
	}
	switch a.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		h.status, h.length, h.unsatisfied = a.StatusCode, 0, a.Header.Get("Content-Range")
	case http.StatusPartialContent:
		part, ok := parseContentRange(a.Header.Get("Content-Range"))
		if !ok || !part.answers(f.want) || (h.length >= 0 && h.length != part.hi-part.lo) || h.ETag != h.etag {
			return nil, fmt.Errorf("%w: asked for %s, got Content-Range %q of %d bytes", errMalformed,
				f.want, a.Header.Get("Content-Range"), h.length)
		}
		h.status, h.part, h.length = a.StatusCode, part, part.hi-part.lo
	}
	return h, nil
}

// keepMedia makes the entry of a flight that came to its end.
func (o *Origin) keepMedia(f *flight, h *head) *entry {
	o.count.bytes.Add(uint64(f.body.size)) //nolint:gosec // a size
	if !h.life.store || !f.whole() {
		o.count.passed.Add(1)
		return &entry{} // in place of what may have been there
	}
	object := &Object{Header: h.Header, Status: h.status, ContentRange: h.contentRange(), Body: f.body.join(), Fetched: h.fetched}
	return mediaEntry(object, h)
}

// mediaEntry dates an object. It is kept for as long again as it was fresh, within limits, to ask the origin whether it
// has changed, or to stand in if the origin fails.
func mediaEntry(object *Object, h *head) *entry {
	const shortest, longest = 10 * time.Second, time.Minute
	fresh := max(0, h.life.fresh)
	grace := min(max(fresh, shortest), longest)
	e := &entry{object: object, freshUntil: h.received + int64(fresh), etag: h.etag, lastModified: h.LastModified}
	switch {
	case !h.life.strict:
		e.staleUntil, e.keep = e.freshUntil+int64(grace), fresh+grace
	case e.conditional():
		e.keep = fresh + grace
	default:
		e.keep = fresh
	}
	return e
}

// renewed is the entry of an object that the origin says has not changed.
func (o *Origin) renewed(f *flight, a *answer) *entry {
	old := f.old.object
	if !f.key.media {
		e := o.playlistEntry(f, a, old)
		e.etag, e.lastModified = cmp.Or(e.etag, f.old.etag), cmp.Or(e.lastModified, f.old.lastModified)
		return e
	}
	now := time.Now()
	life := mediaLifetime(a.Header, now, o.config.Cache.MediaTTL)
	h := &head{Header: old.Header, received: a.received, life: life, etag: f.old.etag}
	h.CacheControl = cmp.Or(a.Header.Get("Cache-Control"), old.CacheControl)
	object := &Object{Header: h.Header, Status: old.Status, ContentRange: old.ContentRange, Body: old.Body, Fetched: now.Add(-life.age)}
	if !life.store {
		return &entry{object: object}
	}
	return mediaEntry(object, h)
}

// viewerHeader picks the fields that reach the viewer.
func viewerHeader(h http.Header, media bool) Header {
	v := Header{ContentType: h.Get("Content-Type"), LastModified: h.Get("Last-Modified"), ETag: h.Get("ETag")}
	if media {
		v.CacheControl = h.Get("Cache-Control")
	}
	return v
}
