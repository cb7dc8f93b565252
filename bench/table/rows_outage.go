package table

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/backends/backendtest"
	"usher/bench/load"
	"usher/bench/peers"
	"usher/bench/result"
)

// Viewers in the rows on outages, and their requests a second.
const (
	knownRate, newRate = 100, 20
	knownViewers       = 50
)

// patience is how long a viewer waits: longer than Usher's default for answer_deadline. Each request has a connection of its own
// for that long, so that one who waits delays nobody else.
func (b *bed) patience() time.Duration {
	const least, most = 2 * time.Second, 5 * time.Second
	return min(max(least, b.Length), most)
}

// shortValidity is how long decisions are kept in rows that show how they expire: whole seconds, so that each round has it.
func (b *bed) shortValidity() time.Duration {
	const least, most = time.Second, 3 * time.Second
	return min(max(least, b.Length.Truncate(time.Second)), most)
}

// slow has the middleware take its time.
func (b *bed) slow(latency time.Duration) (end func(), err error) {
	return b.fault(backendtest.Slow(latency))
}

func (b *bed) fault(m backendtest.Mode) (end func(), err error) {
	if err := b.middleware.SetMode(m); err != nil {
		return nil, err
	}
	return func() {
		if err := b.middleware.SetMode(backendtest.Healthy()); err != nil {
			b.note("The middleware did not return: " + err.Error() + ".")
		}
	}, nil
}

// crowd is what known and new viewers felt.
type crowd struct{ known, new *load.Result }

// viewers has known and new viewers request the playlist at a fixed rate.
func (b *bed) viewers(ctx context.Context, t *target, length time.Duration) crowd {
	patience := b.patience()
	connections := func(rate int) int { return int(float64(rate) * patience.Seconds() * 1.3) } // a request may take a quarter longer
	var c crowd
	var running sync.WaitGroup
	running.Go(func() {
		c.known = load.Run(ctx, load.Options{
			Address: t.address, Connections: connections(knownRate), Rate: knownRate, For: length, Timeout: patience,
			Next: shuffled(playlistRequests(t, knownViewers)),
		}, nil)
	})
	running.Go(func() {
		c.new = load.Run(ctx, load.Options{
			Address: t.address, Connections: connections(newRate), Rate: newRate, For: length, Timeout: patience,
			Next: b.newViewerRequests(t, connections(newRate)),
		}, nil)
	})
	running.Wait()
	return c
}

func (c crowd) failed() uint64 { return c.known.Failed() + c.new.Failed() }

// p99 is over all viewers who were served.
func (c crowd) p99() time.Duration {
	var all result.Histogram
	all.Merge(&c.known.Latency)
	all.Merge(&c.new.Latency)
	return all.Quantile(0.99)
}

// outage is what one server did in one round.
type outage struct {
	healthy, during time.Duration // p99
	// slowest is the longest wait of a viewer who was served, from the fault's start on.
	slowest           time.Duration
	served, all       uint64
	servedNew, allNew uint64
	// failedBefore are requests that failed before all decisions of before the fault had expired.
	failedBefore uint64
}

// outageRound measures a fresh server before and in an outage. What happens until all decisions of before have expired counts
// for slowest and failedBefore only.
func (b *bed) outageRound(ctx context.Context, name string, m backendtest.Mode) (outage, error) {
	t, err := b.start(ctx, name, setting{validity: b.shortValidity(), recheckRate: manyRechecks})
	if err != nil {
		return outage{}, err
	}
	defer t.close()
	b.viewers(ctx, t, b.Warm)
	healthy := b.viewers(ctx, t, b.Length)
	end, err := b.fault(m)
	if err != nil {
		return outage{}, err
	}
	defer end()
	first := b.viewers(ctx, t, b.shortValidity()+time.Second)
	during := b.viewers(ctx, t, b.Length)
	return outage{
		healthy: healthy.p99(), during: during.p99(),
		slowest: max(first.known.Latency.Max(), first.new.Latency.Max(), during.known.Latency.Max(), during.new.Latency.Max()),
		served:  during.known.Served + during.new.Served, all: during.known.Served + during.new.Served + during.failed(),
		servedNew: during.new.Served, allNew: during.new.Served + during.new.Failed(),
		failedBefore: healthy.failed() + first.failed(),
	}, ctx.Err()
}

// outages are the rounds of one server.
type outages []outage

// share returns how many of all viewers were served, in percent, and how many of the new ones.
func (o outages) share() (all, fresh float64) {
	var sum outage
	for _, r := range o {
		sum.served, sum.all = sum.served+r.served, sum.all+r.all
		sum.servedNew, sum.allNew = sum.servedNew+r.servedNew, sum.allNew+r.allNew
	}
	return 100 * float64(sum.served) / float64(max(1, sum.all)), 100 * float64(sum.servedNew) / float64(max(1, sum.allNew))
}

// isAllServed reports whether no request failed, before the fault and from its start on.
func (o outages) isAllServed() bool {
	all, _ := o.share()
	return all == 100 && o.failedBefore() == 0
}

func (o outages) failedBefore() (n uint64) {
	for _, r := range o {
		n += r.failedBefore
	}
	return n
}

func (o outages) slowest() time.Duration {
	return slices.MaxFunc(o, func(a, b outage) int { return int(a.slowest - b.slowest) }).slowest
}

// slowdown returns the p99 in the outage over the healthy one.
func (o outages) slowdown() ratio {
	var before, during []sample
	for _, r := range o {
		before, during = append(before, sample{p99: r.healthy}), append(during, sample{p99: r.during})
	}
	return compare(during, before, p99)
}

func (o outages) String() string {
	all, fresh := o.share()
	text := fmt.Sprintf("%.1f %% served (new viewers %.1f %%)", all, fresh)
	if all > 0 {
		text += fmt.Sprintf(", p99 × %s, slowest %s", o.slowdown(), milliseconds(o.slowest().Seconds()))
	}
	if n := o.failedBefore(); n > 0 {
		text += fmt.Sprintf(", **%d failed before decisions expired**", n)
	}
	return text
}

// outageRow measures servers before and in an outage, and judges Usher's rounds.
func (b *bed) outageRow(ctx context.Context, key string, m backendtest.Mode, l Line, isMet func(outages) bool) ([]Line, error) {
	names := []string{peers.Yardstick, "nginx-failopen", usherName}
	all := make(map[string]outages)
	for round := range b.Rounds {
		for _, name := range names {
			o, err := b.outageRound(ctx, name, m)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all[name] = append(all[name], o)
			b.say("%s, round %d of %d, %s: %s; p99 %s, before %s", key, round+1, b.Rounds, name, outages{o},
				milliseconds(o.during.Seconds()), milliseconds(o.healthy.Seconds()))
		}
	}
	var others []string
	for _, name := range names[:len(names)-1] {
		others = append(others, name+" "+all[name].String())
	}
	us := all[usherName]
	l.Peers, l.Usher, l.Ratio, l.Met = strings.Join(others, "; "), us.String(), "–", isMet(us)
	return []Line{l}, nil
}

func (o outages) isRefusalMet() bool {
	const mostSlowdown = 2
	return o.isAllServed() && o.slowdown().median <= mostSlowdown
}

func (o outages) isHangMet() bool {
	// answerDeadline is Usher's default, and slack what the machine may add.
	const answerDeadline, slack = time.Second, 200 * time.Millisecond
	return o.isRefusalMet() && o.slowest() <= answerDeadline+slack
}

func refuses(ctx context.Context, b *bed) ([]Line, error) {
	l := Line{
		Work: "middleware refuses connections, decisions of before expired", Goal: "100 % of viewers served, p99 within 2 × of healthy",
	}
	return b.outageRow(ctx, "refuses", backendtest.Refuse(), l, outages.isRefusalMet)
}

func hangs(ctx context.Context, b *bed) ([]Line, error) {
	l := Line{
		Work: "middleware hangs, decisions of before expired", Goal: "≤ `answer_deadline` (1 s) once, then as above",
	}
	return b.outageRow(ctx, "hangs", backendtest.Hang(), l, outages.isHangMet)
}
