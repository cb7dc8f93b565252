package stage

import (
	"testing"
	"time"
)

// tsReader reads packets and keeps the last timestamps and counters of each PID.
type tsReader struct {
	t          *testing.T
	continuity map[int]uint8
	decode     map[int]uint64
	pcr        uint64
	pcrs       int
	frames     map[int]int
}

func newTSReader(t *testing.T) *tsReader {
	return &tsReader{
		t: t, continuity: map[int]uint8{}, decode: map[int]uint64{}, frames: map[int]int{},
	}
}

const (
	videoPID, audioPID     = 0x100, 0x101
	videoTicks, audioTicks = 3600, 2880
)

// read checks that the packets continue those read before.
func (r *tsReader) read(name string, b []byte) {
	r.t.Helper()
	if len(b) == 0 || len(b)%packetSize != 0 {
		r.t.Fatalf("%s: %d bytes are no whole packets", name, len(b))
	}
	for at := 0; at < len(b); at += packetSize {
		p := tsPacket(b[at : at+packetSize])
		if err := p.check(); err != nil {
			r.t.Fatalf("%s, byte %d: %v", name, at, err)
		}
		if p.pid() == nullPID {
			continue
		}
		r.readContinuity(name, p)
		r.readClocks(name, p)
	}
}

func (r *tsReader) readContinuity(name string, p tsPacket) {
	r.t.Helper()
	if !p.hasPayload() {
		return
	}
	if last, seen := r.continuity[p.pid()]; seen && p.continuity() != (last+1)&15 {
		r.t.Fatalf("%s: PID %#x: counter %d follows %d", name, p.pid(), p.continuity(), last)
	}
	r.continuity[p.pid()] = p.continuity()
}

func (r *tsReader) readClocks(name string, p tsPacket) {
	r.t.Helper()
	if p.hasPCR() {
		now := pcr(p[6:12])
		if step := (now - r.pcr) & ptsMask; r.pcrs > 0 && (step == 0 || step > ptsClock/10) {
			r.t.Fatalf("%s: PCR steps by %d ticks, want 1 to %d", name, step, ptsClock/10)
		}
		r.pcr, r.pcrs = now, r.pcrs+1
	}
	n := p.timestamps()
	if n == 0 {
		return
	}
	// The last timestamp is the DTS where there is one, else the PTS, which is the same then.
	decode := timestamp(p.pes()[9+5*(n-1):])
	want := map[int]uint64{videoPID: videoTicks, audioPID: audioTicks}[p.pid()]
	if last, seen := r.decode[p.pid()]; seen && (decode-last)&ptsMask != want {
		r.t.Fatalf("%s: PID %#x: time steps by %d ticks, want %d", name, p.pid(), (decode-last)&ptsMask, want)
	}
	r.decode[p.pid()] = decode
	r.frames[p.pid()]++
}

func TestTSLoop_NoDiscontinuity(t *testing.T) {
	t.Parallel()
	const wrap = int64(1<<33) / ptsClock // the first second of Unix time in which timestamps wrap around
	tests := map[string]struct {
		rendition rendition
		from      int64
	}{
		"high, at the epoch":                 {high, 0},
		"low, at the epoch":                  {low, 0},
		"high, today":                        {high, 1_795_000_000},
		"low, today":                         {low, 1_795_000_001},
		"high, while 33-bit timestamps wrap": {high, wrap - 18},
		"low, while they wrap for a 9th time": {
			low, 9*(1<<33)/ptsClock - 18,
		},
	}
	l, err := loadMedia()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loop := map[rendition]*tsLoop{high: l.high, low: l.low}[test.rendition]
			r := newTSReader(t)
			for second := test.from; second < test.from+3*loopSeconds; second++ {
				r.read("second "+time.Unix(second, 0).UTC().Format(time.TimeOnly), loop.appendSecond(nil, second))
			}
			if r.frames[videoPID] != 3*300 || r.frames[audioPID] != 3*375 {
				t.Fatalf("read %v frames by PID, want 900 of video and 1125 of audio", r.frames)
			}
		})
	}
}

func TestTSLoop_TimestampsAreUnixTime(t *testing.T) {
	t.Parallel()
	l, err := loadMedia()
	if err != nil {
		t.Fatal(err)
	}
	const second = 1_795_000_007
	r := newTSReader(t)
	r.read("one second", l.high.appendSecond(nil, second))
	// The last video frame of a second begins 24 frames after the start of the second.
	want := uint64(second*ptsClock+24*videoTicks) & ptsMask
	if got := r.decode[videoPID]; got != want {
		t.Fatalf("last video frame at %d ticks, want %d", got, want)
	}
}

func TestSetTimestamp_RoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []uint64{0, 1, 1 << 15, 1<<30 - 1, 1 << 30, 0x1_2345_6789, ptsMask} {
		pts := []byte{0x21, 0, 1, 0, 1}
		setTimestamp(pts, want)
		if got := timestamp(pts); got != want {
			t.Errorf("timestamp: got %#x, want %#x", got, want)
		}
		if pts[0]>>4 != 2 || pts[0]&1 != 1 || pts[2]&1 != 1 || pts[4]&1 != 1 {
			t.Errorf("timestamp %#x: marker bits are lost: % x", want, pts)
		}
		clock := []byte{0, 0, 0, 0, 0x7e, 0x12}
		setPCR(clock, want)
		if got := pcr(clock); got != want {
			t.Errorf("PCR: got %#x, want %#x", got, want)
		}
		if clock[4]&0x7f != 0x7e || clock[5] != 0x12 {
			t.Errorf("PCR %#x: its extension is lost: % x", want, clock)
		}
	}
	wrapped := []byte{0x21, 0, 1, 0, 1}
	if setTimestamp(wrapped, ptsMask+6); timestamp(wrapped) != 5 {
		t.Errorf("timestamp past 33 bits: got %d, want 5", timestamp(wrapped))
	}
}

func TestAppendStuffing_WholePackets(t *testing.T) {
	t.Parallel()
	b := appendStuffing(make([]byte, 0), 1000)
	if len(b) != 6*packetSize {
		t.Fatalf("got %d bytes, want %d", len(b), 6*packetSize)
	}
	for at := 0; at < len(b); at += packetSize {
		if p := tsPacket(b[at : at+packetSize]); p.pid() != nullPID || p.check() != nil || p.timestamps() != 0 {
			t.Fatalf("byte %d: PID %#x, %v: want a null packet", at, p.pid(), p.check())
		}
	}
}

// FuzzTSLoop checks that any pieces are rejected, or can be played and keep their length.
func FuzzTSLoop(f *testing.F) {
	piece, err := mediaFiles.ReadFile("media/low-00.ts")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(piece[:packetSize*8], int64(17))
	f.Add([]byte{syncByte, 0x41, 0, 0x30, 183, 0x10}, int64(1<<40))
	f.Fuzz(func(t *testing.T, piece []byte, second int64) {
		var seconds [loopSeconds][]byte
		for i := range seconds {
			seconds[i] = append([]byte(nil), piece...)
		}
		l, err := newTSLoop(seconds)
		if err != nil {
			return
		}
		if got := l.appendSecond(nil, second&(1<<48-1)); len(got) != len(piece) {
			t.Fatalf("got %d bytes of %d", len(got), len(piece))
		}
	})
}
