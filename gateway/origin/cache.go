package origin

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Cache is the memory that all origins of a gateway share: stored responses, bounded in bytes, and the bytes of bodies in
// flight. It is safe for concurrent use. Close it after the origins that use it.
type Cache struct {
	entries      *otter.Cache[cacheKey, *entry]
	epoch        time.Time
	seed         maphash.Seed
	config       CacheConfig
	bodyBytes    atomic.Int64
	maxBodyBytes int64
	evictions    *atomic.Uint64
	// storing is held while an entry takes the place of another one, which is not there meanwhile.
	storing sync.Mutex
}

// NewCache returns an empty cache. The config must be valid.
func NewCache(c CacheConfig, log *slog.Logger) (*Cache, error) {
	evictions := new(atomic.Uint64)
	entries, err := otter.New(&otter.Options[cacheKey, *entry]{
		MaximumWeight: uint64(c.MaxSize),
		Weigher:       weigh,
		// Old segments must expire by age: they were popular once, and the eviction goes by popularity.
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[cacheKey, *entry]) time.Duration { return e.Value.retention }),
		OnAtomicDeletion: func(e otter.DeletionEvent[cacheKey, *entry]) {
			if e.Cause == otter.CauseOverflow {
				evictions.Add(1)
			}
		},
		Logger: cacheLogger{log},
	})
	if err != nil {
		return nil, fmt.Errorf("create the cache: cache.max_size=%v: %w", c.MaxSize, err)
	}
	return &Cache{
		entries:      entries,
		epoch:        time.Now(),
		seed:         maphash.MakeSeed(),
		config:       c,
		maxBodyBytes: int64(max(c.MaxSize/4, c.MaxObjectSize)),
		evictions:    evictions,
	}, nil
}

// Close frees the stored responses and stops the cache's goroutine.
func (c *Cache) Close() {
	c.entries.StopAllGoroutines()
	c.entries.InvalidateAll()
}

// CacheStats is the cache's state at one moment.
type CacheStats struct {
	Entries int
	// Stored is the bytes of the stored responses, with an estimate of the overhead besides the body.
	Stored int64
	// InFlight is the bytes of bodies that are being fetched.
	InFlight int64
	// Evictions counts the responses that made room for others before they had expired.
	Evictions uint64
}

// Stats returns the cache's state. The numbers are estimates while the cache is in use.
func (c *Cache) Stats() CacheStats {
	return CacheStats{
		Entries:   c.entries.EstimatedSize(),
		Stored:    int64(c.entries.WeightedSize()),
		InFlight:  c.bodyBytes.Load(),
		Evictions: c.evictions.Load(),
	}
}

// now returns the cache's time: monotonic, in nanoseconds.
func (c *Cache) now() int64 { return int64(time.Since(c.epoch)) }

func (c *Cache) get(k cacheKey) *entry {
	e, _ := c.entries.GetIfPresent(k)
	return e
}

// getFresh returns the entry if it is fresh.
func (c *Cache) getFresh(k cacheKey) *entry {
	if e := c.get(k); e != nil && c.now() < e.freshUntil.Load() {
		return e
	}
	return nil
}

// peek returns the entry without counting a use of it.
func (c *Cache) peek(k cacheKey) *entry {
	e, _ := c.entries.GetEntryQuietly(k)
	return e.Value
}

// peekStored is peek that also finds an entry that takes the place of another one just now.
func (c *Cache) peekStored(k cacheKey) *entry {
	if e := c.peek(k); e != nil {
		return e
	}
	c.storing.Lock()
	defer c.storing.Unlock()
	return c.peek(k)
}

// store replaces the entry of the key. An entry without retention only removes the previous one. That an object was missing is not
// stored if a playlist lists it since.
func (c *Cache) store(k cacheKey, e *entry) {
	if e.retention <= 0 {
		c.entries.Invalidate(k)
		return
	}
	if e.negative != nil && !e.isOf(c.listed(k)) {
		return
	}
	// Nothing is set in place of another value: of two of a key that the memory takes in together it would never evict the second.
	c.storing.Lock()
	defer c.storing.Unlock()
	for isStored := false; !isStored; {
		if old, wasStored := c.entries.Invalidate(k); wasStored && k.media {
			e.setListed(old.listed.Load(), c.now())
		}
		_, isStored = c.entries.SetIfAbsent(k, e)
	}
}

// dropNegative removes the entry of the key if it says what.
func (c *Cache) dropNegative(k cacheKey, what error) {
	if e := c.peek(k); e != nil && errors.Is(e.negative, what) {
		c.entries.Invalidate(k)
	}
}

// reserve counts n bytes of a body in flight. It is false if there is no room for them.
func (c *Cache) reserve(n int64) bool {
	if c.bodyBytes.Add(n) > c.maxBodyBytes {
		c.bodyBytes.Add(-n)
		return false
	}
	return true
}

// reserveAnyway counts n bytes without a bound: the window of a body that passes through must exist.
func (c *Cache) reserveAnyway(n int64) { c.bodyBytes.Add(n) }

func (c *Cache) release(n int64) { c.bodyBytes.Add(-n) }

// entry is the cached response of a key. Times are those of [Cache.now].
type entry struct {
	object   *Object // nil: missing
	negative error   // the origin's 404 or 410, ErrPlaylist or ErrMedia

	freshUntil atomic.Int64
	// staleUntil is until when the entry may be served if the origin fails.
	staleUntil atomic.Int64
	// freshLimit is the latest freshUntil of media whose origin states none, or has none; zero: the origin states it.
	freshLimit int64
	// started is when the fetch of media began.
	started int64
	// isStreamed reports that media came to their end without a stated length.
	isStreamed bool
	// listed is what a playlist says of media; nil: none does. An entry may hold nothing else.
	listed atomic.Pointer[listedState]
	// nextRefresh is when a stale entry is refreshed again after a refresh failed.
	nextRefresh atomic.Int64
	// retention is how long the cache keeps the entry, also for revalidation.
	retention time.Duration

	// etag and lastModified are the origin's validators as sent.
	etag, lastModified string
	// expires is the Expires of media as sent.
	expires string

	// info and isWhole are those of a playlist's Inspection. An entry may hold nothing but info.
	info    any
	isWhole bool
}

// negativeEntry returns the entry of an answer without object.
func negativeEntry(err error, received int64, ttl time.Duration) *entry {
	e := &entry{negative: err, retention: ttl}
	e.freshUntil.Store(received + int64(ttl))
	return e
}

// canServeStale reports whether the entry, which may be nil, may be served if the origin fails: an object, or that a playlist was media.
func (e *entry) canServeStale(now int64) bool {
	return e != nil && now < e.staleUntil.Load()
}

// canServeStale reports whether the key's entry, which may be nil, may be served if the origin fails. A range of media may be of bytes that a
// playlist lists no more, which its own entry does not tell.
func (c *Cache) canServeStale(k cacheKey, e *entry) bool {
	if !e.canServeStale(c.now()) {
		return false
	}
	s := c.listed(k)
	return s == nil || e.freshLimit == 0 || e.started >= s.since
}

// isFreshOf reports whether the entry, which may be nil, is fresh now. s is what a playlist says of it, or nil.
func (e *entry) isFreshOf(s *listedState, now int64) bool {
	return e != nil && now < e.freshUntil.Load() && e.isOf(s)
}

// isShortOf reports whether a range, or the whole, ends behind the entry's bytes, or has no end, and the origin may have more by now: a
// packager writes the file that it announces, or whose parts it lists. An origin that states a lifetime is believed, and so is a playlist
// that lists the whole object; s is what it says, or nil. Then isComplete says whether the viewer's playlist will not change any more.
func (e *entry) isShortOf(want byteRange, s *listedState, isComplete bool) bool {
	switch {
	case e.object == nil, e.freshLimit == 0, s == nil && isComplete, s != nil && !s.isGrowing:
		return false
	case !want.isSet, want.isWhole():
		return s != nil && !e.isStreamed
	}
	end := int64(len(e.object.Body))
	if part, ok := parseContentRange(e.object.ContentRange); ok {
		end = part.hi
	}
	isOpen := want.first > 0 && want.last < 0
	return isOpen || max(want.first, want.last) >= end
}

// hasObject reports whether there is an entry with one.
func (e *entry) hasObject() bool { return e != nil && e.object != nil }

// hasValidator reports whether the entry can be revalidated by a conditional request.
func (e *entry) hasValidator() bool {
	return e.hasObject() && (e.etag != "" || e.lastModified != "")
}

// entryOverhead estimates the bytes of an entry besides its body: entry, object, header strings, the cache's node.
const entryOverhead = 1 << 10

func weigh(k cacheKey, e *entry) uint32 {
	n := entryOverhead + len(k.path) + len(k.query) + len(k.variant)
	switch {
	case e.object == nil:
	case k.media:
		n += len(e.object.Body)
	default:
		n += 3 * len(e.object.Body) // with the template derived from a playlist
	}
	return uint32(min(n, math.MaxUint32))
}

type cacheLogger struct{ log *slog.Logger }

func (l cacheLogger) Warn(ctx context.Context, msg string, err error) {
	l.log.WarnContext(ctx, "cache warning", slog.String("detail", msg), slog.Any("error", err))
}

func (l cacheLogger) Error(ctx context.Context, msg string, err error) {
	l.log.ErrorContext(ctx, "cache failed", slog.String("detail", msg), slog.Any("error", err))
}
