package stage

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// samples returns the durations in ticks of the track runs of a fragment, in the order of its tfdts. The tracks' default
// sample durations are 512 ticks of video and 1024 of audio.
func samples(t *testing.T, b []byte) []uint64 {
	t.Helper()
	var ticks []uint64
	defaults := []uint64{512, 1024}
	var visit func(kind string, from, to int) error
	visit = func(kind string, from, to int) error {
		switch kind {
		case "moof", "traf":
			return eachBox(b, from, to, visit)
		case "trun":
			ticks = append(ticks, uint64(binary.BigEndian.Uint32(b[from+4:]))*defaults[len(ticks)])
		}
		return nil
	}
	if err := eachBox(b, 0, len(b), visit); err != nil {
		t.Fatal(err)
	}
	return ticks
}

// decodeTimes reads the tfdts of a fragment.
func decodeTimes(t *testing.T, b []byte, scales map[uint32]uint64) []uint64 {
	t.Helper()
	f, err := newFragment(b, scales)
	if err != nil {
		t.Fatal(err)
	}
	var times []uint64
	for _, at := range f.decodeTimes {
		times = append(times, binary.BigEndian.Uint64(b[at.offset:]))
	}
	return times
}

func sequenceNumber(t *testing.T, b []byte, scales map[uint32]uint64) uint32 {
	t.Helper()
	f, err := newFragment(b, scales)
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint32(b[f.sequenceOffset:])
}

func TestFMP4Loop_NoDiscontinuity(t *testing.T) {
	t.Parallel()
	l, err := loadMedia()
	if err != nil {
		t.Fatal(err)
	}
	loop := l.lowLatency
	scales := map[uint32]uint64{1: 12_800, 2: 32_000}
	parts := int64(len(loop.fragments))
	tests := map[string]int64{
		"at the epoch":                           0,
		"today":                                  1_795_000_000 * int64(partsPerSecond),
		"while the 32-bit sequence number wraps": 1<<32 - parts - 7,
	}
	for name, from := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The video of a part begins when the part does; the audio begins with the first frame after that.
			first := loop.appendPart(nil, from)
			next := []uint64{uint64(from) * scales[1] / uint64(partsPerSecond), decodeTimes(t, first, scales)[1]}
			for part := from; part < from+3*parts; part++ {
				b := loop.appendPart(nil, part)
				if diff := cmp.Diff(next, decodeTimes(t, b, scales)); diff != "" {
					t.Fatalf("part %d: decode times (-want +got):\n%s", part, diff)
				}
				if got := sequenceNumber(t, b, scales); got != uint32(part+1) {
					t.Fatalf("part %d: sequence number %d, want %d", part, got, uint32(part+1))
				}
				for i, ticks := range samples(t, b) {
					next[i] += ticks
				}
			}
		})
	}
}

func TestNewFMP4Loop_BrokenFile_Refused(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"nothing at all":                   "",
		"a box that reaches over the end":  "\x00\x00\x00\x20moov",
		"a box smaller than its header":    "\x00\x00\x00\x04moov",
		"a moov and nothing to play":       "\x00\x00\x00\x08moov",
		"a fragment without decode times":  "\x00\x00\x00\x08moov\x00\x00\x00\x08moof\x00\x00\x00\x08mdat",
		"a fragment number that is cut":    "\x00\x00\x00\x08moov\x00\x00\x00\x12moof\x00\x00\x00\x0amfhd\x00\x00\x00\x00\x00\x08mdat",
		"media before any init segment":    "\x00\x00\x00\x08mdat",
		"a track header too short to read": "\x00\x00\x00\x18moov\x00\x00\x00\x10trak\x00\x00\x00\x08tkhd",
	}
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := newFMP4Loop([]byte(file)); err == nil {
				t.Fatalf("%q was taken", file)
			}
		})
	}
}

// FuzzFMP4Loop checks that any file is rejected or can be played.
func FuzzFMP4Loop(f *testing.F) {
	file, err := mediaFiles.ReadFile("media/ll.mp4")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file[:1233+456+7815], int64(3)) // init segment and a fragment, roughly
	f.Add([]byte("\x00\x00\x00\x08moov\x00\x00\x00\x08moof\x00\x00\x00\x08mdat"), int64(0))
	f.Fuzz(func(t *testing.T, file []byte, part int64) {
		l, err := newFMP4Loop(file)
		if err != nil {
			return
		}
		part &= 1<<48 - 1
		if got := l.appendPart(nil, part); len(got) != l.size(part) {
			t.Fatalf("got %d bytes, want %d", len(got), l.size(part))
		}
	})
}
