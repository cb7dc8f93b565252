package stage

import "sync"

// segmentCache keeps the requested segments until they are too old to be served. It is safe for concurrent use.
type segmentCache struct {
	build func(r rendition, number int64) *segment

	mu       sync.RWMutex
	segments map[segmentKey]*segment
}

type segmentKey struct {
	rendition rendition
	number    int64
}

// segment is an immutable segment.
type segment struct {
	bytes []byte
	// parts are the end offsets of the parts, on low-latency channels only.
	parts []int
}

// part returns the bytes of one part. The index is below len(parts).
func (s *segment) part(index int64) []byte {
	from := 0
	if index > 0 {
		from = s.parts[index-1]
	}
	return s.bytes[from:s.parts[index]]
}

func newSegmentCache(build func(r rendition, number int64) *segment) *segmentCache {
	return &segmentCache{build: build, segments: make(map[segmentKey]*segment)}
}

// get returns a segment. It builds it at the first request, and then drops segments older than oldest.
func (c *segmentCache) get(r rendition, number, oldest int64) *segment {
	key := segmentKey{r, number}
	c.mu.RLock()
	s := c.segments[key]
	c.mu.RUnlock()
	if s != nil {
		return s
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.segments[key]; s != nil {
		return s
	}
	for k := range c.segments {
		if k.number < oldest {
			delete(c.segments, k)
		}
	}
	// The segment is built under the lock: it takes microseconds, and the segment is built once.
	s = c.build(r, number)
	c.segments[key] = s
	return s
}
