package admin

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math"
	"slices"
)

// sketchSize is how many hashes a sketch has at most, so that its error is 3 % (1 ÷ √1024) and it takes 8 kB.
const sketchSize = 1024

// sketch counts different sessions, so that nodes that hold the same ones can say how many there are together without
// naming all. It is the smallest hashes of their ids: all of them if there are few; else the largest of the smallest
// tells how densely hashes lie.
type sketch struct {
	count  int
	hashes smallest[uint64]
}

func newSketch() *sketch {
	return &sketch{hashes: smallest[uint64]{most: sketchSize, compare: cmp.Compare[uint64]}}
}

func (s *sketch) add(id string) {
	s.count++
	s.hashes.add(sketchHash(id))
}

// sketchHash is the same on all nodes. Two rounds of murmur3's mixing spread what FNV leaves together.
func sketchHash(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // it never fails
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// shownSketch is a sketch on its way to another node. A node that holds no more than sketchSize sessions names all.
type shownSketch struct {
	Count  int    `json:"count"`
	Hashes []byte `json:"hashes"` // in ascending order, 8 bytes each
}

func (s *sketch) shown() shownSketch {
	out := shownSketch{Count: s.count}
	for _, h := range s.hashes.sorted() {
		out.Hashes = binary.BigEndian.AppendUint64(out.Hashes, h)
	}
	return out
}

// together counts the different sessions of several nodes. It is exact for a single node, and where all named all.
func together(all []shownSketch) (count int, exact bool) {
	if len(all) == 1 {
		return all[0].Count, true
	}
	exact = true
	var union []uint64
	least, most := 0, 0
	for _, s := range all {
		for h := range slices.Chunk(s.Hashes[:len(s.Hashes)/8*8], 8) {
			union = append(union, binary.BigEndian.Uint64(h))
		}
		exact = exact && s.Count <= sketchSize
		least, most = max(least, s.Count), most+s.Count
	}
	slices.Sort(union)
	union = slices.Compact(union)
	if exact {
		return len(union), true
	}
	last := min(len(union), sketchSize) - 1
	if last < 0 {
		return most, false // a node that says so many and names none
	}
	density := float64(union[last]) / math.MaxUint64
	return min(max(int(float64(last)/density), least), most), false
}
