package hls

import (
	"strconv"
	"strings"
	"time"
)

// longestDuration bounds every duration that a playlist states, so that arithmetic with it cannot overflow.
const longestDuration = 24 * time.Hour

// Info is what a playlist says about itself, as far as freshness and low-latency delivery depend on it. What the
// playlist does not say, or says wrongly, is zero.
type Info struct {
	// IsMultivariant says that this is a multivariant playlist: it lists playlists, not segments.
	IsMultivariant bool
	// HasEndList says that the playlist will not change any more.
	HasEndList bool

	// TargetDuration is the longest segment, PartTarget the longest part; at most a day each, as all durations here.
	TargetDuration time.Duration
	PartTarget     time.Duration
	// HoldBack and PartHoldBack are how far from the end a player should stay.
	HoldBack     time.Duration
	PartHoldBack time.Duration
	// CanSkipUntil is the age beyond which segments may be left out of a delta update; zero: no delta updates.
	CanSkipUntil time.Duration
	// CanBlockReload says that the origin holds a request with _HLS_msn until it can be answered.
	CanBlockReload bool

	// MediaSequence is the number of the first segment, listed or skipped.
	MediaSequence uint64
	// Segments is how many segments are listed, Skipped how many a delta update left out.
	Segments int
	Skipped  int
	// Parts is how many parts are listed after the last whole segment.
	Parts int
}

// Next is the number of the segment that the playlist does not list whole yet, and the number of its first part that it
// does not list yet. A blocking reload that asks for an earlier one is answered by this playlist.
func (i Info) Next() (sequence uint64, part int) {
	return i.MediaSequence + uint64(i.Skipped) + uint64(i.Segments), i.Parts
}

// IsLive reports whether the playlist is expected to change: a media playlist without EXT-X-ENDLIST.
func (i Info) IsLive() bool { return !i.IsMultivariant && !i.HasEndList }

// control reads EXT-X-SERVER-CONTROL.
func (i *Info) control(list attributes) {
	for a, ok := list.next(); ok; a, ok = list.next() {
		switch value := list.text[a.start:a.end]; a.name {
		case "CAN-BLOCK-RELOAD":
			i.CanBlockReload = value == "YES"
		case "HOLD-BACK":
			i.HoldBack = seconds(value)
		case "PART-HOLD-BACK":
			i.PartHoldBack = seconds(value)
		case "CAN-SKIP-UNTIL":
			i.CanSkipUntil = seconds(value)
		}
	}
}

// seconds reads a decimal number of seconds. What is no such number, or is negative, is zero.
func seconds(text string) time.Duration {
	value, err := strconv.ParseFloat(strings.Trim(text, blanks), 64)
	if err != nil || !(value > 0) {
		return 0
	}
	return time.Duration(min(value, longestDuration.Seconds()) * float64(time.Second))
}

// count reads a decimal integer; what is none is zero.
func count(text string) uint64 {
	n, err := strconv.ParseUint(strings.Trim(text, blanks), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
