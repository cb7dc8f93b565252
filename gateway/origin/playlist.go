package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Playlist returns a playlist, whole and decoded: from memory while it is fresh, else from the origin. All who wait for
// the same playlist share one request. If the origin fails (no answer, 5xx, a bound of ours) a stale copy is returned
// as long as Freshness allows, and whoever could have that waits for the refresh no longer than cache.max_wait_for_fresh.
//
// It returns a *StatusError, an *UnreachableError, a *backends.Overload, [ErrTooLarge], [ErrPath] or [ErrClosed],
// possibly wrapped, or ctx's own error.
func (o *Origin) Playlist(ctx context.Context, r Request) (Playlist, error) {
	k := key{origin: o.id, path: r.Path, query: r.Query, variant: r.Directives}
	e, now := o.cache.get(k), o.cache.now()
	switch {
	case e == nil:
	case now < e.freshUntil:
		return e.playlist()
	case e.servable(now) && now < e.retryAt.Load():
		o.count.stale.Add(1)
		return Playlist{Object: e.object, Stale: true}, nil
	}
	return o.refresh(ctx, k, r, e)
}

func (e *entry) playlist() (Playlist, error) {
	if e.missing != nil {
		return Playlist{}, e.missing
	}
	return Playlist{Object: e.object}, nil
}

// refresh waits for the flight that fetches the playlist.
func (o *Origin) refresh(ctx context.Context, k key, r Request, old *entry) (Playlist, error) {
	f, e, err := o.join(k, byteRange{}, &r) //nolint:contextcheck // a flight is nobody's
	switch {
	case err == nil && e != nil:
		return e.playlist()
	case err == nil:
		defer f.leave(nil)
		err = o.landed(ctx, f, old)
	}
	switch {
	case err == nil:
		return f.entry.playlist()
	case ctx.Err() == nil && o.excuse(old, err):
		return Playlist{Object: old.object, Stale: true}, nil
	default:
		return Playlist{}, err
	}
}

// errImpatient ends the wait of a viewer for whom there is a stale copy.
var errImpatient = errors.New("refresh takes longer than cache.max_wait_for_fresh")

// landed waits for the end of a flight.
func (o *Origin) landed(ctx context.Context, f *flight, old *entry) error {
	var expired <-chan time.Time
	if old.servable(o.cache.now()) {
		timer := time.NewTimer(o.patience(f))
		defer timer.Stop()
		expired = timer.C
	}
	for {
		select {
		case <-f.done:
			return f.err
		case <-expired:
			if old.servable(o.cache.now()) {
				return errImpatient
			}
			expired = nil // there is nothing else to give any more
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receivePlaylist reads the whole body. If it does not come to its end, another address may do better.
func (o *Origin) receivePlaylist(f *flight, a *answer) (*entry, bool, error) {
	body, err := o.readPlaylist(a)
	if err != nil {
		return nil, errors.Is(err, ErrTooLarge), o.broken(f, err)
	}
	o.count.bytes.Add(uint64(len(body)))
	object := &Object{
		Header:  viewerHeader(a.Header, false),
		Status:  http.StatusOK,
		Body:    body,
		Fetched: time.Now(),
	}
	if a.Request != nil && a.Request.Response != nil {
		final := *a.Request.URL
		final.User = nil
		object.FinalURL = final.String()
	}
	if f.old != nil && f.old.object.sameAs(object) {
		object = f.old.object
	}
	return o.playlistEntry(f, a, object), true, nil
}

func (o *Origin) readPlaylist(a *answer) ([]byte, error) {
	limit := int64(o.config.Fetch.MaxPlaylistSize)
	if a.ContentLength > limit {
		return nil, tooLarge("fetch.max_playlist_size", o.config.Fetch.MaxPlaylistSize)
	}
	r, _, err := decoder(a.Header.Get("Content-Encoding"), a)
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, max(a.ContentLength, 0)+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read the playlist: %w", err)
	}
	if int64(buf.Len()) > limit {
		return nil, tooLarge("fetch.max_playlist_size", o.config.Fetch.MaxPlaylistSize)
	}
	return bytes.Clone(buf.Bytes()), nil
}

// sameAs reports whether a playlist is the version that we have: then what was derived from it still holds.
func (o *Object) sameAs(other *Object) bool {
	return o != nil && o.ContentType == other.ContentType && o.FinalURL == other.FinalURL &&
		bytes.Equal(o.Body, other.Body)
}

// keepForChange is how long a playlist is kept beyond its use, to see whether the next version is the same.
const keepForChange = 30 * time.Second

func (o *Origin) playlistEntry(f *flight, a *answer, object *Object) *entry {
	var fresh, stale time.Duration
	if f.freshness != nil {
		fresh, stale = f.freshness(object.Body)
	}
	fresh, stale = min(fresh, maxFresh), min(stale, maxFresh)
	e := &entry{
		object:       object,
		freshUntil:   a.received + int64(fresh),
		staleUntil:   a.received + int64(stale),
		keep:         max(fresh, stale),
		etag:         a.Header.Get("ETag"),
		lastModified: a.Header.Get("Last-Modified"),
	}
	if f.key.class() == classPlaylist { // nobody asks for the same directives again
		e.keep += keepForChange
	}
	return e
}
