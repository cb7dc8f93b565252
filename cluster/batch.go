package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// laneQueue is how many calls may wait in a lane. More than that Redis does not answer within any deadline.
	laneQueue = 4096
	// laneBatch is how many calls share a pipeline: beyond it they gain nothing and wait for one another.
	laneBatch = 128
	// laneWorkers is how many pipelines of a lane are under way at once. Few, so that calls which come together meet.
	laneWorkers = 4
	// clusterLanes keeps the servers of a Redis Cluster apart, as nearly as slots tell: calls to one that is away do not
	// hold up those to others.
	clusterLanes = 16
)

// batch runs scripts. Calls that come while others are under way share the next pipeline; a lone one goes at once. Each
// returns at the deadline, whatever the client does. It is safe for concurrent use.
type batch struct {
	client   redis.UniversalClient
	guard    *guard
	deadline time.Duration
	log      *slog.Logger

	lanes   []chan *call
	ctx     context.Context
	stop    context.CancelFunc
	working sync.WaitGroup

	bugs sync.Map // names of scripts whose error was told
	// full counts calls that found their lane's queue full, late those whose deadline passed.
	full, late atomic.Uint64
}

// call is one script on its way. Whoever waits for it may leave; then nobody reads its outcome.
type call struct {
	script *script
	keys   []string
	args   []any
	left   atomic.Bool
	done   chan outcome // holds one, so that nobody waits for the caller
}

type outcome struct {
	value any
	err   error
}

func newBatch(client redis.UniversalClient, g *guard, deadline time.Duration, log *slog.Logger) *batch {
	b := &batch{client: client, guard: g, deadline: deadline, log: log}
	b.ctx, b.stop = context.WithCancel(context.Background())
	lanes := 1
	if _, several := client.(*redis.ClusterClient); several {
		lanes = clusterLanes
	}
	for range lanes {
		lane := make(chan *call, laneQueue)
		b.lanes = append(b.lanes, lane)
		for range laneWorkers {
			b.working.Go(func() { b.work(lane) })
		}
	}
	return b
}

// close ends the workers. Calls that wait return ErrAway.
func (b *batch) close() {
	b.stop()
	b.working.Wait()
}

func (b *batch) run(ctx context.Context, s *script, keys []string, args ...any) (any, error) {
	if b.guard.away() {
		return nil, ErrAway
	}
	c := &call{script: s, keys: keys, args: args, done: make(chan outcome, 1)}
	select {
	case b.lane(keys) <- c:
	default:
		b.full.Add(1)
		return nil, fmt.Errorf("%w: %d calls wait already", ErrAway, laneQueue)
	}
	deadline := time.NewTimer(b.deadline)
	defer deadline.Stop()
	select {
	case o := <-c.done:
		return o.value, o.err
	case <-ctx.Done():
		c.left.Store(true)
		return nil, ctx.Err()
	case <-deadline.C:
		c.left.Store(true)
		b.late.Add(1)
		return nil, fmt.Errorf("%w: no answer within cluster.redis_timeout=%v", ErrAway, b.deadline)
	case <-b.ctx.Done():
		return nil, fmt.Errorf("%w: the node ends", ErrAway)
	}
}

// lane is the one that calls with such keys go by: neighbouring slots, which lie on one server, share one.
func (b *batch) lane(keys []string) chan *call {
	if len(b.lanes) == 1 || len(keys) == 0 {
		return b.lanes[0]
	}
	return b.lanes[int(slotOf(keys[0]))*len(b.lanes)/slots]
}

// work runs what comes by a lane until the batch is closed.
func (b *batch) work(lane chan *call) {
	calls := make([]*call, 0, laneBatch)
	for {
		select {
		case <-b.ctx.Done():
			return
		case first := <-lane:
			calls = append(calls[:0], first)
		}
	more:
		for len(calls) < laneBatch {
			select {
			case next := <-lane:
				calls = append(calls, next)
			default:
				break more
			}
		}
		b.send(calls)
		clear(calls)
	}
}

// send runs the calls whose callers still wait, in one pipeline.
func (b *batch) send(calls []*call) {
	waiting := calls[:0]
	for _, c := range calls {
		if !c.left.Load() {
			waiting = append(waiting, c)
		}
	}
	if len(waiting) == 0 {
		return
	}
	err := b.guard.attempt(func() error { return b.pipeline(waiting) })
	if err == nil {
		return
	}
	for _, c := range waiting { // those that have an outcome already have no room for another
		c.settle(nil, away(err))
	}
}

// settle gives the call its outcome, if it has none.
func (c *call) settle(value any, err error) {
	select {
	case c.done <- outcome{value, err}:
	default:
	}
}

// pipeline runs the calls and settles those that were answered. Its error is why Redis counts as away.
func (b *batch) pipeline(calls []*call) error {
	ctx, cancel := context.WithTimeout(b.ctx, b.deadline)
	defer cancel()
	unknown, err := b.round(ctx, calls, func(p redis.Pipeliner, c *call) *redis.Cmd {
		return p.EvalSha(ctx, c.script.sha, c.keys, c.args...)
	})
	if err != nil || len(unknown) == 0 {
		return err
	}
	// The server was restarted, or never saw them. Sent whole they are known from now on.
	_, err = b.round(ctx, unknown, func(p redis.Pipeliner, c *call) *redis.Cmd {
		return p.Eval(ctx, c.script.source, c.keys, c.args...)
	})
	return err
}

// round is one trip. It returns the calls whose script the server does not know.
func (b *batch) round(
	ctx context.Context, calls []*call, add func(redis.Pipeliner, *call) *redis.Cmd,
) (unknown []*call, failure error) {
	commands := make([]*redis.Cmd, len(calls))
	p := b.client.Pipeline()
	for i, c := range calls {
		commands[i] = add(p, c)
	}
	_, whole := p.Exec(ctx) // each command that was sent has its own error
	for i, c := range calls {
		value, err := commands[i].Result()
		if err == nil && value == nil {
			err = whole // it was not even sent: a script that returns nothing has redis.Nil
		}
		switch {
		case err == nil, errors.Is(err, redis.Nil):
			c.settle(value, nil)
		case redis.HasErrorPrefix(err, "NOSCRIPT"):
			unknown = append(unknown, c)
		case isAway(err):
			failure = err
			c.settle(nil, away(err))
		default:
			b.tellBug(c.script, err)
			c.settle(nil, fmt.Errorf("%s: %w", c.script.name, err))
		}
	}
	return unknown, failure
}

// tellBug reports once for each script what Redis says is wrong with it.
func (b *batch) tellBug(s *script, err error) {
	if _, told := b.bugs.LoadOrStore(s.name, true); !told {
		b.log.Error("BUG: Redis refuses a script of ours, or a key holds what we did not write",
			slog.String("script", s.name), slog.Any("error", err))
	}
}

// away marks an error as Redis being away.
func away(err error) error {
	if errors.Is(err, ErrAway) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// isAway reports whether the error says that Redis cannot serve at present, rather than that we asked for nonsense.
// Whatever is not Redis' own words is a broken connection.
func isAway(err error) bool {
	said, isReply := errors.AsType[redis.Error](err)
	if !isReply {
		return true
	}
	if _, broken := errors.AsType[net.Error](err); broken {
		return true
	}
	for _, words := range []string{
		"LOADING", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "MOVED", "ASK", "NOREPLICAS", "MISCONF", "OOM", "BUSY",
		"UNKILLABLE", "NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients",
	} {
		if strings.HasPrefix(said.Error(), words) {
			return true
		}
	}
	return false
}
