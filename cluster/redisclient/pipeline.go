package redisclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/backends"
)

const (
	// queueSize is how many calls may wait in a queue. Redis does not answer more than that within any timeout.
	queueSize = 4096
	// maxPipelineCalls is how many calls share a pipeline. Larger pipelines gain nothing and delay the first call.
	maxPipelineCalls = 128
	// workersPerQueue is how many pipelines of a queue are in flight at once: few, so that calls that arrive together
	// share one.
	workersPerQueue = 4
	// clusterQueues keeps the servers of a Redis Cluster apart, as nearly as hash slots tell: calls to a server that is
	// down do not delay calls to the others.
	clusterQueues = 16
)

// pipeline runs scripts. Calls that arrive while others are in flight share the next pipeline; a lone call is sent at
// once. Each call returns within the timeout, whatever the client does. It is safe for concurrent use.
type pipeline struct {
	redis   redis.UniversalClient
	breaker *breaker
	timeout time.Duration
	log     *slog.Logger

	queues  []chan *call
	ctx     context.Context //nolint:containedctx // of the workers
	stop    context.CancelFunc
	workers sync.WaitGroup

	timers        sync.Pool // of calls: *time.Timer
	loggedScripts sync.Map  // names of scripts whose error was logged
	// roundTrips counts the pipelines with a call that a session waits for.
	roundTrips atomic.Uint64
}

// call is one run of a script. Its caller may give up waiting; then nothing reads the result.
type call struct {
	script      *Script
	command     []any // see Script.command
	isAbandoned atomic.Bool
	done        chan result // holds one, so that the worker never blocks
}

type result struct {
	value any
	err   error
}

func newPipeline(client redis.UniversalClient, b *breaker, timeout time.Duration, log *slog.Logger) *pipeline {
	p := &pipeline{redis: client, breaker: b, timeout: timeout, log: log}
	p.ctx, p.stop = context.WithCancel(context.Background())
	queues := 1
	if _, isCluster := client.(*redis.ClusterClient); isCluster {
		queues = clusterQueues
	}
	for range queues {
		queue := make(chan *call, queueSize)
		p.queues = append(p.queues, queue)
		for range workersPerQueue {
			p.workers.Go(func() { p.work(queue) })
		}
	}
	return p
}

// close stops the workers. Calls that wait return ErrStoreUnavailable.
func (p *pipeline) close() {
	p.stop()
	p.workers.Wait()
}

// run runs a command of a script with these keys. It keeps the command, but not the keys.
func (p *pipeline) run(ctx context.Context, s *Script, keys []string, command []any) (any, error) {
	if p.breaker.isOpen.Load() {
		return nil, ErrNotSent
	}
	c := &call{script: s, command: command, done: make(chan result, 1)}
	select {
	case p.queueFor(keys) <- c:
	default:
		return nil, fmt.Errorf("%w: %d calls are waiting already", ErrNotSent, queueSize)
	}
	timeout := p.startTimer()
	defer func() {
		timeout.Stop()
		p.timers.Put(timeout)
	}()
	select {
	case r := <-c.done:
		return r.value, r.err
	case <-ctx.Done():
		c.isAbandoned.Store(true)
		return nil, ctx.Err()
	case <-timeout.C:
		c.isAbandoned.Store(true)
		return nil, fmt.Errorf("%w: no answer within cluster.redis_timeout=%v", backends.ErrStoreUnavailable, p.timeout)
	case <-p.ctx.Done():
		return nil, fmt.Errorf("%w: the node is shutting down", backends.ErrStoreUnavailable)
	}
}

// startTimer returns a timer of the timeout. A stopped timer sends nothing that it had not sent yet.
func (p *pipeline) startTimer() *time.Timer {
	if timer, isKept := p.timers.Get().(*time.Timer); isKept {
		timer.Reset(p.timeout)
		return timer
	}
	return time.NewTimer(p.timeout)
}

// queueFor returns the queue for calls with these keys. Neighbouring hash slots, which lie on one server, share a queue.
func (p *pipeline) queueFor(keys []string) chan *call {
	if len(p.queues) == 1 || len(keys) == 0 {
		return p.queues[0]
	}
	return p.queues[int(hashSlot(keys[0]))*len(p.queues)/hashSlots]
}

// work sends the calls of a queue until the pipeline is closed.
func (p *pipeline) work(queue chan *call) {
	calls := make([]*call, 0, maxPipelineCalls)
	for {
		select {
		case <-p.ctx.Done():
			return
		case first := <-queue:
			calls = append(calls[:0], first)
		}
	more:
		for len(calls) < maxPipelineCalls {
			select {
			case next := <-queue:
				calls = append(calls, next)
			default:
				break more
			}
		}
		p.send(calls)
		clear(calls)
	}
}

// send runs the calls whose callers still wait, in one pipeline.
func (p *pipeline) send(calls []*call) {
	awaited := calls[:0]
	for _, c := range calls {
		if !c.isAbandoned.Load() {
			awaited = append(awaited, c)
		}
	}
	if len(awaited) == 0 {
		return
	}
	err := p.breaker.do(func() error { return p.execute(awaited) })
	if err == nil {
		return
	}
	for _, c := range awaited { // calls that have a result already ignore this one
		c.finish(nil, unavailable(err))
	}
}

// finish gives the call its result, unless it has one.
func (c *call) finish(value any, err error) {
	select {
	case c.done <- result{value, err}:
	default:
	}
}

// execute runs the calls and finishes those that were answered. It returns an error if Redis counts as unavailable.
func (p *pipeline) execute(calls []*call) error {
	ctx, cancel := context.WithTimeout(p.ctx, p.timeout)
	defer cancel()
	unknown, err := p.roundTrip(ctx, calls)
	if err != nil || len(unknown) == 0 {
		return err
	}
	// The server was restarted, or never saw these scripts. EVAL makes them known to it.
	for _, c := range unknown {
		c.command = c.script.withSource(c.command)
	}
	_, err = p.roundTrip(ctx, unknown)
	return err
}

// roundTrip sends one pipeline. It returns the calls whose script the server does not know.
func (p *pipeline) roundTrip(ctx context.Context, calls []*call) (unknown []*call, failure error) {
	commands := make([]*redis.Cmd, len(calls))
	pipe := p.redis.Pipeline()
	for i, c := range calls {
		commands[i] = redis.NewCmd(ctx, c.command...)
		commands[i].SetFirstKeyPos(firstKey)
		_ = pipe.Process(ctx, once{commands[i]}) // it is only queued
	}
	_, pipeErr := pipe.Exec(ctx) // each command that was sent has an error of its own
	if slices.ContainsFunc(calls, func(c *call) bool { return c.script.delaysSessions }) {
		p.roundTrips.Add(1)
	}
	for i, c := range calls {
		value, err := commands[i].Result()
		if err == nil && value == nil {
			err = pipeErr // the command was not sent: a script without a result returns redis.Nil
		}
		switch {
		case err == nil, errors.Is(err, redis.Nil):
			c.finish(value, nil)
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			unknown = append(unknown, c)
		case isUnavailable(err):
			failure = err
			c.finish(nil, unavailable(err))
		default:
			p.logScriptError(c.script, err)
			c.finish(nil, fmt.Errorf("%s: %w", c.script.name, err))
		}
	}
	return unknown, failure
}

// once is a command that the library does not send again after a broken connection or an error reply: it may have run. Without this a
// client of a Redis Cluster does, whatever its MaxRetries. Redirects are followed all the same.
type once struct{ *redis.Cmd }

// NoRetry implements [redis.Cmder].
func (once) NoRetry() bool { return true }

// logScriptError logs an error that is not an outage, once for each script.
func (p *pipeline) logScriptError(s *Script, err error) {
	if _, logged := p.loggedScripts.LoadOrStore(s.name, true); !logged {
		p.log.Error("BUG: redis rejected a script, or another program wrote to a key of the prefix",
			slog.String("script", s.name), slog.Any("error", err))
	}
}
