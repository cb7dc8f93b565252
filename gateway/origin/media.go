package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"usher/backends"
)

// Media returns a segment, part, key or init section: from memory while it is fresh, else as a body that is still
// arriving, shared by all concurrent requests. A viewer's range and conditions are evaluated against the whole object if
// it is cached; otherwise the range is fetched as a range, and so is one that ends beyond an object that may have grown. A hit does
// not allocate.
//
// It returns a *StatusError, an *UnreachableError, a *HostError, a *backends.Overload, [ErrPlaylist], [ErrPath] or [ErrClosed],
// possibly wrapped, or ctx's own error. ctx also bounds the reading of the Stream.
func (o *Origin) Media(ctx context.Context, r Request) (Stream, error) {
	k := cacheKey{origin: o.id, path: r.Path, query: r.Query, version: r.Version, media: true}
	if r.Base != "" {
		var err error
		if k.base, k.path, err = o.locate(r.Base, r.Path); err != nil {
			return Stream{}, err
		}
	}
	if e := o.cache.getFresh(k); e != nil && (r.Head || !e.isShortOf(parseRange(r.Range), e.listedNow(o.cache.now()), r.IsComplete)) {
		o.count.hits.add()
		return e.stream(&r, false)
	}
	return o.mediaMiss(ctx, r, k)
}

// errOtherVersion means that If-Range may name another version than the origin has. The range is evaluated against the whole object.
var errOtherVersion = errors.New("another version")

func (o *Origin) mediaMiss(ctx context.Context, r Request, k cacheKey) (Stream, error) {
	want := parseRange(r.Range)
	if want.isSet && !want.isWhole() && !r.Head {
		part := k
		part.variant = want.String()
		s, err := o.fetchMedia(ctx, &r, part, want)
		if err == nil {
			err = o.checkStart(ctx, &r, k, &s)
		}
		if !errors.Is(err, errOtherVersion) {
			return s, err
		}
	}
	return o.fetchMedia(ctx, &r, k, byteRange{})
}

// startLength is how many bytes tell a playlist from other media.
const startLength = 2 * maxBlank

// checkStart returns an error, ErrPlaylist for example, and closes the stream, unless the object of which it is a part begins
// as media. A part without the first bytes does not tell. Of a video, sound or picture the type is believed then: what is listed by ranges
// would cost another request for each file.
func (o *Origin) checkStart(ctx context.Context, r *Request, k cacheKey, s *Stream) error {
	if part, ok := parseContentRange(s.ContentRange); !s.isPart || !ok || part.lo == 0 || s.isTypedAsMedia() {
		return nil
	}
	start := byteRange{isSet: true, last: startLength - 1}
	k.variant = start.String()
	head := &Request{Channel: r.Channel, IsListed: r.IsListed, FreshFor: r.FreshFor, IsComplete: r.IsComplete, Range: k.variant}
	first, err := o.fetchMedia(ctx, head, k, start)
	if err != nil {
		_ = s.Close()
		*s = Stream{}
		return err
	}
	_, _ = io.CopyN(io.Discard, &first, startLength) // so that it is stored
	_ = first.Close()
	return nil
}

// fetchMedia returns the cached entry of the key, or joins the fetch of it.
func (o *Origin) fetchMedia(ctx context.Context, r *Request, k cacheKey, want byteRange) (Stream, error) {
	old := o.copyOf(k, r, want)
	if o.cache.canServeStale(k, old) && o.cache.now() < old.nextRefresh.Load() {
		o.count.stale.Add(1)
		return old.stream(r, true)
	}
	f, e, err := o.findOrStartFetch(k, want, r) //nolint:contextcheck // a fetch runs on the origin's context
	switch {
	case err == nil && e != nil:
		o.count.hits.add()
		return e.stream(r, false)
	case err == nil:
		err = o.waitForHeadOrStale(ctx, f, old)
	}
	switch {
	case err == nil:
		return f.stream(ctx, r)
	case f != nil:
		f.leave(nil)
	}
	if ctx.Err() == nil && o.staleIfError(k, old, err) {
		old.nextRefresh.Store(o.cache.now() + int64(refreshBackoff)) // as the fetch has done, if it was not of a range of old
		return old.stream(r, true)
	}
	return Stream{}, err
}

// copyOf returns the cached entry of the key, or that of the whole object if it alone may be served if the origin fails, and has the range.
func (o *Origin) copyOf(k cacheKey, r *Request, want byteRange) *entry {
	e := o.cache.get(k)
	if !want.isSet || o.cache.canServeStale(k, e) {
		return e
	}
	whole := o.cache.get(k.withoutRange())
	if o.cache.canServeStale(k, whole) && want.first < int64(len(whole.object.Body)) && !whole.isShortOf(want, o.cache.listed(k), r.IsComplete) {
		return whole
	}
	return e
}

// waitForHeadOrStale waits for the head of a fetch. It returns errFreshTimeout once the stale entry is to be served
// instead.
func (o *Origin) waitForHeadOrStale(ctx context.Context, f *fetch, old *entry) error {
	if !old.canServeStale(o.cache.now()) || old.mayBeOther(o.cache.now()) {
		return f.waitForHead(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, o.freshTimeout(f))
	defer cancel()
	err := f.waitForHead(limited)
	if err == nil || limited.Err() == nil || ctx.Err() != nil {
		return err
	}
	if now := o.cache.now(); old.canServeStale(now) {
		old.nextRefresh.Store(now + int64(refreshBackoff)) // without viewers the fetch is cancelled, and tells nothing
		return errFreshTimeout
	}
	return f.waitForHead(ctx) // the stale entry has expired meanwhile
}

// stream returns the entry from memory.
func (e *entry) stream(r *Request, stale bool) (Stream, error) {
	if e.negative != nil {
		return Stream{}, e.negative
	}
	o := e.object
	var out outcome
	switch {
	case o.Status == http.StatusOK:
		out = evaluate(r, parseRange(r.Range), &o.Header, int64(len(o.Body)))
	case sameVersion(r.IfRange, &o.Header):
		out = evaluatePart(r, &o.Header, o.ContentRange, int64(len(o.Body)))
	default:
		return Stream{}, errOtherVersion
	}
	s := Stream{
		Header: &o.Header, Status: out.status, ContentRange: out.contentRange,
		ContentLength: out.hi - out.lo, Fetched: o.Fetched, Stale: stale, isPart: o.Status == http.StatusPartialContent,
	}
	if out.status == o.Status {
		s.object = o
	}
	if !r.Head {
		s.body = o.Body[out.lo:out.hi]
	}
	return s, nil
}

// stream returns the body as it arrives. The viewer has joined the fetch, and its head is published.
func (f *fetch) stream(ctx context.Context, r *Request) (Stream, error) {
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
		out = evaluate(r, parseRange(r.Range), &h.Header, h.length)
	case h.status == http.StatusRequestedRangeNotSatisfiable && r.IfRange == "": // a 416 does not tell which version it is of
		out = outcome{status: h.status, contentRange: h.unsatisfiedRange}
	case h.status == http.StatusPartialContent && sameVersion(r.IfRange, &h.Header):
		out = evaluatePart(r, &h.Header, h.partRange.String(), h.length)
	default:
		f.leave(nil)
		return Stream{}, errOtherVersion
	}
	s := Stream{
		Header: &h.Header, Status: out.status, ContentRange: out.contentRange,
		ContentLength: out.hi - out.lo, Fetched: h.fetched, isPart: h.status == http.StatusPartialContent,
	}
	if out.hi < 0 {
		s.ContentLength = -1
	}
	if r.Head || s.ContentLength == 0 {
		f.leave(nil)
		return s, nil
	}
	s.reader = f.newReader(ctx, out.lo, out.hi)
	return s, nil
}

// receiveMedia publishes the head, then the body as it arrives. After the head no other address is tried, because viewers
// have received it. So it waits for the first bytes, which also show whether it is a playlist.
func (o *Origin) receiveMedia(f *fetch, a *response) (*entry, bool, error) {
	codings, err := contentCodings(a.Header)
	if err != nil {
		return nil, false, o.bodyError(f, a, err)
	}
	isEncoded := len(codings) > 0
	h, err := o.mediaHead(f, a, isEncoded)
	if err != nil {
		return nil, false, &UnreachableError{Origin: o.name, Err: err, URL: a.url()}
	}
	if h.status == http.StatusRequestedRangeNotSatisfiable {
		f.publishHead(h)
		return nil, true, nil
	}
	body, err := newDecoder(codings, a)
	if err != nil {
		return nil, false, o.bodyError(f, a, err)
	}
	if isEncoded {
		h.length = -1
	}
	if !f.prepareBody(h.length, isEncoded) {
		return nil, true, o.overload("fetch.max_conns", o.config.Fetch.MaxConns)
	}
	isPlaylist, err := f.beginsPlaylist(body, h.partRange.lo, o.config.Fetch.IdleTimeout)
	switch {
	case isPlaylist:
		a.drain()
		o.cache.dropNegative(f.key.ofOtherKind(), ErrMedia)
		return negativeEntry(ErrPlaylist, a.received, o.fallbackFreshness(f)), true, ErrPlaylist
	case err != nil:
		f.resetBody()
		err = o.bodyError(f, a, err)
		return nil, backends.IsOverload(err), err
	}
	f.publishHead(h)
	if err = f.readBody(body, o.config.Fetch.IdleTimeout); err != nil {
		return nil, true, o.bodyError(f, a, err)
	}
	return o.storableEntry(f, h), true, nil
}

// mediaHead returns the head of a response. It checks that a partial response is the requested range.
func (o *Origin) mediaHead(f *fetch, a *response, isEncoded bool) (*responseHead, error) {
	now := time.Now()
	life := mediaLifetime(a.Header, now, o.fallbackFreshness(f))
	h := &responseHead{
		Header: viewerHeader(a.Header, true),
		status: http.StatusOK,
		length: a.ContentLength, isStreamed: a.ContentLength < 0,
		fetched:  now.Add(-life.age),
		received: a.received,
		caching:  life,
		etag:     a.Header.Get("ETag"),
		expires:  a.Header.Get("Expires"),
	}
	if isEncoded && h.ETag != "" && h.ETag[0] == '"' {
		h.ETag = "W/" + h.ETag // the decoded body is only semantically the same
	}
	switch a.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		h.status, h.length, h.unsatisfiedRange = a.StatusCode, 0, a.Header.Get("Content-Range")
	case http.StatusPartialContent:
		part, ok := parseContentRange(a.Header.Get("Content-Range"))
		if !ok || !part.satisfies(f.wantedRange) || (h.length >= 0 && h.length != part.hi-part.lo) || h.ETag != h.etag {
			return nil, fmt.Errorf("%w: requested %s, got Content-Range %q of %d bytes", errMalformed,
				f.wantedRange, a.Header.Get("Content-Range"), h.length)
		}
		h.status, h.partRange = a.StatusCode, part
		if part.total >= 0 { // else it is as long as it comes: the end may be that of all numbers, of what still grows (RFC 8673)
			h.length = part.hi - part.lo
		}
	}
	return h, nil
}

// storableEntry returns the entry of a completed fetch, empty if it must not be stored.
func (o *Origin) storableEntry(f *fetch, h *responseHead) *entry {
	o.count.bytes.Add(uint64(f.body.size))
	isCut := h.status == http.StatusPartialContent && f.body.size != h.partRange.hi-h.partRange.lo
	if !h.caching.isStorable || !f.isComplete() || isCut {
		o.count.passedThrough.Add(1)
		return &entry{} // removes the previous entry
	}
	object := &Object{Header: h.Header, Status: h.status, ContentRange: h.contentRange(), Body: f.body.bytes(), Fetched: h.fetched}
	return o.mediaEntry(f, object, h)
}

// mediaEntry returns the entry of an object. It is kept for as long again as it was fresh, within limits, for
// revalidation and to be served stale if the origin fails. If the origin does not state the freshness, the entry is kept
// for as long as a playlist may extend it.
func (o *Origin) mediaEntry(f *fetch, object *Object, h *responseHead) *entry {
	const shortest, longest = 10 * time.Second, time.Minute
	fresh := max(0, h.caching.fresh)
	grace := min(max(fresh, shortest), longest)
	e := &entry{
		object: object, started: f.started, isStreamed: h.isStreamed,
		retention: fresh, etag: h.etag, lastModified: h.LastModified, expires: h.expires,
	}
	e.freshUntil.Store(h.received + int64(fresh))
	if !h.caching.isStated {
		e.retention = o.config.Cache.MediaTTL
		e.freshLimit = h.received + int64(e.retention)
	}
	if !h.caching.mustRevalidate {
		e.staleUntil.Store(e.freshUntil.Load() + int64(grace))
	}
	if !h.caching.mustRevalidate || e.hasValidator() {
		e.retention += grace
	}
	return e
}

// freshenedEntry returns the entry of an object after a 304.
func (o *Origin) freshenedEntry(f *fetch, a *response) *entry {
	old := f.stored.object
	if !f.key.media {
		if source := o.sourceOf(f, a); source != old.Source { // another server has the same version
			old = &Object{Header: old.Header, Status: old.Status, Body: old.Body, Fetched: old.Fetched, Source: source}
		}
		e, _ := o.playlistEntry(f, a, old) // it is what was stored
		e.etag, e.lastModified = cmp.Or(e.etag, f.stored.etag), cmp.Or(e.lastModified, f.stored.lastModified)
		return e
	}
	for name, stored := range map[string]string{"Cache-Control": old.CacheControl, "Expires": f.stored.expires} {
		if stored != "" && len(a.Header.Values(name)) == 0 { // what a 304 does not say stays (RFC 9111, 4.3.4)
			a.Header.Set(name, stored)
		}
	}
	now := time.Now()
	life := mediaLifetime(a.Header, now, o.fallbackFreshness(f))
	h := &responseHead{
		Header: old.Header, isStreamed: f.stored.isStreamed, received: a.received, caching: life,
		etag: f.stored.etag, expires: a.Header.Get("Expires"),
	}
	fresh := viewerHeader(a.Header, true)
	h.CacheControl, h.PrivateCacheControl = fresh.CacheControl, fresh.PrivateCacheControl
	object := &Object{Header: h.Header, Status: old.Status, ContentRange: old.ContentRange, Body: old.Body, Fetched: now.Add(-life.age)}
	if !life.isStorable {
		return &entry{object: object}
	}
	return o.mediaEntry(f, object, h)
}

// viewerHeader returns the header fields that viewers receive.
func viewerHeader(h http.Header, media bool) Header {
	v := Header{ContentType: h.Get("Content-Type"), LastModified: strongDate(h, time.Now()), ETag: h.Get("ETag")}
	if media {
		v.CacheControl = strings.Join(h.Values("Cache-Control"), ", ")
		v.PrivateCacheControl = privateCacheControl(v.CacheControl)
	}
	return v
}

// privateCacheControl returns a Cache-Control that keeps shared caches from storing the response. Without one they may, for as long
// as they see fit (RFC 9111, 4.2.2).
func privateCacheControl(field string) string {
	kept := []string{"private"}
	for part := range strings.SplitSeq(field, ",") {
		part = strings.TrimSpace(part)
		switch name, _, _ := strings.Cut(strings.ToLower(part), "="); strings.TrimSpace(name) {
		case "", "public", "private", "s-maxage":
		default:
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ", ")
}
