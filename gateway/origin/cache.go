package origin

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Cache is the memory that all origins of a gateway share: stored answers, bounded in bytes, and the bytes of answers
// on their way. It is safe for concurrent use. Close it after the origins that use it.
type Cache struct {
	entries     *otter.Cache[key, *entry]
	epoch       time.Time
	config      CacheConfig
	inFlight    atomic.Int64
	maxInFlight int64
}

// NewCache makes an empty cache. The config must be valid.
func NewCache(c CacheConfig, log *slog.Logger) (*Cache, error) {
	entries, err := otter.New(&otter.Options[key, *entry]{
		MaximumWeight: uint64(c.MaxSize), //nolint:gosec // Validate: positive
		Weigher:       weigh,
		// Dead segments must go by themselves: they were popular once, and popularity is what the eviction looks at.
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[key, *entry]) time.Duration { return e.Value.keep }),
		Logger:           cacheLogger{log},
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache: cache.max_size=%v: %w", c.MaxSize, err)
	}
	return &Cache{
		entries:     entries,
		epoch:       time.Now(),
		config:      c,
		maxInFlight: int64(max(c.MaxSize/4, c.MaxObjectSize)),
	}, nil
}

// Close frees what is stored and stops the cache's own goroutine.
func (c *Cache) Close() {
	c.entries.StopAllGoroutines()
	c.entries.InvalidateAll()
}

// CacheStats is the cache's state at one moment.
type CacheStats struct {
	Entries int
	// Stored is the bytes of what is stored, with an estimate of what it takes besides the body. InFlight is the bytes
	// of bodies on their way.
	Stored, InFlight int64
}

// Stats reads the cache's state. The numbers are estimates while the cache is in use.
func (c *Cache) Stats() CacheStats {
	return CacheStats{
		Entries:  c.entries.EstimatedSize(),
		Stored:   int64(c.entries.WeightedSize()), //nolint:gosec // bounded by max_bytes
		InFlight: c.inFlight.Load(),
	}
}

// now is the time that entries are dated in: monotonic, in nanoseconds.
func (c *Cache) now() int64 { return int64(time.Since(c.epoch)) }

func (c *Cache) get(k key) *entry {
	e, _ := c.entries.GetIfPresent(k)
	return e
}

// fresh returns the entry if it still holds.
func (c *Cache) fresh(k key) *entry {
	if e := c.get(k); e != nil && c.now() < e.freshUntil {
		return e
	}
	return nil
}

// put stores e in place of what was there. An entry that is not to be kept only removes it.
func (c *Cache) put(k key, e *entry) {
	if e.keep <= 0 {
		c.entries.Invalidate(k)
		return
	}
	c.entries.Set(k, e)
}

// reserve counts n bytes of a body on its way, or reports that there is no room for them.
func (c *Cache) reserve(n int64) bool {
	if c.inFlight.Add(n) > c.maxInFlight {
		c.inFlight.Add(-n)
		return false
	}
	return true
}

// grab counts n bytes that cannot be done without: the window of a body that passes through.
func (c *Cache) grab(n int64) { c.inFlight.Add(n) }

func (c *Cache) release(n int64) { c.inFlight.Add(-n) }

// entry is what is known of a key. Times are those of [Cache.now].
type entry struct {
	object  *Object      // nil: missing
	missing *StatusError // the origin's 404 or 410

	freshUntil int64
	// staleUntil is until when it may be served although the origin could not be asked again.
	staleUntil int64
	// retryAt paces the refreshes of a stale entry while they fail.
	retryAt atomic.Int64
	// keep is how long the cache holds on to it, also to ask the origin whether it has changed.
	keep time.Duration

	// etag and lastModified are the origin's validators as it sent them.
	etag, lastModified string
}

// servable reports whether the entry may stand in for an answer that the origin fails to give.
func (e *entry) servable(now int64) bool { return e != nil && e.object != nil && now < e.staleUntil }

// conditional reports whether the origin can be asked only for a change.
func (e *entry) conditional() bool {
	return e != nil && e.object != nil && (e.etag != "" || e.lastModified != "")
}

// entryOverhead is what an entry takes besides its body, by estimate: entry, object, header strings, the cache's node.
const entryOverhead = 1 << 10

func weigh(k key, e *entry) uint32 {
	n := entryOverhead + len(k.path) + len(k.query) + len(k.variant)
	switch {
	case e.object == nil:
	case k.media:
		n += len(e.object.Body)
	default:
		n += 3 * len(e.object.Body) // with the template that is derived from a playlist
	}
	return uint32(min(n, math.MaxUint32)) //nolint:gosec // bounded on this line
}

type cacheLogger struct{ log *slog.Logger }

func (l cacheLogger) Warn(ctx context.Context, msg string, err error) {
	l.log.WarnContext(ctx, "cache trouble", slog.String("what", msg), slog.Any("error", err))
}

func (l cacheLogger) Error(ctx context.Context, msg string, err error) {
	l.log.ErrorContext(ctx, "cache failure", slog.String("what", msg), slog.Any("error", err))
}
