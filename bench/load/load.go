package load

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"usher/bench/result"
)

// Request is one prepared request.
type Request struct {
	// Head is the whole request. It is used until the connection asks for its next one.
	Head []byte
	// First is the first byte that the body must have; 0: any.
	First byte
}

// Options say what is sent.
type Options struct {
	// Address is the server's "host:port".
	Address     string
	Connections int
	// Next returns the n-th request of a connection, both from 0. Connections call it at the same time.
	Next func(connection, n int) Request
	// Rate is how many requests all connections together send a second; 0: as many as the server answers.
	Rate float64
	// Warm is how long requests are not counted; then they are for For. For 0 means until Limit.
	Warm, For time.Duration
	// Limit is how many requests each connection sends; 0: any number.
	Limit int
	// Timeout bounds a request; 0: 10 s.
	Timeout time.Duration
	// Held, if not nil, is called when all connections have sent their last request and are still open.
	Held func()
}

// Result is what was measured.
type Result struct {
	// Served are the requests that were answered as expected. Failures are the others, by what was wrong.
	Served   uint64
	Failures map[string]uint64
	// Bytes are those of bodies.
	Bytes uint64
	// Elapsed is how long requests were counted.
	Elapsed time.Duration
	// Latency ends with the body, FirstByte with the first byte of the head. Both have served requests only.
	Latency, FirstByte result.Histogram
}

// Failed returns the number of failed requests.
func (r *Result) Failed() uint64 {
	var all uint64
	for _, n := range r.Failures {
		all += n
	}
	return all
}

// PerSecond returns the number of served requests a second.
func (r *Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Served) / r.Elapsed.Seconds()
}

func (r *Result) merge(other *Result) {
	r.Served += other.Served
	r.Bytes += other.Bytes
	for what, n := range other.Failures {
		r.Failures[what] += n
	}
	r.Latency.Merge(&other.Latency)
	r.FirstByte.Merge(&other.FirstByte)
}

// defaultTimeout is longer than a server may take that answers at all.
const defaultTimeout = 10 * time.Second

// Run sends requests until For has passed since the warm-up, all connections have reached Limit, or ctx ends. counted, if not
// nil, is called when counting begins, unless Run ends before.
func Run(ctx context.Context, o Options, counted func()) *Result {
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	start := time.Now()
	from := start.Add(o.Warm)
	to := from.Add(o.For)
	if o.For == 0 {
		to = from.Add(math.MaxInt32 * time.Second)
	}
	defer after(o.Warm, counted)()
	senders := make([]*sender, o.Connections)
	var running sync.WaitGroup
	for i := range senders {
		senders[i] = newSender(i, &o, start, from, to)
		running.Go(func() { senders[i].run(ctx) })
	}
	running.Wait()
	if o.Held != nil {
		o.Held()
	}
	for _, s := range senders {
		s.disconnect()
	}
	all := &Result{Failures: make(map[string]uint64), Elapsed: min(o.For, time.Since(from))}
	if o.For == 0 {
		all.Elapsed = time.Since(from)
	}
	for _, s := range senders {
		all.merge(&s.result)
	}
	return all
}

// after calls f after a time. stop waits for a call that has begun, and prevents one that has not.
func after(d time.Duration, f func()) (stop func()) {
	if f == nil {
		return func() {}
	}
	done := make(chan struct{})
	timer := time.AfterFunc(d, func() {
		defer close(done)
		f()
	})
	return func() {
		if !timer.Stop() {
			<-done
		}
	}
}

// Get returns a GET request as a player sends it. header has names and values in turn.
func Get(host, target string, header ...string) []byte {
	head := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench-player/1.0\r\nAccept: */*\r\nAccept-Encoding: identity\r\n",
		target, host)
	for pair := range slices.Chunk(header, 2) {
		head = fmt.Appendf(head, "%s: %s\r\n", pair[0], pair[1])
	}
	return append(head, "\r\n"...)
}
