package pace

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// Pace is a plan of starts. Due returns how many viewers are to have started after a time. It never falls, and is zero at a
// negative time. It is safe for concurrent use.
type Pace interface {
	Due(elapsed time.Duration) float64
}

// Constant is a constant rate of starts a second.
type Constant float64

// Due returns the starts due.
func (c Constant) Due(elapsed time.Duration) float64 { return float64(c) * max(0, elapsed.Seconds()) }

// Ramp is a rate that changes evenly From one To another, in starts a second, and then stays.
type Ramp struct {
	From, To float64
	Over     time.Duration
}

// Due returns the starts due: the area below the rate.
func (r Ramp) Due(elapsed time.Duration) float64 {
	ramp := min(max(0, elapsed), r.Over).Seconds()
	due := r.From * ramp
	if r.Over > 0 {
		due += (r.To - r.From) * ramp * ramp / (2 * r.Over.Seconds())
	}
	return due + r.To*max(0, elapsed-r.Over).Seconds()
}

// Steps are rates in starts a second. Each holds for Every, the last one to the end.
type Steps struct {
	Rates []float64
	Every time.Duration
}

// Due returns the starts due.
func (s Steps) Due(elapsed time.Duration) float64 {
	due := 0.0
	for i, rate := range s.Rates {
		if elapsed <= 0 {
			break
		}
		held := elapsed
		if i < len(s.Rates)-1 {
			held = min(elapsed, s.Every)
		}
		due += rate * held.Seconds()
		elapsed -= held
	}
	return due
}

// AtOnce is a number of viewers who all start at the first instant.
type AtOnce int

// Due returns the starts due.
func (a AtOnce) Due(elapsed time.Duration) float64 {
	if elapsed < 0 {
		return 0
	}
	return float64(a)
}

// perCell is the mean number of arrivals in a cell of a Poisson process: few enough to draw a cell anew at each question.
const perCell = 32

// poisson is a Poisson process. Time is cut into cells, and the arrivals in each are drawn from the seed and the cell's number:
// the process has no memory, so it can begin anew at each.
type poisson struct {
	cell time.Duration
	seed uint64

	mu     sync.Mutex
	before []float64 // arrivals before each cell
}

// Poisson returns random arrivals at a mean rate a second. The same seed gives the same arrivals.
func Poisson(rate float64, seed uint64) Pace {
	return &poisson{cell: max(1, time.Duration(perCell/rate*float64(time.Second))), seed: seed, before: []float64{0}}
}

// Due returns the starts due.
func (p *poisson) Due(elapsed time.Duration) float64 {
	if elapsed < 0 {
		return 0
	}
	cell := int(elapsed / p.cell)
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.before); n <= cell; n++ {
		p.before = append(p.before, p.before[n-1]+p.arrivals(n-1, 1))
	}
	return p.before[cell] + p.arrivals(cell, float64(elapsed%p.cell)/float64(p.cell))
}

// arrivals returns how many arrivals there are in the first part, from 0 to 1, of a cell.
func (p *poisson) arrivals(cell int, part float64) float64 {
	random := rand.New(rand.NewPCG(p.seed, uint64(cell)))
	n := 0
	for at := random.ExpFloat64() / perCell; at <= part; at += random.ExpFloat64() / perCell {
		n++
	}
	return float64(n)
}

// maxRate bounds a rate, so that an instant's starts can be counted.
const maxRate = 1e7

func validRate(rate float64) bool { return rate >= 0 && rate <= maxRate && !math.IsNaN(rate) }
