package cluster

import (
	"strconv"
	"strings"
	"time"
)

// place is where something stands in the stream of revocations, as Redis spells it: milliseconds of its clock and a number
// within them. The zero value is before everything.
type place struct{ ms, number uint64 }

// parsePlace reads a place. What is none is the zero value.
func parsePlace(text string) (p place, ok bool) {
	ms, number, found := strings.Cut(text, "-")
	if !found {
		return place{}, false
	}
	m, err := strconv.ParseUint(ms, 10, 64)
	if err != nil {
		return place{}, false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return place{}, false
	}
	return place{m, n}, true
}

func (p place) String() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.number, 10)
}

func (p place) after(q place) bool { return p.ms > q.ms || p.ms == q.ms && p.number > q.number }

// next is the first place after p.
func (p place) next() place { return place{p.ms, p.number + 1} }

// earlier is the first place that far before p.
func (p place) earlier(d time.Duration) place {
	if back := uint64(max(0, d.Milliseconds())); back < p.ms {
		return place{ms: p.ms - back}
	}
	return place{}
}
