package admin

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
)

// sketchSize is the maximum number of hashes in a sketch of a list or a count. It gives a standard error of 3 % (1 ÷ √1024) in 8 kB.
const sketchSize = 1024

// sketch is a KMV sketch (k minimum values): it counts the distinct sessions of several nodes without a list of all ids.
// It keeps the smallest hashes of the ids. With few ids these are all of them; otherwise the largest kept hash gives
// the density of the hashes.
type sketch struct {
	count  int
	hashes smallest[uint64]
}

func newSketch(size int) *sketch {
	return &sketch{hashes: smallest[uint64]{limit: size, compare: cmp.Compare[uint64]}}
}

func (s *sketch) add(id string) { s.addHash(hashID(id)) }

func (s *sketch) addHash(hash uint64) {
	s.count++
	s.hashes.add(hash)
}

// hashID returns the same hash on all nodes. The finalizer of MurmurHash3 spreads the values of FNV evenly.
func hashID(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // it never fails
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// encodedSketch is a sketch as sent to another node. It is exact if it has as many hashes as sessions.
type encodedSketch struct {
	Count  int    `json:"count"`
	Hashes []byte `json:"hashes"` // in ascending order, 8 bytes each
}

func (s *sketch) encode() encodedSketch {
	out := encodedSketch{Count: s.count}
	for _, h := range s.hashes.sorted() {
		out.Hashes = binary.BigEndian.AppendUint64(out.Hashes, h)
	}
	return out
}

// countUnion counts the distinct sessions of several nodes. The count is exact for a single node and if all sketches are
// exact.
func countUnion(all []encodedSketch) (count int, exact bool) {
	if len(all) == 1 {
		return all[0].Count, true
	}
	exact = true
	var union []uint64
	least, most, size := 0, 0, math.MaxInt
	for _, s := range all {
		for h := range slices.Chunk(s.Hashes[:len(s.Hashes)/8*8], 8) {
			union = append(union, binary.BigEndian.Uint64(h))
		}
		if held := len(s.Hashes) / 8; held < s.Count {
			exact = false
			if held > 0 {
				size = min(size, held)
			}
		}
		least, most = max(least, s.Count), most+s.Count
	}
	slices.Sort(union)
	union = slices.Compact(union)
	if exact {
		return len(union), true
	}
	last := min(len(union), size) - 1
	if last < 0 {
		return most, false // a node sent a count without hashes
	}
	estimate := float64(last) * math.MaxUint64 / float64(union[last])
	if estimate >= float64(most) || math.IsNaN(estimate) { // no int holds what implausibly small hashes give
		return most, false
	}
	return max(int(estimate), least), false
}
