package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"
)

const (
	// chunkSize is small enough for a key and large enough for few wake-ups per segment.
	chunkSize = 32 << 10
	// passThroughWindow is how many bytes the fetch of a pass-through body runs ahead of its slowest reader.
	passThroughWindow = 16 * chunkSize
)

// buffer is the body of a fetch as far as it has arrived: one slice if its length is known, else chunks of equal size,
// which become one slice when the body is stored. Bytes that readers have received are never modified. The fetch's lock
// guards it.
type buffer struct {
	flat   []byte
	chunks [][]byte
	// base is the offset of the first byte that is kept. It advances only in a pass-through body.
	base int64
	// size is the number of bytes that have arrived.
	size int64
	// isPassThrough reports that the body is not stored, so that only a window of it is kept.
	isPassThrough bool
	// isDecoded reports that the body was compressed. Its size may exceed what the origin sent, and is bounded by
	// cache.max_object_size.
	isDecoded bool
	reserved  int64
	hasRoom   chan struct{} // capacity 1: a reader advanced or left
	scratch   [1]byte
}

// prepare chooses how the body is stored, by its length.
func (b *buffer) prepare(c *Cache, length int64, decoded bool) {
	b.hasRoom = make(chan struct{}, 1)
	b.isDecoded = decoded
	switch {
	case length > int64(c.config.MaxObjectSize):
		b.isPassThrough = true
	case length > 0 && c.reserve(length):
		b.reserved = length
		b.flat = make([]byte, 0, length)
	}
}

// at returns available bytes from off on, as one slice, or nil.
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

// notifyRoom notifies the fetch that a reader advanced or left.
func (b *buffer) notifyRoom() {
	select {
	case b.hasRoom <- struct{}{}:
	default: // already notified, or (nil) no body yet
	}
}

// freeSpace returns free memory after the last byte, or nil if a new chunk is needed.
func (b *buffer) freeSpace() []byte {
	if b.flat != nil {
		if free := b.flat[b.size:cap(b.flat)]; len(free) > 0 {
			return free
		}
		return b.scratch[:] // to read io.EOF
	}
	used := b.size - b.base - int64(max(0, len(b.chunks)-1))*chunkSize
	if len(b.chunks) == 0 || used == chunkSize {
		return nil
	}
	return b.chunks[len(b.chunks)-1][used:]
}

// grow adds a chunk. The caller has made sure of the room.
func (b *buffer) grow(c *Cache) {
	if b.isPassThrough {
		c.reserveAnyway(chunkSize)
	}
	b.reserved += chunkSize
	b.chunks = append(b.chunks, make([]byte, chunkSize))
}

// advance adds n bytes to the size.
func (b *buffer) advance(n int) {
	b.size += int64(n)
	if b.flat != nil {
		b.flat = b.flat[:b.size]
	}
}

// dropBefore drops the chunks before off and reports whether there were any.
func (b *buffer) dropBefore(c *Cache, off int64) bool {
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

// bytes returns the whole body as one slice.
func (b *buffer) bytes() []byte {
	if b.flat != nil {
		return b.flat
	}
	body := make([]byte, 0, b.size)
	for off := int64(0); off < b.size; off = int64(len(body)) {
		body = append(body, b.at(off)...)
	}
	return body
}

// replaceBody replaces the chunks by the stored body, which the cache counts from then on.
func (b *buffer) replaceBody(c *Cache, body []byte) {
	b.flat, b.chunks, b.base, b.size = body, nil, 0, int64(len(body))
	c.release(b.reserved)
	b.reserved = 0
}

// discard drops the body.
func (b *buffer) discard(c *Cache) {
	b.flat, b.chunks = nil, nil
	b.base = b.size
	c.release(b.reserved)
	b.reserved = 0
}

// nextSpace returns memory for the fetch to read into. It waits for the readers of a pass-through body.
func (f *fetch) nextSpace(timeout time.Duration) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &f.body
	if b.isDecoded && b.size > int64(f.cache.config.MaxObjectSize) {
		return nil, tooLarge("cache.max_object_size", f.cache.config.MaxObjectSize)
	}
	if free := b.freeSpace(); free != nil {
		return free, nil
	}
	switch {
	case b.size > int64(f.cache.config.MaxObjectSize):
		b.isPassThrough = true
		if !f.conn.becomeLarge() {
			return nil, errNoConn
		}
	case !b.isPassThrough && !f.cache.reserve(chunkSize):
		b.isPassThrough = true
		f.conn.moveTo(classLarge) // what may be a segment is not broken off without room there
	}
	if b.isPassThrough {
		if err := f.waitForRoom(timeout); err != nil {
			return nil, err
		}
	}
	b.grow(f.cache)
	return b.freeSpace(), nil
}

// prepareBody makes room for a body of that length; -1: unknown. It reports whether there is a connection for one that passes through.
func (f *fetch) prepareBody(length int64, decoded bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.body.prepare(f.cache, length, decoded)
	return !f.body.isPassThrough || f.conn.moveTo(classLarge)
}

// readBody reads the body to its end.
func (f *fetch) readBody(body io.Reader, timeout time.Duration) error {
	for {
		err := f.readSome(body, timeout)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readSome reads what is available of the body. At the end it returns io.EOF, as often as it is called.
func (f *fetch) readSome(body io.Reader, timeout time.Duration) error {
	free, err := f.nextSpace(timeout)
	if err != nil {
		return err
	}
	n, err := body.Read(free)
	if n > 0 {
		f.advance(n)
	}
	return err
}

// resetBody drops what of the body has arrived, before anybody reads it.
func (f *fetch) resetBody() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.body.discard(f.cache)
	f.body = buffer{}
}

// beginsPlaylist reads the body's first bytes, up to where they tell a playlist from other media, and reports which it is. Those of a part
// that begins at another offset than zero do not tell.
func (f *fetch) beginsPlaylist(body io.Reader, offset int64, timeout time.Duration) (bool, error) {
	for {
		err := f.readSome(body, timeout)
		isEnd := errors.Is(err, io.EOF)
		if isEnd {
			err = nil
		}
		f.mu.Lock()
		isPlaylist, isKnown := isPlaylistStart(f.body.at(0), isEnd)
		f.mu.Unlock()
		switch {
		case err != nil:
			return false, err
		case offset > 0:
			return false, nil
		case isKnown:
			return isPlaylist, nil
		}
	}
}

// maxBlank bounds the blanks before the first line of a playlist that are waited for.
const maxBlank = 256

// isPlaylistStart reports whether a body that begins with these bytes is a playlist, and whether more bytes would not change
// that. A byte order mark and blanks may precede the first line.
func isPlaylistStart(start []byte, isWhole bool) (isPlaylist, isKnown bool) {
	const mark, tag, blanks = "\ufeff", "#EXTM3U", " \t\r\n"
	if len(start) < len(mark) && string(start) == mark[:len(start)] {
		return false, isWhole
	}
	line := bytes.TrimLeft(bytes.TrimPrefix(start, []byte(mark)), blanks)
	switch {
	case len(line) == 0:
		return false, isWhole || len(start) > maxBlank
	case len(line) < len(tag):
		return false, isWhole || string(line) != tag[:len(line)]
	case string(line[:len(tag)]) != tag:
		return false, true
	case len(line) == len(tag):
		return isWhole, isWhole
	default:
		return strings.IndexByte(blanks, line[len(tag)]) >= 0, true
	}
}

// isMediaStart reports whether a body of that type that begins with these bytes is media. A page that says what is wrong with the origin
// is not, and neither are blanks. No text has a zero byte.
func isMediaStart(contentType string, start []byte, isWhole bool) bool {
	isBlank := len(bytes.TrimSpace(bytes.TrimPrefix(start, []byte("\ufeff")))) == 0
	if isPlaylist, _ := isPlaylistStart(start, isWhole); isPlaylist || isBlank {
		return false
	}
	return (&Header{ContentType: contentType}).isTypedAsMedia() || bytes.IndexByte(start, 0) >= 0
}

// isTypedAsMedia reports whether the type is that of a video, sound or picture, and of no playlist.
func (h *Header) isTypedAsMedia() bool {
	name := strings.ToLower(h.ContentType)
	isMedia := strings.HasPrefix(name, "video/") || strings.HasPrefix(name, "audio/") || strings.HasPrefix(name, "image/")
	return isMedia && !strings.Contains(name, "mpegurl")
}

// isComplete reports whether the whole body is kept and small enough to be stored.
func (f *fetch) isComplete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.base == 0 && f.body.size <= int64(f.cache.config.MaxObjectSize)
}

// advance publishes n bytes that were read into the memory of nextSpace.
func (f *fetch) advance(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.body.advance(n)
	f.notifyAll()
}

// waitForRoom waits until the slowest reader is within the window. A reader that holds back others for longer than
// timeout is dropped. A single reader may be slow; the timeouts of its connection end it. f.mu is held.
func (f *fetch) waitForRoom(timeout time.Duration) error {
	if f.body.size-f.body.base < passThroughWindow {
		return nil
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for f.body.size-f.body.base >= passThroughWindow {
		if f.body.dropBefore(f.cache, f.slowestOffset()) {
			continue
		}
		f.mu.Unlock()
		cut := false
		select {
		case <-f.body.hasRoom:
		case <-timer.C:
			cut = true
			timer.Reset(timeout)
		case <-f.ctx.Done():
		}
		f.mu.Lock()
		if f.ctx.Err() != nil {
			return context.Cause(f.ctx)
		}
		if cut {
			f.dropSlowReaders()
		}
	}
	return nil
}

// slowestOffset returns the offset before which no reader needs a byte. f.mu is held.
func (f *fetch) slowestOffset() int64 {
	low := f.body.size
	if f.joined > len(f.readers) {
		low = 0 // a viewer has joined that has no reader yet
	}
	for r := range f.readers {
		if !r.wasDropped {
			low = min(low, r.offset)
		}
	}
	return low
}

// dropSlowReaders drops the readers that hold back the fetch, if other readers have read all available bytes. Slow are
// the readers in the first kept chunk. f.mu is held.
func (f *fetch) dropSlowReaders() {
	isStarving := false
	for r := range f.readers {
		isStarving = isStarving || r.offset == f.body.size
	}
	if !isStarving {
		return
	}
	for r := range f.readers {
		if r.offset < f.body.base+chunkSize {
			r.wasDropped = true
		}
	}
	f.notifyAll()
}
