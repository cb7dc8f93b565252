package viewer

import (
	"bytes"
	"encoding/binary"
	"sync"
)

// text is where an arena keeps a text. The zero value is the empty text.
type text struct {
	at     uint32 // in grains
	length uint16
}

// The unit of an arena, and the size of what it gets from the heap at a time.
const (
	grain     = 16
	chunkSize = 1 << 20
	maxText   = 1 << 15
)

// arena keeps texts of viewers without pointers, so that the collector does not visit them. It is safe for concurrent use.
type arena struct {
	mu     sync.Mutex
	chunks [][]byte
	// used are the grains given out of the last chunk.
	used uint32
	// free are the first free texts by size in grains; each holds the next one's place.
	free [maxText/grain + 1]uint32
}

func grains(length int) uint32 { return uint32((length + grain - 1) / grain) }

// set replaces a text, in its place if that fits as well. It returns false, and an empty text, if the new one is too long.
func (a *arena) set(old text, value []byte) (text, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	size := grains(len(value))
	if size != grains(int(old.length)) {
		a.releaseLocked(old)
		old = text{}
		if len(value) > maxText {
			return old, false
		}
		old.at = a.takeLocked(size)
	}
	if size > 0 {
		copy(a.bytesLocked(old.at, len(value)), value)
	}
	old.length = uint16(len(value))
	return old, true
}

// append appends a text to dst.
func (a *arena) append(dst []byte, t text) []byte {
	if t.length == 0 {
		return dst
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(dst, a.bytesLocked(t.at, int(t.length))...)
}

// equal reports whether a text is that value.
func (a *arena) equal(t text, value []byte) bool {
	if t.length == 0 {
		return len(value) == 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Equal(a.bytesLocked(t.at, int(t.length)), value)
}

// release frees a text.
func (a *arena) release(t text) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseLocked(t)
}

func (a *arena) releaseLocked(t text) {
	if size := grains(int(t.length)); size > 0 {
		binary.LittleEndian.PutUint32(a.bytesLocked(t.at, grain), a.free[size])
		a.free[size] = t.at + 1 // zero is none
	}
}

// takeLocked returns the place of some grains.
func (a *arena) takeLocked(size uint32) uint32 {
	if size == 0 {
		return 0
	}
	if first := a.free[size]; first > 0 {
		a.free[size] = binary.LittleEndian.Uint32(a.bytesLocked(first-1, grain))
		return first - 1
	}
	if len(a.chunks) == 0 || a.used+size > chunkSize/grain {
		a.chunks = append(a.chunks, make([]byte, chunkSize))
		a.used = 0
	}
	at := uint32(len(a.chunks)-1)*(chunkSize/grain) + a.used
	a.used += size
	return at
}

func (a *arena) bytesLocked(at uint32, length int) []byte {
	chunk, from := at/(chunkSize/grain), at%(chunkSize/grain)*grain
	return a.chunks[chunk][from : int(from)+length]
}
