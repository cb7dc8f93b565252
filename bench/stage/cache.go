package stage

import "sync"

// segmentCache keeps the segments that were asked for, in their final bytes, until they leave the window. It is safe
// for concurrent use.
type segmentCache struct {
	build func(r rendition, number int64) *segment

	mu       sync.RWMutex
	segments map[segmentKey]*segment
}

type segmentKey struct {
	rendition rendition
	number    int64
}

// segment is a segment's bytes; parts, on the low-latency channels, are where each part ends. It never changes.
type segment struct {
	bytes []byte
	parts []int
}

// part is the bytes of one part, an index below len(parts).
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

// get returns a segment, made now if nobody asked for it before. Segments older than oldest are dropped.
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
	// Made under the lock: it takes microseconds, and nobody makes it twice.
	s = c.build(r, number)
	c.segments[key] = s
	return s
}
