package stage

import "time"

// timeline computes the live window at a given time. It is pure: the same time gives the same result in every process.
// Segments and parts are numbered from the Unix epoch; number n covers [n × duration, (n+1) × duration).
type timeline struct {
	segmentDuration time.Duration
	// window is how many complete segments a playlist lists.
	window int64
}

// nextSegment returns the number of the first incomplete segment.
func (t timeline) nextSegment(now time.Time) int64 { return now.UnixNano() / int64(t.segmentDuration) }

// firstListed returns the number of the oldest segment in a playlist.
func (t timeline) firstListed(now time.Time) int64 { return t.nextSegment(now) - t.window }

// oldestServed returns the number of the oldest segment that is still served. A removed segment stays available for the
// duration of a playlist (RFC 8216 §6.2.2).
func (t timeline) oldestServed(now time.Time) int64 { return t.firstListed(now) - t.window }

// nextPart returns the number of the first incomplete part, counted over all segments.
func (t timeline) nextPart(now time.Time) int64 { return now.UnixNano() / int64(PartDuration) }

// parts returns the number of parts in a segment.
func (t timeline) parts() int64 { return int64(t.segmentDuration / PartDuration) }

// seconds returns the number of seconds, pieces of the loop, in a segment.
func (t timeline) seconds() int64 { return int64(t.segmentDuration / time.Second) }

// start returns when a segment begins.
func (t timeline) start(segment int64) time.Time {
	return time.Unix(0, segment*int64(t.segmentDuration))
}

// partEnd returns when a part, counted over all segments, is complete.
func partEnd(part int64) time.Time { return time.Unix(0, (part+1)*int64(PartDuration)) }

// skipUntil returns CAN-SKIP-UNTIL: a delta update may skip segments further from the end. The draft requires at least
// six target durations.
func (t timeline) skipUntil() time.Duration { return 6 * t.segmentDuration }

// skippable returns how many of the listed segments a delta update skips.
func (t timeline) skippable(now time.Time) int64 {
	boundary := now.Truncate(PartDuration).Add(-t.skipUntil())
	return max(0, boundary.UnixNano()/int64(t.segmentDuration)-t.firstListed(now))
}
