package pace_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"usher/bench/pace"
)

func TestParse_Due(t *testing.T) {
	t.Parallel()
	const s = time.Second
	tests := map[string]map[time.Duration]float64{
		"50/s":                             {-s: 0, 0: 0, s: 50, 90 * s: 4500, 10 * time.Millisecond: 0.5},
		"ramp 0..500/s over 30s":           {0: 0, 15 * s: 1875, 30 * s: 7500, 31 * s: 8000},
		"ramp 100/s..0/s over 10s":         {5 * s: 375, 10 * s: 500, 99 * s: 500},
		"steps 100/s,200/s, 0/s every 10s": {-s: 0, 5 * s: 500, 10 * s: 1000, 15 * s: 2000, 20 * s: 3000, 60 * s: 3000},
		"steps 7/s every 1s":               {3 * s: 21},
		"all at once 1000":                 {-s: 0, 0: 1000, s: 1000},
	}
	for text, dues := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			p, err := pace.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			for elapsed, want := range dues {
				if got := p.Due(elapsed); math.Abs(got-want) > 1e-6 {
					t.Errorf("after %v %v are due, want %v", elapsed, got, want)
				}
			}
		})
	}
}

func TestParse_Errors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "50", "x/s", "-1/s", "NaN/s", "1e9/s", "ramp 0..500/s", "ramp 500/s over 30s", "ramp x..500/s over 30s", "ramp 0..x over 30s",
		"ramp 0..1/s over -1s", "ramp 0..1/s over soon", "steps every 10s", "steps 1/s, every 10s", "steps 1/s every", "poisson 0/s", "poisson x",
		"poisson 1/s seed x", "poisson 1/s 7", "all at once", "all at once 0", "all at once many", "all for one 3",
	} {
		if p, err := pace.Parse(text); err == nil {
			t.Errorf("%q: %v, want an error", text, p)
		}
	}
}

// anyPace draws a pace with its rate at a time, in starts a second.
func anyPace(t *rapid.T) (pace.Pace, func(seconds float64) float64) {
	rate := func(label string) float64 { return rapid.Float64Range(0, 1000).Draw(t, label) }
	length := func(label string) time.Duration {
		return time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, label))
	}
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		r := rate("rate")
		return pace.Constant(r), func(float64) float64 { return r }
	case 1:
		p := pace.Ramp{From: rate("from"), To: rate("to"), Over: length("over")}
		return p, func(at float64) float64 { return p.From + (p.To-p.From)*min(1, at/p.Over.Seconds()) }
	default:
		p := pace.Steps{Rates: rapid.SliceOfN(rapid.Float64Range(0, 1000), 1, 5).Draw(t, "rates"), Every: length("every")}
		return p, func(at float64) float64 { return p.Rates[min(len(p.Rates)-1, int(at/p.Every.Seconds()))] }
	}
}

// TestPace_Integral compares what is due to the integral of the rate.
func TestPace_Integral(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, rate := anyPace(t)
		end := time.Duration(rapid.Int64Range(0, int64(3*time.Minute)).Draw(t, "end"))
		const slices = 20_000
		width := end.Seconds() / slices
		want, last := 0.0, 0.0
		for i := range slices {
			want += rate((float64(i)+0.5)*width) * width
			due := p.Due(time.Duration((float64(i) + 1) * width * float64(time.Second)))
			if due < last {
				t.Fatalf("after %v slices %v are due, before %v", i, due, last)
			}
			last = due
		}
		// A step within a slice is off by a slice at most.
		if got := p.Due(end); math.Abs(got-want) > 1e-3*want+5000*width+1e-6 {
			t.Fatalf("after %v %v are due, want %v", end, got, want)
		}
	})
}

// TestPoisson draws the same arrivals whatever is asked first, at the rate's mean and variance.
func TestPoisson(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1, 10_000).Draw(t, "rate")
		seed := rapid.Uint64().Draw(t, "seed")
		forward, direct := pace.Poisson(rate, seed), pace.Poisson(rate, seed)
		mean := rapid.Float64Range(1, 2000).Draw(t, "mean")
		end := time.Duration(mean / rate * float64(time.Second))
		last := 0.0
		for i := range 200 {
			due := forward.Due(end * time.Duration(i) / 200)
			if due < last || due != math.Trunc(due) {
				t.Fatalf("%v are due, before %v; want a whole number that never falls", due, last)
			}
			last = due
		}
		if got, want := forward.Due(end), direct.Due(end); got != want || forward.Due(-1) != 0 {
			t.Fatalf("%v and %v are due, want the same; %v before the start", got, want, forward.Due(-1))
		}
		// Eight standard deviations.
		if got := direct.Due(end); math.Abs(got-mean) > 8*math.Sqrt(mean)+8 {
			t.Fatalf("%v are due, the mean is %v", got, mean)
		}
	})
}

// TestPoisson_Spread compares the variance of the arrivals in many intervals with their mean.
func TestPoisson_Spread(t *testing.T) {
	t.Parallel()
	p := pace.Poisson(10, 1)
	const intervals = 20_000
	var sum, squares, last float64
	for i := range intervals {
		due := p.Due(time.Duration(i+1) * time.Second)
		sum += due - last
		squares += (due - last) * (due - last)
		last = due
	}
	mean := sum / intervals
	variance := squares/intervals - mean*mean
	if math.Abs(mean-10) > 0.2 || math.Abs(variance-10) > 0.5 {
		t.Errorf("mean %v, variance %v; want 10 of both", mean, variance)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"50/s", "ramp 0..5/s over 3s", "steps 1/s, 2/s every 1s", "poisson 5/s seed 3", "all at once 4"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := pace.Parse(text)
		if err != nil {
			return
		}
		if first, later := p.Due(time.Second), p.Due(2*time.Second); first < 0 || later < first || math.IsNaN(later) {
			t.Errorf("%q: %v, then %v due", text, first, later)
		}
	})
}
