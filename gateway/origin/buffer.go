package origin

import (
	"context"
	"errors"
	"io"
	"time"
)

const (
	// chunkSize is a compromise: small enough for a key, large enough for few wake-ups a segment.
	chunkSize = 32 << 10
	// window is how far the fetch of a body that passes through runs ahead of its slowest reader.
	window = 16 * chunkSize
)

// buffer is the body of a flight as far as it has arrived: one slice if its length is known, else chunks of equal
// size, made one slice when it is stored. Bytes that were handed out are never written to again. Guarded by the
// flight's lock.
type buffer struct {
	flat   []byte
	chunks [][]byte
	// base is the offset of the first byte kept, size that of the first byte missing. base moves only while passing.
	base, size int64
	// passing: the body is not to be stored, so only a window of it is kept.
	passing bool
	// bounded: it was compressed, so its size is no measure of what the origin sent; it may not outgrow what is stored.
	bounded  bool
	reserved int64
	room     chan struct{} // cap 1: a reader moved on
	scratch  [1]byte
}

// prepare chooses how the body is kept.
func (b *buffer) prepare(c *Cache, length int64, decoded bool) {
	b.room = make(chan struct{}, 1)
	b.bounded = decoded
	switch {
	case length > int64(c.config.MaxObjectSize):
		b.passing = true
	case length > 0 && c.reserve(length):
		b.reserved = length
		b.flat = make([]byte, 0, length)
	}
}

// at returns what is there from off on, as one slice.
func (b *buffer) at(off int64) []byte {
	switch {
	case off >= b.size || off < b.base:
		return nil
	case b.flat != nil:
		return b.flat[off:b.size:b.size]
	}
	i := (off - b.base) / chunkSize
	start := off % chunkSize
	end := min(chunkSize, b.size-(off-start))
	return b.chunks[i][start:end]
}

// moved tells the fetch that a reader moved on or left.
func (b *buffer) moved() {
	select {
	case b.room <- struct{}{}:
	default: // told already, or (nil) no body yet
	}
}

// spare returns free memory at the end of what is there, or nil if a new chunk is needed.
func (b *buffer) spare() []byte {
	if b.flat != nil {
		if free := b.flat[b.size:cap(b.flat)]; len(free) > 0 {
			return free
		}
		return b.scratch[:] // to read the end of the body
	}
	used := b.size - b.base - int64(max(0, len(b.chunks)-1))*chunkSize
	if len(b.chunks) == 0 || used == chunkSize {
		return nil
	}
	return b.chunks[len(b.chunks)-1][used:]
}

// grow adds a chunk; there must be room for it.
func (b *buffer) grow(c *Cache) {
	if b.passing {
		c.grab(chunkSize)
	}
	b.reserved += chunkSize
	b.chunks = append(b.chunks, make([]byte, chunkSize))
}

// advance makes n more bytes visible.
func (b *buffer) advance(n int) {
	b.size += int64(n)
	if b.flat != nil {
		b.flat = b.flat[:b.size]
	}
}

// trim forgets the chunks before off and reports whether there were any.
func (b *buffer) trim(c *Cache, off int64) bool {
	n := min((off-b.base)/chunkSize, int64(len(b.chunks)))
	if n <= 0 {
		return false
	}
	clear(b.chunks[:n])
	b.chunks = b.chunks[n:]
	b.base += n * chunkSize
	b.reserved -= n * chunkSize
	c.release(n * chunkSize)
	return true
}

// join returns the whole body as one slice.
func (b *buffer) join() []byte {
	if b.flat != nil {
		return b.flat
	}
	body := make([]byte, 0, b.size)
	for off := int64(0); off < b.size; off = int64(len(body)) {
		body = append(body, b.at(off)...)
	}
	return body
}

// settle replaces the chunks by the body that is stored, which the cache counts from now on.
func (b *buffer) settle(c *Cache, body []byte) {
	b.flat, b.chunks, b.base, b.size = body, nil, 0, int64(len(body))
	c.release(b.reserved)
	b.reserved = 0
}

// free forgets the body.
func (b *buffer) free(c *Cache) {
	b.flat, b.chunks = nil, nil
	b.base = b.size
	c.release(b.reserved)
	b.reserved = 0
}

// space returns memory for the fetch to read into, waiting for the readers if the body passes through.
func (f *flight) space(patience time.Duration) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &f.body
	if b.bounded && b.size > int64(f.cache.config.MaxObjectSize) {
		return nil, tooLarge("cache.max_object_size", f.cache.config.MaxObjectSize)
	}
	if free := b.spare(); free != nil {
		return free, nil
	}
	if !b.passing && (b.size >= int64(f.cache.config.MaxObjectSize) || !f.cache.reserve(chunkSize)) {
		b.passing = true
	}
	if b.passing {
		if err := f.makeRoom(patience); err != nil {
			return nil, err
		}
	}
	b.grow(f.cache)
	return b.spare(), nil
}

// fill reads the body to its end.
func (f *flight) fill(body io.Reader, patience time.Duration) error {
	for {
		free, err := f.space(patience)
		if err != nil {
			return err
		}
		n, err := body.Read(free)
		if n > 0 {
			f.advance(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// whole reports whether all of the body is there and may be stored.
func (f *flight) whole() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.base == 0 && f.body.size <= int64(f.cache.config.MaxObjectSize)
}

// advance publishes n bytes that were read into space.
func (f *flight) advance(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.body.advance(n)
	f.broadcast()
}

// makeRoom waits until the slowest reader is within the window. A reader who keeps others waiting for longer than
// patience is cut off; one who is alone may take his time, his connection's own timeouts end him. f.mu is held.
func (f *flight) makeRoom(patience time.Duration) error {
	if f.body.size-f.body.base < window {
		return nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for f.body.size-f.body.base >= window {
		if f.body.trim(f.cache, f.slowest()) {
			continue
		}
		f.mu.Unlock()
		cut := false
		select {
		case <-f.body.room:
		case <-timer.C:
			cut = true
			timer.Reset(patience)
		case <-f.ctx.Done():
		}
		f.mu.Lock()
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		if cut {
			f.cutLaggards()
		}
	}
	return nil
}

// slowest is the offset before which nobody needs a byte any more. f.mu is held.
func (f *flight) slowest() int64 {
	low := f.body.size
	if f.viewers > len(f.followers) {
		low = 0 // somebody has entered who has not begun to read
	}
	for fo := range f.followers {
		if !fo.cut {
			low = min(low, fo.off)
		}
	}
	return low
}

// cutLaggards ends those who hold the fetch back, if others have read all there is. Those are the readers of the first
// chunk that is kept; whoever has moved on meanwhile is none of them. f.mu is held.
func (f *flight) cutLaggards() {
	starving := false
	for fo := range f.followers {
		starving = starving || fo.off == f.body.size
	}
	if !starving {
		return
	}
	for fo := range f.followers {
		if fo.off < f.body.base+chunkSize {
			fo.cut = true
		}
	}
	f.broadcast()
}
