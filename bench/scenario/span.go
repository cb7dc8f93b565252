package scenario

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Span is a duration, or a share of the run.
type Span struct {
	fixed time.Duration
	share float64
}

var errSpan = errors.New(`want a duration such as "10s", or a share of the run such as "40%"`)

func parseSpan(text string) (Span, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || n < 0 || n > 100 {
			return Span{}, errSpan
		}
		return Span{share: n / 100}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return Span{}, errSpan
	}
	return Span{fixed: d}, nil
}

// Of returns the duration in a run of that length.
func (s Span) Of(run time.Duration) time.Duration {
	if s.share > 0 {
		return time.Duration(s.share * float64(run))
	}
	return s.fixed
}

// String returns the span as a scenario writes it.
func (s Span) String() string {
	if s.share > 0 {
		return fmt.Sprintf("%g%%", s.share*100)
	}
	return s.fixed.String()
}
