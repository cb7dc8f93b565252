package limits

import (
	"encoding/binary"
	"errors"

	"usher/actors/session"
)

// layout begins an encoded set. A set with another layout is another version's, and left alone.
const layout = 2

// The flags of a stream.
const (
	flagPlaying = 1 << iota
	flagIPv6
)

// errLayout reports a set that this program did not write.
var errLayout = errors.New("the user's streams are malformed, or another version's")

// encode returns the set as Redis holds it, nil if it is empty: the layout, then for each stream its id and its group,
// its numbers as varints, the length of its device, the device.
func (s streamSet) encode() []byte {
	if len(s) == 0 {
		return nil
	}
	data := append(make([]byte, 0, 1+len(s)*80), layout)
	for i := range s {
		one := &s[i]
		data = append(data, one.id[:]...)
		data = append(data, one.group[:]...)
		flags := int64(0)
		if one.isPlaying {
			flags |= flagPlaying
		}
		if one.isIPv6 {
			flags |= flagIPv6
		}
		for _, n := range []int64{
			one.opened, one.lastSeen, one.reportedAt, one.countedSince, one.zapTimeout, int64(one.maxStreams), int64(one.state),
			flags, int64(len(one.device)),
		} {
			data = binary.AppendVarint(data, n)
		}
		data = append(data, one.device...)
	}
	return data
}

// decode reads what encode wrote.
func decode(data []byte) (set streamSet, err error) {
	if len(data) == 0 {
		return nil, nil
	}
	if data[0] != layout {
		return nil, errLayout
	}
	for data = data[1:]; len(data) > 0; {
		var s stream
		data = data[copy(s.id[:], data):]
		data = data[copy(s.group[:], data):]
		var n [9]int64
		for i := range n {
			size := 0
			if n[i], size = binary.Varint(data); size <= 0 {
				return nil, errLayout
			}
			data = data[size:]
		}
		if n[6] < 0 || n[6] > int64(session.StreamSuperseded) || n[7]&^(flagPlaying|flagIPv6) != 0 || n[8] < 0 || n[8] > int64(len(data)) {
			return nil, errLayout
		}
		s.opened, s.lastSeen, s.reportedAt, s.countedSince, s.zapTimeout = n[0], n[1], n[2], n[3], n[4]
		s.maxStreams, s.state, s.isPlaying = int(n[5]), session.StreamState(n[6]), n[7]&flagPlaying != 0
		s.isIPv6 = n[7]&flagIPv6 != 0
		s.device, data = string(data[:n[8]]), data[n[8]:]
		set = append(set, s)
	}
	return set, nil
}
