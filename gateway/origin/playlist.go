package origin

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Playlist returns a playlist, whole and decoded: from memory while it is fresh, else from the origin. Concurrent requests
// for the same playlist share one fetch. If the origin fails (no response, 5xx, no playlist, a bound of the gateway), Playlist
// returns a stale copy as long as Inspect allows. With a stale copy it waits for the refresh no longer than
// [CacheConfig].MaxWaitForFresh.
//
// It returns a *StatusError, an *UnreachableError (with [ErrInvalidPlaylist] if the body is none), [ErrMedia], a *HostError, a
// *backends.Overload, [ErrTooLarge], [ErrPath] or [ErrClosed], possibly wrapped, or ctx's own error.
func (o *Origin) Playlist(ctx context.Context, r *Request) (Playlist, error) {
	k := cacheKey{origin: o.id, path: r.Path, query: r.Query, variant: r.Directives}
	if r.Base != "" {
		var err error
		if k.base, k.path, err = o.locate(r.Base, r.Path); err != nil {
			return Playlist{}, err
		}
	}
	e, now := o.cache.get(k), o.cache.now()
	switch {
	case e == nil:
	case now < e.freshUntil.Load():
		return o.freshPlaylist(&k, e)
	case !e.hasObject() && !r.MayBeMedia: // that it was media is no use
		e = nil
	case e.canServeStale(now) && now < e.nextRefresh.Load():
		o.countStale(e)
		return e.playlist(true)
	}
	return o.refresh(ctx, &k, r, e)
}

// LastInfo returns the [Inspection].Info of the last response for the request's playlist, whatever the directives of that response were,
// or nil if there was none for long.
func (o *Origin) LastInfo(r *Request) any {
	base, path, err := o.locate(r.Base, r.Path)
	if err != nil {
		return nil
	}
	if e := o.cache.peekStored(cacheKey{origin: o.id, base: base, path: path, query: r.Query}.ofLastInfo()); e != nil {
		return e.info
	}
	return nil
}

// storeNewest stores what a response tells of the playlist without directives; e may be nil. Players that take delta updates get nothing
// else, so these tell as much as others of how far the playlist is.
func (o *Origin) storeNewest(f *fetch, e *entry) {
	if e == nil || e.info == nil {
		return
	}
	if f.key.class() == classBlocking {
		e = e.withoutDirectives()
		if e.isWhole {
			o.cache.store(f.key.withoutDirectives(), e)
		}
	}
	o.cache.store(f.key.ofLastInfo(), &entry{info: e.info, retention: e.retention})
}

// withoutDirectives returns the entry of a response to directives as that of one without them, which is kept for longer.
func (e *entry) withoutDirectives() *entry {
	plain := &entry{
		object: e.object, info: e.info, isWhole: e.isWhole, retention: e.retention + playlistRetention,
		etag: e.etag, lastModified: e.lastModified,
	}
	plain.freshUntil.Store(e.freshUntil.Load())
	plain.staleUntil.Store(e.staleUntil.Load())
	return plain
}

// freshPlaylist returns a fresh entry. In place of one that says that a reload failed it returns the copy without directives if it may.
func (o *Origin) freshPlaylist(k *cacheKey, e *entry) (Playlist, error) {
	if e.negative != nil {
		if plain := o.newestPlain(*k, nil); o.staleIfError(*k, plain, e.negative) {
			return plain.playlist(true)
		}
	}
	o.count.hits.add()
	return e.playlist(false)
}

func (e *entry) playlist(isStale bool) (Playlist, error) {
	if e.negative != nil {
		return Playlist{}, e.negative
	}
	return Playlist{Object: e.object, Stale: isStale}, nil
}

// refresh joins the fetch of the playlist and waits for its end.
func (o *Origin) refresh(ctx context.Context, k *cacheKey, r *Request, old *entry) (Playlist, error) {
	f, e, err := o.findOrStartFetch(*k, byteRange{}, r) //nolint:contextcheck // a fetch runs on the origin's context
	old, isPlain := o.plainOf(*k, r, old)
	switch {
	case err == nil && e != nil:
		return o.freshPlaylist(k, e)
	case err == nil:
		defer f.leave(nil)
		err = o.waitForEnd(ctx, f, old, isPlain)
	}
	switch {
	case err == nil:
		return f.entry.playlist(false)
	case errors.Is(err, errTooManyHeld), refusesDirectives(err, *k):
		plain := *r
		plain.Directives = ""
		return o.Playlist(ctx, &plain)
	case ctx.Err() != nil:
		return Playlist{}, err
	case isPlain, isMissing(err):
		old = o.newestPlain(*k, old)
	}
	if o.staleIfError(*k, old, err) {
		return old.playlist(true)
	}
	return Playlist{}, err
}

// plainOf returns the copy of the playlist without directives that a late reload may get, and old if it needs none.
func (o *Origin) plainOf(k cacheKey, r *Request, old *entry) (plain *entry, isPlain bool) {
	if !r.IsLate || old.canServeStale(o.cache.now()) {
		return old, false
	}
	return o.newestPlain(k, nil), true
}

// newestPlain returns the copy of the playlist without directives that may be served by now if the origin fails, or old.
func (o *Origin) newestPlain(k cacheKey, old *entry) *entry {
	if newer := o.cache.get(k.withoutDirectives()); newer.hasObject() && newer.canServeStale(o.cache.now()) {
		return newer
	}
	return old
}

// errTooManyHeld means that the origin holds as many reloads of a playlist, for a viewer, or for their address, as it may.
var errTooManyHeld = errors.New("too many reloads are held")

// errFreshTimeout ends the wait of a viewer who can get a stale copy.
var errFreshTimeout = errors.New("refresh takes longer than cache.max_wait_for_fresh")

// waitForEnd waits for the end of a fetch. It returns errFreshTimeout once the stale entry is to be served instead. If that is the one without
// directives, a slow origin is waited for until it expires, because it may be older than what is asked for, and not for less than otherwise.
func (o *Origin) waitForEnd(ctx context.Context, f *fetch, old *entry, isPlain bool) error {
	var expired <-chan time.Time
	if now := o.cache.now(); old.canServeStale(now) {
		limit := o.freshTimeout(f)
		if isPlain && !o.isUnavailable(f, now) {
			limit = max(limit, time.Duration(old.staleUntil.Load()-now))
		}
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
	}
	for {
		select {
		case <-f.done:
			return f.err
		case <-expired:
			if isPlain || old.canServeStale(o.cache.now()) {
				return errFreshTimeout
			}
			expired = nil // the stale entry has expired meanwhile
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receivePlaylist reads the whole body. If the body ends early or is no playlist, another address is tried, and what is stored
// stays. If it is media, none is, and that is believed only for as long as a 404: a server may send a slate in place of a playlist for a
// moment. If the origin fails then, it is believed for as long as the media may be stored.
func (o *Origin) receivePlaylist(f *fetch, a *response) (*entry, bool, error) {
	body, err := o.readPlaylist(f, a)
	switch {
	case errors.Is(err, ErrMedia):
		o.cache.dropNegative(f.key.ofOtherKind(), ErrPlaylist)
		e := negativeEntry(err, a.received, o.config.Cache.NegativeTTL)
		e.retention = max(e.retention, o.config.Cache.MediaTTL, mediaLifetime(a.Header, time.Now(), 0).fresh)
		e.staleUntil.Store(a.received + int64(e.retention))
		return e, true, err
	case err != nil:
		return nil, errors.Is(err, ErrTooLarge), o.bodyError(f, a, err)
	}
	o.count.bytes.Add(uint64(len(body)))
	object := &Object{
		Header:  viewerHeader(a.Header, false),
		Status:  http.StatusOK,
		Body:    body,
		Fetched: time.Now(),
		Source:  o.sourceOf(f, a),
	}
	for _, known := range []*entry{f.stored, o.cache.peek(f.key.withoutDirectives())} {
		if known != nil && known.object.sameAs(object) {
			object = known.object
		}
	}
	e, err := o.playlistEntry(f, a, object)
	if err != nil {
		return nil, false, &UnreachableError{Origin: o.name, Err: fmt.Errorf("%w: %w", ErrInvalidPlaylist, err), URL: a.url()}
	}
	return e, true, nil
}

// readPlaylist returns the whole body, decoded, and ErrMedia if it may be media and is.
func (o *Origin) readPlaylist(f *fetch, a *response) ([]byte, error) {
	codings, err := contentCodings(a.Header)
	if err != nil {
		return nil, err
	}
	r, err := newDecoder(codings, a)
	if err != nil {
		return nil, err
	}
	if f.mayBeMedia {
		begun := bufio.NewReaderSize(r, startLength)
		r = begun
		start, err := begun.Peek(startLength)
		if isEnd := errors.Is(err, io.EOF); (err == nil || isEnd) && isMediaStart(a.Header.Get("Content-Type"), start, isEnd) {
			return nil, ErrMedia
		}
	}
	limit := int64(o.config.Fetch.MaxPlaylistSize)
	if a.ContentLength > limit {
		return nil, tooLarge("fetch.max_playlist_size", o.config.Fetch.MaxPlaylistSize)
	}
	buf, _ := o.reading.Get().(*bytes.Buffer)
	defer o.putBack(buf)
	if _, err := buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read the playlist: %w", err)
	}
	if int64(buf.Len()) > limit {
		return nil, tooLarge("fetch.max_playlist_size", o.config.Fetch.MaxPlaylistSize)
	}
	return bytes.Clone(buf.Bytes()), nil
}

// maxReadingSize is for how long a playlist there is room between two fetches, in bytes.
const maxReadingSize = 64 << 10

// putBack keeps a buffer for the next playlist that is fetched.
func (o *Origin) putBack(buf *bytes.Buffer) {
	if buf.Cap() <= maxReadingSize {
		buf.Reset()
		o.reading.Put(buf)
	}
}

// sourceOf returns where a playlist came from. Without a redirect it is the preferred address, so that a failover to one with
// the same path keeps the Object.
func (o *Origin) sourceOf(f *fetch, a *response) Source {
	if a.hop.isRedirected {
		u := a.hop.url
		return Source{
			Kind: o.hosts.Match(u.Scheme, u.Host).Kind, Scheme: u.Scheme, Host: u.Host,
			Path: cmp.Or(u.EscapedPath(), "/"), Query: u.RawQuery,
		}
	}
	at := a.address
	if f.key.base == "" && at.prefix() == o.addresses[0].prefix() {
		at = o.addresses[0]
	}
	return Source{
		Kind: o.hosts.Match(at.url.Scheme, at.url.Host).Kind, Scheme: at.url.Scheme, Host: at.url.Host,
		Path: at.prefix() + f.key.path, Query: f.key.query,
	}
}

// sameAs reports whether two playlists are the same version, so that the derived values remain valid.
func (o *Object) sameAs(other *Object) bool {
	return o != nil && o.ContentType == other.ContentType && o.Source == other.Source &&
		bytes.Equal(o.Body, other.Body)
}

// playlistRetention is how long a playlist is kept after its last use, to compare the next version with it.
const playlistRetention = 30 * time.Second

// playlistEntry returns the entry of a playlist, and an error if it is none.
func (o *Origin) playlistEntry(f *fetch, a *response, object *Object) (*entry, error) {
	var read Inspection
	var err error
	if f.inspect != nil {
		read, err = f.inspect(object.Body)
	}
	fresh, stale := min(read.Fresh, maxFresh), min(read.Stale, maxFresh)
	e := &entry{
		object:       object,
		info:         read.Info,
		isWhole:      read.IsWhole,
		retention:    max(fresh, stale),
		etag:         a.Header.Get("ETag"),
		lastModified: strongDate(a.Header, time.Now()),
	}
	e.freshUntil.Store(a.received + int64(fresh))
	e.staleUntil.Store(a.received + int64(stale))
	if f.key.class() == classPlaylist { // the same directives are not requested again
		e.retention += playlistRetention
	}
	return e, err
}
