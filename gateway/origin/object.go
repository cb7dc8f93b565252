package origin

import (
	"sync"
	"sync/atomic"
	"time"
)

// Header is what of the origin's header fields reaches the viewer; empty: the origin did not send it.
type Header struct {
	ContentType  string
	LastModified string
	ETag         string
	// CacheControl is meant for media. What a playlist is sent with is the caller's affair.
	CacheControl string
}

// Object is one version of one answer of an origin, whole and decoded. It is not changed after it was made, so it is
// shared by all who ask.
type Object struct {
	Header
	// Status is 200, or 206 for a part that the origin gave as a range.
	Status int
	// ContentRange is the Content-Range of a 206.
	ContentRange string
	// Body is shared: it must not be written to.
	Body []byte
	// Fetched is when the origin sent this version, less the Age that it came with. The Age that a viewer is told of a
	// media object is the time since then.
	Fetched time.Time
	// FinalURL is where a redirect of the origin led, the base that relative URIs in the body refer to. Empty: no
	// redirect.
	FinalURL string

	derived atomic.Pointer[derivation]
}

// maxDerived bounds what one object carries for its callers: routes that share an origin have a key each.
const maxDerived = 16

type derivation struct {
	key   any
	once  sync.Once
	value any
	next  *derivation
	depth int
}

// Derive returns what compute makes of the object, computed once for each key however many ask at once, and kept as
// long as the object. Later calls take no lock and do not allocate. Keys are compared with ==; beyond 16 keys nothing
// is kept. It is safe for concurrent use; compute must not call Derive with the same key.
func (o *Object) Derive(key any, compute func() any) any {
	var fresh *derivation
	for {
		head := o.derived.Load()
		for d := head; d != nil; d = d.next {
			if d.key == key {
				d.once.Do(func() { d.value = compute() })
				return d.value
			}
		}
		if head != nil && head.depth >= maxDerived {
			return compute()
		}
		if fresh == nil {
			fresh = &derivation{key: key}
		}
		fresh.next, fresh.depth = head, 1
		if head != nil {
			fresh.depth = head.depth + 1
		}
		o.derived.CompareAndSwap(head, fresh)
	}
}

// Playlist is the answer to a request for a playlist.
type Playlist struct {
	*Object
	// Stale says that the origin failed to refresh it in time and that this is the last version it gave.
	Stale bool
}
