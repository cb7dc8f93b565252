package events

import (
	"math"
	"strconv"
	"strings"
	"time"

	"usher/cluster/redisclient"
)

// streamID is the id of an entry in the stream of revocations: milliseconds of Redis' clock and a sequence number within
// them. The zero value is before every entry.
type streamID struct{ ms, seq uint64 }

// parseStreamID reads an id as Redis writes it. If the text is not one, the id is zero.
func parseStreamID(text string) (id streamID, ok bool) {
	msText, seqText, found := strings.Cut(text, "-")
	if !found {
		return streamID{}, false
	}
	ms, err := strconv.ParseUint(msText, 10, 64)
	if err != nil {
		return streamID{}, false
	}
	seq, err := strconv.ParseUint(seqText, 10, 64)
	if err != nil {
		return streamID{}, false
	}
	return streamID{ms, seq}, true
}

// String returns the id as Redis writes it.
func (id streamID) String() string {
	return strconv.FormatUint(id.ms, 10) + "-" + strconv.FormatUint(id.seq, 10)
}

func (id streamID) isAfter(other streamID) bool {
	return id.ms > other.ms || id.ms == other.ms && id.seq > other.seq
}

// next returns the first id after this one, or the id itself if it is the last that there can be.
func (id streamID) next() streamID {
	switch {
	case id.seq < math.MaxUint64:
		return streamID{id.ms, id.seq + 1}
	case id.ms < math.MaxUint64:
		return streamID{id.ms + 1, 0}
	default:
		return id
	}
}

// minus returns the first id of that long before.
func (id streamID) minus(d time.Duration) streamID {
	if ms := uint64(max(0, d.Milliseconds())); ms < id.ms {
		return streamID{ms: id.ms - ms}
	}
	return streamID{}
}

// age returns for how long an entry has been in the stream, or 0 if Redis' time is unknown.
func (id streamID) age(clock *redisclient.Clock) time.Duration {
	now, known := clock.Now()
	if !known || id.ms == 0 || id.ms > uint64(max(0, now)) {
		return 0
	}
	return redisclient.Duration(now - int64(id.ms))
}
