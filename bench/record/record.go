package record

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"usher/bench/result"
)

// Op is the kind of a request.
type Op uint8

// The kinds of requests, named as in a result.
const (
	Opening Op = iota
	Playlist
	Multivariant
	Segment
	AuthQuestion
	opCount
)

// String returns the name in a result.
func (o Op) String() string {
	return [opCount]string{result.Opening, result.Playlist, result.Multivariant, result.Segment, result.AuthQuestion}[o]
}

// Request is a finished request.
type Request struct {
	Op Op
	// Intended is when the plan wanted it sent, Sent when it was. FirstByte is zero if no byte of an answer arrived. End is when
	// the body or the failure was complete.
	Intended, Sent, FirstByte, End time.Time
	// Bytes are those of the body.
	Bytes int
	// Failure says what was wrong: "status 503", "timeout", "refused", "reset", "broken body". Empty: nothing.
	Failure string
}

// Recorder collects what one measurement finds. It is safe for concurrent use.
type Recorder struct {
	start  time.Time
	shards []shard

	mu       sync.Mutex
	last     time.Time // of the last tick
	seconds  []float64
	lines    map[string]*line
	totals   map[string]float64 // of counts
	scraped  map[string]float64 // the last value of each counter read elsewhere
	ops      [opCount]*result.Operation
	failed   map[string]float64 // requests of the current second, by what was wrong
	arrivals result.Arrivals
	faults   []result.Fault
	open     map[int]bool // faults that have not ended
	process  map[string]result.Process
	notes    []string
}

// line is a value over time.
type line struct {
	unit string
	// isCount says that current is a sum, which a tick makes a rate.
	isCount bool
	current *float64 // of the current second
	values  []*float64
}

// shard holds requests of the current second.
type shard struct {
	mu       sync.Mutex
	ops      [opCount]window
	lateness result.Histogram
}

// window is what a shard has of one kind of request.
type window struct {
	requests, bytes    uint64
	errors             map[string]uint64
	latency, firstByte result.Histogram
}

// New returns a recorder of a measurement that starts at that time.
func New(start time.Time) *Recorder {
	return &Recorder{
		start: start, last: start, shards: make([]shard, 2*runtime.GOMAXPROCS(0)),
		lines: map[string]*line{}, totals: map[string]float64{}, scraped: map[string]float64{},
		failed: map[string]float64{}, open: map[int]bool{}, process: map[string]result.Process{},
	}
}

// Request records a finished request.
func (r *Recorder) Request(q Request) {
	s := &r.shards[rand.IntN(len(r.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.ops[q.Op]
	w.requests++
	w.bytes += uint64(q.Bytes)
	w.latency.Record(q.End.Sub(q.Intended))
	if !q.FirstByte.IsZero() {
		w.firstByte.Record(q.FirstByte.Sub(q.Intended))
	}
	if q.Failure != "" {
		if w.errors == nil {
			w.errors = map[string]uint64{}
		}
		w.errors[q.Failure]++
	}
	s.lateness.Record(q.Sent.Sub(q.Intended))
}

// Planned adds viewers who are to start.
func (r *Recorder) Planned(n int) { r.count("openings.planned", float64(n)) }

// Started adds viewers who have started.
func (r *Recorder) Started(n int) { r.count("openings.started", float64(n)) }

// Dropped adds starts and requests that the generator had no room for.
func (r *Recorder) Dropped(n int) { r.count("openings.dropped", float64(n)) }

// Count adds to a total, which also is a line of its growth.
func (r *Recorder) Count(name string, n float64) { r.count(name, n) }

func (r *Recorder) count(name string, n float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(name, n)
}

func (r *Recorder) addLocked(name string, n float64) {
	l := r.lineLocked(name, "1/s")
	l.isCount = true
	if l.current == nil {
		l.current = new(float64)
	}
	*l.current += n
	r.totals[name] += n
}

// Grown adds to a total what a counter that is read elsewhere has grown by in that time, which need not be a second. Counters of many
// processes may have one name. A time of zero is that of a first reading, and has no rate. In a second without a reading the rate is not
// known.
func (r *Recorder) Grown(name string, n float64, over time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lineLocked(name, "1/s")
	if l.current == nil {
		l.current = new(float64)
	}
	if over > 0 {
		*l.current += n / over.Seconds()
	}
	r.totals[name] += n
}

// Total adds the growth of a counter that is read elsewhere since its last value. The first value adds nothing; a smaller one is
// that of a counter that began anew.
func (r *Recorder) Total(name string, total float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.scraped[name]
	r.scraped[name] = total
	switch {
	case !known:
		r.addLocked(name, 0)
	case total < last:
		r.addLocked(name, total)
	default:
		r.addLocked(name, total-last)
	}
}

// Gauge sets a line's value of the current second.
func (r *Recorder) Gauge(name, unit string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lineLocked(name, unit).current = &value
}

func (r *Recorder) lineLocked(name, unit string) *line {
	l := r.lines[name]
	if l == nil {
		l = &line{unit: unit, values: make([]*float64, len(r.seconds))}
		r.lines[name] = l
	}
	return l
}

// Fault records a fault that starts now. Its end is that of the measurement unless end is called.
func (r *Recorder) Fault(name string, now time.Time) (end func(now time.Time)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := len(r.faults)
	r.faults = append(r.faults, result.Fault{Name: name, From: now.Sub(r.start).Seconds()})
	r.open[i] = true
	return func(now time.Time) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults[i].To = now.Sub(r.start).Seconds()
		delete(r.open, i)
	}
}

// Process records what a process has used since the measurement's start. The last CPU time of a name counts, and its largest
// resident size.
func (r *Recorder) Process(p result.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Resident = max(p.Resident, r.process[p.Name].Resident)
	r.process[p.Name] = p
}

// Note adds something that a reader has to know, once.
func (r *Recorder) Note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// Snapshot is what a live view shows.
type Snapshot struct {
	// Elapsed is the time since the measurement's start.
	Elapsed time.Duration
	// Values are the last second's, by the names of a result's lines.
	Values map[string]float64
	// Totals are those since the start: of counts by their names, and of requests, errors and bytes by the names of lines.
	Totals map[string]float64
	// Failures are the last second's errors (1/s), by what was wrong.
	Failures map[string]float64
	// Faults are those in force.
	Faults []string
}

// Tick closes the current second. The measurement's runner calls it once a second.
func (r *Recorder) Tick(now time.Time) Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	length := max(now.Sub(r.last).Seconds(), 1e-3)
	r.last = now
	r.collectLocked()
	r.seconds = append(r.seconds, now.Sub(r.start).Seconds())
	snapshot := Snapshot{Elapsed: now.Sub(r.start), Values: map[string]float64{}, Totals: maps.Clone(r.totals), Failures: r.failed}
	for what := range r.failed {
		snapshot.Failures[what] /= length
	}
	r.failed = map[string]float64{}
	for name, l := range r.lines {
		if l.isCount && l.current != nil {
			*l.current /= length
		}
		l.values = append(l.values, l.current)
		if l.current != nil {
			snapshot.Values[name] = *l.current
		}
		l.current = nil
		if l.isCount {
			l.current = new(float64) // nothing more is a rate of zero, not an unknown one
		}
	}
	for i := range r.faults {
		if r.open[i] {
			snapshot.Faults = append(snapshot.Faults, r.faults[i].Name)
		}
	}
	return snapshot
}

// collectLocked moves the shards' requests of the current second to the lines and the operations.
func (r *Recorder) collectLocked() {
	for op := range opCount {
		var all window
		for i := range r.shards {
			r.shards[i].takeInto(op, &all)
		}
		if all.requests > 0 || r.ops[op] != nil {
			r.addWindowLocked(op, &all)
		}
	}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		r.arrivals.Lateness.Merge(&s.lateness)
		s.lateness.Reset()
		s.mu.Unlock()
	}
}

// takeInto moves what the shard has of a kind of request.
func (s *shard) takeInto(op Op, all *window) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.ops[op]
	all.requests += w.requests
	all.bytes += w.bytes
	all.latency.Merge(&w.latency)
	all.firstByte.Merge(&w.firstByte)
	for what, n := range w.errors {
		if all.errors == nil {
			all.errors = map[string]uint64{}
		}
		all.errors[what] += n
	}
	w.requests, w.bytes, w.errors = 0, 0, nil
	w.latency.Reset()
	w.firstByte.Reset()
}

func (r *Recorder) addWindowLocked(op Op, w *window) {
	o := r.ops[op]
	if o == nil {
		o = &result.Operation{Errors: map[string]uint64{}}
		r.ops[op] = o
	}
	o.Requests += w.requests
	o.Bytes += w.bytes
	o.Latency.Merge(&w.latency)
	o.FirstByte.Merge(&w.firstByte)
	failed := 0.0
	for what, n := range w.errors {
		o.Errors[what] += n
		r.failed[what] += float64(n)
		failed += float64(n)
	}
	r.addLocked("requests."+op.String(), float64(w.requests))
	r.addLocked("errors."+op.String(), failed)
	r.addLocked("bytes", float64(w.bytes))
	r.lineLocked("bytes", "").unit = "B/s"
	if w.requests == 0 {
		return
	}
	for name, value := range map[string]time.Duration{
		"p50": w.latency.Quantile(0.5), "p99": w.latency.Quantile(0.99), "max": w.latency.Max(),
	} {
		seconds := value.Seconds()
		r.lineLocked("latency."+name+"."+op.String(), "s").current = &seconds
	}
}
