package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// fmp4Loop is the loop as fragmented MP4, one fragment per part. It is immutable.
type fmp4Loop struct {
	init      []byte
	fragments []fragment
}

// fragment is one moof with its mdat.
type fragment struct {
	bytes []byte
	// sequenceOffset is the offset of the sequence number in mfhd.
	sequenceOffset int
	decodeTimes    []decodeTime
}

// decodeTime locates the 64-bit decode time of a track in tfdt.
type decodeTime struct {
	offset int
	// perLoop is by how much one round of the loop advances it.
	perLoop uint64
}

var errMalformedBoxes = errors.New("malformed boxes")

// newFMP4Loop splits a fragmented file into its init segment and its fragments. They share the memory of file.
func newFMP4Loop(file []byte) (*fmp4Loop, error) {
	l := &fmp4Loop{}
	var timescales map[uint32]uint64
	fragmentAt := 0
	err := eachBox(file, 0, len(file), func(kind string, from, to int) error {
		var err error
		switch kind {
		case "moov":
			l.init = file[:to]
			timescales, err = readTimescales(file, from, to)
		case "moof":
			fragmentAt = from - boxHeader
		case "mdat":
			var f fragment
			f, err = newFragment(file[fragmentAt:to], timescales)
			l.fragments = append(l.fragments, f)
		}
		return err
	})
	if err == nil && (l.init == nil || len(l.fragments) == 0) {
		err = errors.New("no moov or no fragments")
	}
	return l, err
}

// appendPart appends the part with the given number, counted from the Unix epoch, with the times and the sequence number
// of that round of the loop.
func (l *fmp4Loop) appendPart(dst []byte, part int64) []byte {
	parts := int64(len(l.fragments))
	f := l.fragments[part%parts]
	start := len(dst)
	dst = append(dst, f.bytes...)
	moved := dst[start:]
	// The number has 32 bits and wraps around; it only has to grow by one.
	binary.BigEndian.PutUint32(moved[f.sequenceOffset:], uint32(part+1))
	round := uint64(part / parts)
	for _, t := range f.decodeTimes {
		field := moved[t.offset:]
		binary.BigEndian.PutUint64(field, binary.BigEndian.Uint64(field)+round*t.perLoop)
	}
	return dst
}

// size returns the size in bytes of the part with the given number.
func (l *fmp4Loop) size(part int64) int { return len(l.fragments[part%int64(len(l.fragments))].bytes) }

// newFragment locates the numbers of a fragment that change from round to round.
func newFragment(b []byte, timescales map[uint32]uint64) (fragment, error) {
	f := fragment{bytes: b}
	var track uint32
	var visit func(kind string, from, to int) error
	visit = func(kind string, from, to int) error {
		switch kind {
		case "moof", "traf":
			return eachBox(b, from, to, visit)
		case "mfhd":
			f.sequenceOffset = from + 4
			return checkEnd(f.sequenceOffset+4, to)
		case "tfhd":
			if err := checkEnd(from+8, to); err != nil {
				return err
			}
			track = binary.BigEndian.Uint32(b[from+4:])
		case "tfdt":
			if err := checkEnd(from+12, to); err != nil {
				return err
			}
			if b[from] != 1 {
				return fmt.Errorf("tfdt of version %d has too few bits; want version 1", b[from])
			}
			f.decodeTimes = append(f.decodeTimes, decodeTime{offset: from + 4, perLoop: loopSeconds * timescales[track]})
		}
		return nil
	}
	if err := eachBox(b, 0, len(b), visit); err != nil {
		return f, err
	}
	if f.sequenceOffset == 0 || len(f.decodeTimes) == 0 {
		return f, errors.New("fragment without mfhd or tfdt")
	}
	return f, nil
}

// readTimescales reads the timescale of each track, in ticks per second.
func readTimescales(b []byte, from, to int) (map[uint32]uint64, error) {
	scales := make(map[uint32]uint64)
	var track uint32
	var visit func(kind string, from, to int) error
	visit = func(kind string, from, to int) error {
		switch kind {
		case "trak", "mdia":
			return eachBox(b, from, to, visit)
		case "tkhd", "mdhd":
			// Both hold two times before the number: of 32 bits, or of 64 bits in version 1.
			if err := checkEnd(from+24, to); err != nil {
				return err
			}
			at := from + 12 + 8*int(b[from]&1)
			number := binary.BigEndian.Uint32(b[at:])
			if kind == "tkhd" {
				track = number
			} else {
				scales[track] = uint64(number)
			}
		}
		return nil
	}
	err := eachBox(b, from, to, visit)
	return scales, err
}

const boxHeader = 8

// eachBox calls visit for each box between two offsets, without nested boxes. from and to are the bounds of its body.
func eachBox(b []byte, from, to int, visit func(kind string, from, to int) error) error {
	for from < to {
		if to-from < boxHeader {
			return errMalformedBoxes
		}
		size := int(binary.BigEndian.Uint32(b[from:]))
		if size < boxHeader || size > to-from {
			return errMalformedBoxes
		}
		if err := visit(string(b[from+4:from+8]), from+boxHeader, from+size); err != nil {
			return err
		}
		from += size
	}
	return nil
}

func checkEnd(end, to int) error {
	if end > to {
		return errMalformedBoxes
	}
	return nil
}
