package limits

import (
	"encoding/binary"
	"errors"
	"slices"

	"usher/actors/session"
)

// storedSet is a user's streams as the store holds them. What it counts tells what a set lacks that the store held before it
// lost its data. Its zero value is a user of whom nothing was ever read.
type storedSet struct {
	streams streamSet
	// epoch names the first version since the store last knew nothing of the user.
	epoch int64
	// writes counts the writes of the set. It goes on in a new epoch if a node restores the set.
	writes int64
	// restored is the number of writes up to which the set was restored.
	restored int64
}

// next returns the set of the next write, whose version is new. isMissing: the store has no set.
func (s storedSet) next(streams streamSet, version int64, isMissing bool) storedSet {
	if s.streams = streams; isMissing || s.epoch == 0 {
		s.epoch, s.restored = version, s.writes
	}
	s.writes++
	return s
}

// lacks reports whether the store has lost writes that a node knows of.
func (s *storedSet) lacks(known *storedSet) bool {
	if s.epoch == known.epoch {
		return known.writes > s.writes // a replica took over that had not received them
	}
	return known.writes > s.restored
}

// layout begins an encoded set. A set with another layout is another version's, and left alone.
const layout = 3

// errLayout reports a set that this program did not write.
var errLayout = errors.New("the user's streams are malformed, or another version's")

// encode returns the set as the store holds it: the layout, the counts, then the streams, field by field.
func (s *storedSet) encode() string {
	counts := [...]int64{s.epoch, s.writes, s.restored}
	data, _ := binary.Append([]byte{layout}, binary.LittleEndian, counts) // what has a fixed size cannot fail
	data, _ = binary.Append(data, binary.LittleEndian, s.streams)
	return string(data)
}

// decode reads what encode wrote.
func decode(text string) (s storedSet, err error) {
	var counts [3]int64
	data, head := []byte(text), 1+binary.Size(counts)
	if len(data) < head || data[0] != layout {
		return storedSet{}, errLayout
	}
	s.streams = make(streamSet, (len(data)-head)/binary.Size(stream{}))
	_, errCounts := binary.Decode(data[1:], binary.LittleEndian, &counts)
	n, err := binary.Decode(data[head:], binary.LittleEndian, s.streams)
	isUnknown := func(o stream) bool { return o.State > session.StreamSuperseded }
	if err != nil || errCounts != nil || n != len(data)-head || slices.ContainsFunc(s.streams, isUnknown) {
		return storedSet{}, errLayout
	}
	s.epoch, s.writes, s.restored = counts[0], counts[1], counts[2]
	return s, nil
}
