package origin

import (
	"sync"
	"sync/atomic"
	"time"

	"usher/gateway/upstream"
)

// Header holds the origin's header fields that viewers receive. A field is empty if the origin did not send it.
type Header struct {
	ContentType string
	// LastModified is empty too if a version of the same second may follow.
	LastModified string
	ETag         string
	// CacheControl is set for media only. The caller decides the Cache-Control of playlists.
	CacheControl string
	// PrivateCacheControl is the same for responses that no cache in front may give to other viewers.
	PrivateCacheControl string
}

// Source is where a playlist came from, after redirects. It is comparable.
type Source struct {
	// Kind says whose the host is: Own or Listed.
	Kind upstream.Kind
	// Scheme and Host are of the URL: http or https, and the host with its port if there is one.
	Scheme, Host string
	// Path is the whole escaped path on the host, with that of the origin's address.
	Path string
	// Query is the raw query of the URL, without that of the origin's address.
	Query string
}

// URL returns the absolute URL.
func (s Source) URL() string {
	u := s.Scheme + "://" + s.Host + s.Path
	if s.Query != "" {
		u += "?" + s.Query
	}
	return u
}

// Object is one version of one response of an origin, whole and decoded. It is immutable, so all requests share it.
type Object struct {
	Header
	// Status is 200, or 206 for a range that the origin sent.
	Status int
	// ContentRange is the Content-Range of a 206.
	ContentRange string
	// Body is shared: the caller must not modify it.
	Body []byte
	// Fetched is when the origin sent this version, less its Age. The Age of a media object in responses is the time since
	// then.
	Fetched time.Time
	// Source is where a playlist came from, the base of relative URIs in the body. It is zero for media.
	Source Source

	derived atomic.Pointer[derivation]
}

// maxDerived bounds the derived values of one object: each route that shares an origin has a key.
const maxDerived = 16

// derivation is a derived value. All in a list are of one generation.
type derivation struct {
	generation uint64
	key        any
	once       sync.Once
	isMade     atomic.Bool // orders value before it
	value      any
	next       *derivation
	depth      int
}

// Derived returns what Derive computed for a key, and false before it has. It does not allocate, also where the conversion of a key to
// the argument of Derive does. It is safe for concurrent use.
func (o *Object) Derived(generation uint64, key any) (value any, isMade bool) {
	head := o.derived.Load()
	if head == nil || head.generation != generation {
		return nil, false
	}
	if d := head.find(key); d != nil && d.isMade.Load() {
		return d.value, true
	}
	return nil, false
}

// find returns the derivation of a key from this one on, or nil.
func (d *derivation) find(key any) *derivation {
	for ; d != nil && d.key != key; d = d.next {
	}
	return d
}

// Derive returns the result of compute, computed once for each key and kept as long as the object. Later calls take no
// lock. Keys are compared with ==. Beyond 16 keys nothing is kept. The generation is that of the settings by which it is computed: the
// first call of a later one drops the values of earlier ones, of which nothing is kept from then on. It is safe for concurrent use;
// compute must not call Derive with the same key.
func (o *Object) Derive(generation uint64, key any, compute func() any) any {
	var fresh *derivation
	for {
		head := o.derived.Load()
		list := head
		if list != nil && list.generation < generation {
			list = nil
		}
		if list != nil && list.generation > generation {
			return compute()
		}
		if d := list.find(key); d != nil {
			d.once.Do(func() {
				d.value = compute()
				d.isMade.Store(true)
			})
			return d.value
		}
		if list != nil && list.depth >= maxDerived {
			return compute()
		}
		if fresh == nil {
			fresh = &derivation{generation: generation, key: key}
		}
		fresh.next, fresh.depth = list, 1
		if list != nil {
			fresh.depth = list.depth + 1
		}
		o.derived.CompareAndSwap(head, fresh)
	}
}

// Playlist is the response to a request for a playlist.
type Playlist struct {
	*Object
	// Stale reports that the origin failed to refresh the playlist in time and that this is its last version.
	Stale bool
}
