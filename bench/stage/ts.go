package stage

import (
	"bytes"
	"fmt"
)

const (
	packetSize = 188
	syncByte   = 0x47
	nullPID    = 0x1fff
	pidCount   = 1 << 13
	// ptsClock is the frequency in Hz of PTS, DTS and the PCR's base.
	ptsClock = 90_000
	// ptsMask is the largest timestamp, after which timestamps wrap around.
	ptsMask = 1<<33 - 1
)

// tsLoop is the loop as MPEG-TS, one piece per second. It is immutable.
type tsLoop struct {
	seconds [loopSeconds][]byte
	// packetsPerLoop is by how much one round of the loop advances the continuity counter of each PID.
	packetsPerLoop [pidCount]uint8
}

// newTSLoop returns the loop of the pieces. It renumbers their packets in place, so that the continuity counters continue
// from piece to piece.
func newTSLoop(seconds [loopSeconds][]byte) (*tsLoop, error) {
	l := &tsLoop{seconds: seconds}
	for i, piece := range seconds {
		if len(piece) == 0 || len(piece)%packetSize != 0 {
			return nil, fmt.Errorf("second %d: %d bytes are not a multiple of the packet size", i, len(piece))
		}
		for at := 0; at < len(piece); at += packetSize {
			p := tsPacket(piece[at : at+packetSize])
			if err := p.check(); err != nil {
				return nil, fmt.Errorf("second %d, byte %d: %w", i, at, err)
			}
			if p.hasPayload() {
				p.setContinuity(l.packetsPerLoop[p.pid()])
				l.packetsPerLoop[p.pid()]++
			}
		}
	}
	return l, nil
}

// size returns the size in bytes of the piece for the given second of Unix time.
func (l *tsLoop) size(second int64) int { return len(l.seconds[second%loopSeconds]) }

// appendSecond appends the piece for the given second of Unix time, with the timestamps and counters of that round of
// the loop.
func (l *tsLoop) appendSecond(dst []byte, second int64) []byte {
	start := len(dst)
	dst = append(dst, l.seconds[second%loopSeconds]...)
	round := uint64(second / loopSeconds)
	ticks := round * loopSeconds * ptsClock
	for at := start; at < len(dst); at += packetSize {
		p := tsPacket(dst[at : at+packetSize])
		p.addTicks(ticks)
		if p.hasPayload() {
			p.setContinuity(p.continuity() + uint8(round)*l.packetsPerLoop[p.pid()])
		}
	}
	return dst
}

// appendStuffing appends null packets until dst has at least size bytes. Every demultiplexer drops null packets.
func appendStuffing(dst []byte, size int) []byte {
	null := bytes.Repeat([]byte{0xff}, packetSize)
	copy(null, []byte{syncByte, nullPID >> 8, nullPID & 0xff, 0x10})
	for len(dst) < size {
		dst = append(dst, null...)
	}
	return dst
}

// tsPacket is one packet of packetSize bytes, accessed in place (ISO/IEC 13818-1, 2.4.3).
type tsPacket []byte

// check returns an error unless all other methods stay within the packet.
func (p tsPacket) check() error {
	if p[0] != syncByte {
		return fmt.Errorf("no sync byte")
	}
	if p.hasAdaptation() && 5+int(p[4]) > packetSize {
		return fmt.Errorf("adaptation field of %d bytes", p[4])
	}
	if p.hasPCR() && p[4] < 7 {
		return fmt.Errorf("adaptation field of %d bytes cannot hold its PCR", p[4])
	}
	if pes := p.pes(); pes != nil && len(pes) < 9+5*p.timestamps() {
		return fmt.Errorf("PES header exceeds the packet")
	}
	return nil
}

func (p tsPacket) pid() int               { return int(p[1]&0x1f)<<8 | int(p[2]) }
func (p tsPacket) startsUnit() bool       { return p[1]&0x40 != 0 }
func (p tsPacket) hasAdaptation() bool    { return p[3]&0x20 != 0 }
func (p tsPacket) hasPayload() bool       { return p[3]&0x10 != 0 }
func (p tsPacket) continuity() uint8      { return p[3] & 0x0f }
func (p tsPacket) setContinuity(cc uint8) { p[3] = p[3]&0xf0 | cc&0x0f }
func (p tsPacket) hasPCR() bool           { return p.hasAdaptation() && p[4] > 0 && p[5]&0x10 != 0 }

// pes returns the payload if a PES packet with an optional header begins here, else nil.
func (p tsPacket) pes() []byte {
	if !p.startsUnit() || !p.hasPayload() {
		return nil
	}
	at := 4
	if p.hasAdaptation() {
		at += 1 + int(p[4])
	}
	if payload := p[at:]; len(payload) >= 9 && payload[0] == 0 && payload[1] == 0 && payload[2] == 1 {
		return payload
	}
	return nil
}

// timestamps returns the number of timestamps in the PES header: none, PTS, or PTS and DTS.
func (p tsPacket) timestamps() int {
	pes := p.pes()
	if pes == nil {
		return 0
	}
	return [...]int{0, 0, 1, 2}[pes[7]>>6]
}

// addTicks adds ticks to every timestamp of the packet.
func (p tsPacket) addTicks(ticks uint64) {
	if p.hasPCR() {
		setPCR(p[6:12], pcr(p[6:12])+ticks)
	}
	for i := range p.timestamps() {
		field := p.pes()[9+5*i:]
		setTimestamp(field, timestamp(field)+ticks)
	}
}

// pcr reads the base of a PCR. The extension, which counts fractions of a tick, stays unchanged.
func pcr(b []byte) uint64 {
	return uint64(b[0])<<25 | uint64(b[1])<<17 | uint64(b[2])<<9 | uint64(b[3])<<1 | uint64(b[4])>>7
}

func setPCR(b []byte, ticks uint64) {
	ticks &= ptsMask
	b[0], b[1], b[2], b[3] = byte(ticks>>25), byte(ticks>>17), byte(ticks>>9), byte(ticks>>1)
	b[4] = b[4]&0x7f | byte(ticks<<7)
}

// timestamp reads a PTS or DTS: 33 bits in five bytes, a marker bit after each of three groups.
func timestamp(b []byte) uint64 {
	return uint64(b[0]>>1&7)<<30 | uint64(b[1])<<22 | uint64(b[2]>>1)<<15 | uint64(b[3])<<7 | uint64(b[4]>>1)
}

func setTimestamp(b []byte, ticks uint64) {
	ticks &= ptsMask
	b[0] = b[0]&0xf1 | byte(ticks>>30)<<1
	b[1] = byte(ticks >> 22)
	b[2] = byte(ticks>>15)<<1 | 1
	b[3] = byte(ticks >> 7)
	b[4] = byte(ticks)<<1 | 1
}
