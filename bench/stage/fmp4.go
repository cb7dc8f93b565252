package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// fmp4Loop is the loop as fragmented MP4, one fragment a part. It is not changed after newFMP4Loop.
type fmp4Loop struct {
	init      []byte
	fragments []fragment
}

// fragment is one moof with its mdat.
type fragment struct {
	bytes []byte
	// sequence is where mfhd's number stands; times are where the tracks' decode times do.
	sequence int
	times    []decodeTime
}

// decodeTime is where a tfdt's 64 bits stand, and by how much one round of the loop moves them.
type decodeTime struct {
	at      int
	perLoop uint64
}

var errBoxes = errors.New("boxes do not fit into one another")

// newFMP4Loop cuts a fragmented file into its init segment and its fragments, which keep referring to file.
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

// appendPart appends the part of the given number, counted from the Unix epoch, its times and its sequence number
// moved to where the loop stands then.
func (l *fmp4Loop) appendPart(dst []byte, part int64) []byte {
	parts := int64(len(l.fragments))
	f := l.fragments[part%parts]
	start := len(dst)
	dst = append(dst, f.bytes...)
	moved := dst[start:]
	// The number has 32 bits and wraps; what counts is that it grows by one.
	binary.BigEndian.PutUint32(moved[f.sequence:], uint32(part+1))
	round := uint64(part / parts)
	for _, t := range f.times {
		field := moved[t.at:]
		binary.BigEndian.PutUint64(field, binary.BigEndian.Uint64(field)+round*t.perLoop)
	}
	return dst
}

// size is how long the part is that has the given number.
func (l *fmp4Loop) size(part int64) int { return len(l.fragments[part%int64(len(l.fragments))].bytes) }

// newFragment finds the numbers of a fragment that move from round to round.
func newFragment(b []byte, timescales map[uint32]uint64) (fragment, error) {
	f := fragment{bytes: b}
	var track uint32
	var visit func(kind string, from, to int) error
	visit = func(kind string, from, to int) error {
		switch kind {
		case "moof", "traf":
			return eachBox(b, from, to, visit)
		case "mfhd":
			f.sequence = from + 4
			return fits(f.sequence+4, to)
		case "tfhd":
			if err := fits(from+8, to); err != nil {
				return err
			}
			track = binary.BigEndian.Uint32(b[from+4:])
		case "tfdt":
			if err := fits(from+12, to); err != nil {
				return err
			}
			if b[from] != 1 {
				return fmt.Errorf("tfdt of version %d has no room for a long life", b[from])
			}
			f.times = append(f.times, decodeTime{at: from + 4, perLoop: loopSeconds * timescales[track]})
		}
		return nil
	}
	if err := eachBox(b, 0, len(b), visit); err != nil {
		return f, err
	}
	if f.sequence == 0 || len(f.times) == 0 {
		return f, errors.New("fragment without mfhd or tfdt")
	}
	return f, nil
}

// readTimescales reads how many ticks a second each track has.
func readTimescales(b []byte, from, to int) (map[uint32]uint64, error) {
	scales := make(map[uint32]uint64)
	var track uint32
	var visit func(kind string, from, to int) error
	visit = func(kind string, from, to int) error {
		switch kind {
		case "trak", "mdia":
			return eachBox(b, from, to, visit)
		case "tkhd", "mdhd":
			// Both hold two times before the number that matters: of 32 bits, or of 64 in version 1.
			if err := fits(from+24, to); err != nil {
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

// eachBox visits the boxes between two offsets, not those inside of them; visit gets the body's bounds.
func eachBox(b []byte, from, to int, visit func(kind string, from, to int) error) error {
	for from < to {
		if to-from < boxHeader {
			return errBoxes
		}
		size := int(binary.BigEndian.Uint32(b[from:]))
		if size < boxHeader || size > to-from {
			return errBoxes
		}
		if err := visit(string(b[from+4:from+8]), from+boxHeader, from+size); err != nil {
			return err
		}
		from += size
	}
	return nil
}

func fits(end, to int) error {
	if end > to {
		return errBoxes
	}
	return nil
}
