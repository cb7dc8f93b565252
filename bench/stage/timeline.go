package stage

import "time"

// timeline says what is on air at a given time. It is pure: the same time gives the same answer in every process.
// Segments and parts are numbered from the Unix epoch; number n covers [n × length, (n+1) × length).
type timeline struct {
	segment time.Duration
	// window is how many complete segments a playlist lists.
	window int64
}

// live is the first number of a segment that is not complete yet: one past the last that is.
func (t timeline) live(now time.Time) int64 { return now.UnixNano() / int64(t.segment) }

// first is the oldest segment that a playlist lists.
func (t timeline) first(now time.Time) int64 { return t.live(now) - t.window }

// oldest is the oldest segment that is still served. A playlist may be used for as long as it is (RFC 8216 §6.2.2).
func (t timeline) oldest(now time.Time) int64 { return t.first(now) - t.window }

// livePart is the part that is being made, counted over all segments.
func (t timeline) livePart(now time.Time) int64 { return now.UnixNano() / int64(PartDuration) }

// parts is how many parts a segment has.
func (t timeline) parts() int64 { return int64(t.segment / PartDuration) }

// seconds is how many seconds, pieces of the loop, a segment has.
func (t timeline) seconds() int64 { return int64(t.segment / time.Second) }

// start is when a segment begins.
func (t timeline) start(segment int64) time.Time { return time.Unix(0, segment*int64(t.segment)) }

// partEnd is when a part, counted over all segments, is complete.
func partEnd(part int64) time.Time { return time.Unix(0, (part+1)*int64(PartDuration)) }

// skipUntil is CAN-SKIP-UNTIL: segments further from the end than this may be left out of a delta update. The draft
// demands six target durations at least.
func (t timeline) skipUntil() time.Duration { return 6 * t.segment }

// skippable is how many of the listed segments a delta update leaves out.
func (t timeline) skippable(now time.Time) int64 {
	boundary := now.Truncate(PartDuration).Add(-t.skipUntil())
	return max(0, boundary.UnixNano()/int64(t.segment)-t.first(now))
}
