package viewer

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/bench/pace"
	"usher/bench/record"
	"usher/bench/viewer/edge"
	"usher/bench/viewer/wire"
)

// engine runs viewers: the wheel holds who is due when, and a worker runs each turn.
type engine struct {
	config      Config
	recorder    *record.Recorder
	start       time.Time
	wheel       *wheel
	viewers     []viewer
	texts       arena
	origins     origins
	client      *wire.Client
	connections *connections
	alive       atomic.Int64
	// envoys are the clients of the targets if the edge is Envoy.
	envoys  []*edge.EnvoyClient
	slowest slowest
	delays  delays
	// sleep waits for at most a millisecond.
	sleep func(time.Duration)

	mu sync.Mutex
	// backlog are the turns that wait for a worker, from first on.
	backlog  []turn
	first    int
	inFlight int
	idle     []*worker
	// unused is the first unused slot in their chain, fresh the number of slots ever used.
	unused, fresh uint32
	running       sync.WaitGroup
}

// turn is a viewer who is due.
type turn struct {
	slot uint32
	// from is since when the turn could have begun.
	from time.Duration
}

// Run runs viewers until ctx ends. It then closes every connection, and tells the recorder what a reader has to know: whether the plan
// was kept, and the slowest traced requests. It returns an error if it cannot begin.
func Run(ctx context.Context, c Config, r *record.Recorder) error {
	if err := c.Validate(); err != nil {
		return err
	}
	e := newEngine(ctx, c, r, wire.Config{TLS: c.TLS, HTTP2: c.HTTP2})
	sleep, end, err := newSleeper()
	if err != nil {
		return err
	}
	defer end()
	e.sleep = sleep
	return e.run(ctx)
}

func newEngine(ctx context.Context, c Config, r *record.Recorder, w wire.Config) *engine {
	slots := c.MaxAlive
	if slots == 0 {
		slots = c.Viewers
	}
	if slots == 0 {
		slots = defaultMaxAlive
	}
	if c.Auth != nil && !c.Forwarded.IsValid() {
		c.Forwarded = defaultForwarded()
	}
	e := &engine{config: c, recorder: r, start: time.Now(), viewers: make([]viewer, slots), unused: none}
	e.wheel = newWheel(e.viewers)
	e.client = wire.NewClient(ctx, w)
	e.connections = newConnections(e.client, &e.config, slots)
	for _, target := range c.Targets {
		e.origins.add(strings.TrimRight(target, "/"))
	}
	return e
}

// defaultForwarded returns the addresses of viewers that edges report.
func defaultForwarded() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8) }

// planAhead is how far ahead starts are put into the wheel, so that they begin at their own time and not at the scheduler's.
const planAhead = 20 * time.Millisecond

func (e *engine) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, e.client.Close)
	defer stop()
	defer e.closeEnvoys()
	if err := e.dialEnvoys(); err != nil {
		return err
	}
	var due []uint32
	planned := newPlan(e.config.Pace, e.config.Viewers)
	var shown time.Duration
	for ctx.Err() == nil {
		now := time.Since(e.start)
		planned.until(now+planAhead, e.arrive)
		due = e.wheel.advance(now, due[:0])
		for _, slot := range due {
			e.submit(turn{slot, e.viewers[slot].due}) //nolint:contextcheck // the client has it
		}
		if now-shown >= showEvery || shown == 0 {
			shown = now
			e.recorder.Gauge("viewers.alive", "", float64(e.alive.Load()))
		}
		e.sleep(e.wheel.idle(time.Since(e.start)))
	}
	e.mu.Lock()
	waiting := len(e.backlog) - e.first
	e.backlog, e.first = nil, 0
	e.mu.Unlock()
	e.recorder.Dropped(waiting)
	e.client.Close()
	e.running.Wait()
	e.client.Close() // connections that opened meanwhile
	e.note()
	return nil
}

// showEvery is how often the number of viewers is told, several times in each second of the recorder.
const showEvery = 200 * time.Millisecond

// plan turns a pace into starts.
type plan struct {
	pace pace.Pace
	// reached is the time until which starts were planned, and count how many. limit bounds them.
	reached      time.Duration
	count, limit float64
}

// planStep is the unit in which a pace is asked. Starts within it are spread evenly.
const planStep = time.Millisecond

func newPlan(p pace.Pace, viewers int) *plan {
	limit := math.Inf(1)
	if viewers > 0 {
		limit = float64(viewers)
	}
	return &plan{pace: p, reached: -planStep, limit: limit}
}

// until calls start for each start up to a time, with its number and when it is meant to be.
func (p *plan) until(end time.Duration, start func(number int, at time.Duration)) {
	for ; p.reached+planStep <= end && p.count < p.limit; p.reached += planStep {
		due := math.Floor(min(p.limit, p.pace.Due(p.reached+planStep)+1e-9)) // a sum of rates may miss a whole number by a bit
		for first, n := p.count, 0.0; p.count < due; n++ {
			start(int(p.count), max(0, p.reached+time.Duration((n+1)/(due-first)*float64(planStep))))
			p.count++
		}
	}
}

// arrive puts a new viewer into the wheel.
func (e *engine) arrive(number int, at time.Duration) {
	slot, ok := e.takeSlot()
	e.recorder.Planned(1)
	if !ok {
		e.recorder.Dropped(1)
		e.delays.full.Add(1)
		return
	}
	h := mix(e.config.Seed ^ uint64(number))
	e.viewers[slot] = viewer{
		due: at, number: uint32(number), address: uint32(number),
		channel: uint32(h % uint64(len(e.config.Channels))), node: uint16(h >> 32 % uint64(len(e.config.Targets))),
	}
	e.wheel.add(slot)
}

func (e *engine) takeSlot() (slot uint32, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.unused != none:
		slot = e.unused
		e.unused = e.viewers[slot].next
	case int(e.fresh) < len(e.viewers):
		slot = e.fresh
		e.fresh++
	default:
		return 0, false
	}
	return slot, true
}

// free gives a slot back.
func (e *engine) free(slot uint32) {
	v := &e.viewers[slot]
	e.texts.release(v.media)
	e.texts.release(v.multivariant)
	e.mu.Lock()
	defer e.mu.Unlock()
	*v = viewer{next: e.unused}
	e.unused = slot
}

// submit gives a turn to a worker, or has it wait for one.
func (e *engine) submit(t turn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.inFlight >= e.config.MaxInFlight {
		if e.first > len(e.backlog)/2 {
			e.backlog, e.first = slices.Delete(e.backlog, 0, e.first), 0
		}
		e.backlog = append(e.backlog, t)
		e.delays.bounded.Add(1)
		return
	}
	e.inFlight++
	var w *worker
	if n := len(e.idle); n > 0 {
		w, e.idle = e.idle[n-1], e.idle[:n-1]
	} else {
		w = newWorker(e)
	}
	e.running.Go(func() { w.run(t) })
}

// next returns a turn that waits. Without one, or when the run is over, the worker is idle.
func (e *engine) next(w *worker) (turn, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.first < len(e.backlog) && !e.client.IsClosed() {
		t := e.backlog[e.first]
		if e.first++; e.first == len(e.backlog) {
			e.backlog, e.first = e.backlog[:0], 0
		}
		return t, true
	}
	e.inFlight--
	e.idle = append(e.idle, w)
	return turn{}, false
}

// isBehind reports whether turns wait.
func (e *engine) isBehind() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.first < len(e.backlog)
}
