package result

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of recorded durations, in microseconds, and their precision in decimal digits. A longer duration counts as the
// longest.
const (
	lowestMicros  = 1
	highestMicros = int64(10 * time.Minute / time.Microsecond)
	digits        = 3
)

// Histogram is a distribution of durations with a precision of three digits, from 1 µs to 10 min. The zero value is empty. Not safe
// for concurrent use.
type Histogram struct{ h *hdrhistogram.Histogram }

// Record adds a duration. A negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	if h.h == nil {
		h.h = hdrhistogram.New(lowestMicros, highestMicros, digits)
	}
	_ = h.h.RecordValue(min(max(0, int64(d/time.Microsecond)), highestMicros)) // in range
}

// Merge adds the durations of another histogram.
func (h *Histogram) Merge(other *Histogram) {
	if other.h == nil {
		return
	}
	if h.h == nil {
		h.h = hdrhistogram.New(lowestMicros, highestMicros, digits)
	}
	h.h.Merge(other.h)
}

// Reset makes the histogram empty, and keeps its memory.
func (h *Histogram) Reset() {
	if h.h != nil {
		h.h.Reset()
	}
}

// Count returns how many durations were recorded.
func (h *Histogram) Count() uint64 {
	if h.h == nil {
		return 0
	}
	return uint64(h.h.TotalCount())
}

// Quantile returns the duration that the share q of all, from 0 to 1, does not exceed; zero if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.h == nil || h.h.TotalCount() == 0 {
		return 0
	}
	return time.Duration(h.h.ValueAtQuantile(q*100)) * time.Microsecond
}

// Max returns the longest duration.
func (h *Histogram) Max() time.Duration {
	if h.h == nil {
		return 0
	}
	return time.Duration(h.h.Max()) * time.Microsecond
}

// Mean returns the mean duration.
func (h *Histogram) Mean() time.Duration {
	if h.h == nil {
		return 0
	}
	return time.Duration(h.h.Mean() * float64(time.Microsecond))
}

// histogramJSON is a histogram's form in the document: quantiles in seconds for readers, and all buckets.
type histogramJSON struct {
	Count   uint64             `json:"count"`
	Mean    float64            `json:"mean"`
	Max     float64            `json:"max"`
	Seconds map[string]float64 `json:"quantiles"`
	// Buckets is the compressed form of HdrHistogram V2, in base64.
	Buckets string `json:"buckets,omitempty"`
}

// MarshalJSON returns the histogram's form in the document.
func (h Histogram) MarshalJSON() ([]byte, error) {
	out := histogramJSON{Count: h.Count(), Mean: h.Mean().Seconds(), Max: h.Max().Seconds(), Seconds: map[string]float64{}}
	for name, q := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999} {
		out.Seconds[name] = h.Quantile(q).Seconds()
	}
	if h.Count() > 0 {
		buckets, err := h.h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		if err != nil {
			return nil, fmt.Errorf("encode a histogram: %w", err)
		}
		out.Buckets = string(buckets)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the histogram's form in the document. Only its buckets count.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var in histogramJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*h = Histogram{}
	if in.Buckets == "" {
		return nil
	}
	decoded, err := hdrhistogram.Decode([]byte(in.Buckets))
	if err != nil {
		return fmt.Errorf("decode a histogram: %w", err)
	}
	h.h = hdrhistogram.New(lowestMicros, highestMicros, digits)
	h.h.Merge(decoded)
	return nil
}
