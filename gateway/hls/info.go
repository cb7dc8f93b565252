package hls

import (
	"strconv"
	"strings"
	"time"
)

// maxDuration bounds every duration read from a playlist, so that arithmetic with it cannot overflow.
const maxDuration = 24 * time.Hour

// Info is what a playlist says about itself, as far as freshness and low-latency delivery depend on it. A field is zero
// if the playlist does not state it or states it wrongly. Durations are at most a day.
type Info struct {
	// IsMultivariant reports a multivariant playlist, which lists playlists instead of segments.
	IsMultivariant bool
	// HasEndList reports that the playlist will not change any more.
	HasEndList bool

	// TargetDuration is the longest duration of a segment.
	TargetDuration time.Duration
	// PartTarget is the longest duration of a part.
	PartTarget time.Duration
	// HoldBack is how far from the end a player should stay.
	HoldBack time.Duration
	// PartHoldBack is the same for low-latency playback.
	PartHoldBack time.Duration
	// CanSkipUntil is the age beyond which a delta update may skip segments; zero means no delta updates.
	CanSkipUntil time.Duration
	// CanBlockReload reports that the origin holds a request with _HLS_msn until it can be answered.
	CanBlockReload bool

	// MediaSequence is the number of the first segment, listed or skipped.
	MediaSequence uint64
	// Segments counts the listed segments.
	Segments int
	// Skipped counts the segments that a delta update left out.
	Skipped int
	// Parts counts the parts listed after the last whole segment.
	Parts int
}

// Next returns the number of the first segment that is not listed whole yet, and the number of its first part that is not
// listed yet. This playlist answers a blocking reload that requests an earlier one.
func (i Info) Next() (sequence uint64, part int) {
	return i.MediaSequence + uint64(i.Skipped) + uint64(i.Segments), i.Parts
}

// IsLive reports whether the playlist is expected to change: a media playlist without EXT-X-ENDLIST.
func (i Info) IsLive() bool { return !i.IsMultivariant && !i.HasEndList }

// readServerControl reads the attributes of EXT-X-SERVER-CONTROL.
func (i *Info) readServerControl(list attributes) {
	for a, ok := list.next(); ok; a, ok = list.next() {
		switch value := list.text[a.start:a.end]; a.name {
		case "CAN-BLOCK-RELOAD":
			i.CanBlockReload = value == "YES"
		case "HOLD-BACK":
			i.HoldBack = parseSeconds(value)
		case "PART-HOLD-BACK":
			i.PartHoldBack = parseSeconds(value)
		case "CAN-SKIP-UNTIL":
			i.CanSkipUntil = parseSeconds(value)
		}
	}
}

// parseSeconds parses a decimal number of seconds. Any other text, and a negative number, is zero.
func parseSeconds(text string) time.Duration {
	value, err := strconv.ParseFloat(strings.Trim(text, whitespace), 64)
	if err != nil || !(value > 0) {
		return 0
	}
	return time.Duration(min(value, maxDuration.Seconds()) * float64(time.Second))
}

// parseCount parses a decimal integer. Any other text is zero.
func parseCount(text string) uint64 {
	n, err := strconv.ParseUint(strings.Trim(text, whitespace), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
