package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/actors/session"
	"usher/backends"
)

const (
	// beatsAtOnce is how many sessions one call tells of, so that it takes Redis less than a millisecond.
	beatsAtOnce = 250
	// callsAtOnce is how many calls of one beat or sweep are under way at once: they share pipelines.
	callsAtOnce = 64
	// sweepHold is for how long nobody else is given a session that this node is about to close.
	sweepHold = 15 * time.Second
)

// RecordHeartbeats says when sessions were seen, one call for each bucket. Those that it could not tell of are told of next time.
func (r *Redis) RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error) {
	buckets := make(map[int][]session.Heartbeat)
	for _, p := range seen {
		buckets[bucketOf(p.ID)] = append(buckets[bucketOf(p.ID)], p)
	}
	found := make(chan []backends.SessionID, len(seen))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(callsAtOnce)
	for bucket, all := range buckets {
		for len(all) > 0 {
			some := all[:min(beatsAtOnce, len(all))]
			all = all[len(some):]
			group.Go(func() error {
				ids, err := r.beat(ctx, bucket, some)
				found <- ids
				return err
			})
		}
	}
	err = group.Wait()
	close(found)
	for ids := range found {
		unknown = append(unknown, ids...)
	}
	if errors.Is(err, ErrAway) {
		r.held.see(seen)
	}
	return unknown, err
}

func (r *Redis) beat(ctx context.Context, bucket int, seen []session.Heartbeat) (unknown []backends.SessionID, err error) {
	now := time.Now()
	args := make([]any, 0, 1+2*len(seen))
	args = append(args, r.keepFor.Milliseconds())
	for i := range seen {
		args = append(args, seen[i].ID[:], now.Sub(seen[i].LastSeen).Milliseconds())
	}
	answer, err := r.sessionCall(ctx, r.scripts.beat, r.keys.live(bucket), args...)
	if err != nil {
		return nil, fmt.Errorf("say which sessions were seen: %w", err)
	}
	for _, one := range answer[2:] {
		if id, ok := rawSessionID(one); ok {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

func rawSessionID(v any) (id backends.SessionID, ok bool) {
	raw := text(v)
	copy(id[:], raw)
	return id, len(raw) == len(id)
}

// ExpireIdle closes sessions that nobody has seen for so long, about so many. All buckets are looked at at once: it is a few
// round trips, mostly one.
func (r *Redis) ExpireIdle(ctx context.Context, idle time.Duration, most int) (over []session.ClosingRecord, err error) {
	each := max(1, most/liveBuckets)
	closed := make([][]session.ClosingRecord, liveBuckets)
	group, ctx := errgroup.WithContext(ctx)
	for bucket := range closed {
		group.Go(func() (err error) {
			closed[bucket], err = r.sweep(ctx, bucket, idle, each)
			return err
		})
	}
	err = group.Wait()
	return slices.Concat(closed...), err
}

func (r *Redis) sweep(ctx context.Context, bucket int, idle time.Duration, most int) ([]session.ClosingRecord, error) {
	reply, err := r.runner.run(ctx, r.scripts.sweep, []string{r.keys.live(bucket)},
		idle.Milliseconds(), most, sweepHold.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("look for sessions that are over: %w", err)
	}
	picked := list(reply)
	if len(picked) == 0 {
		return nil, nil
	}
	outcomes := make([]*session.ClosingRecord, len(picked))
	gone := make([]any, 2*len(picked))
	group, closing := errgroup.WithContext(ctx)
	group.SetLimit(callsAtOnce)
	for i, one := range picked {
		f := list(one)
		if len(f) != 3 {
			return nil, fmt.Errorf("BUG: script sweep returned %v", one)
		}
		gone[2*i], gone[2*i+1] = f[0], f[2]
		group.Go(func() error {
			var err error
			outcomes[i], err = r.close(closing, f[0], time.Duration(number(f[1]))*time.Millisecond)
			return err
		})
	}
	err = group.Wait()
	var over []session.ClosingRecord
	for _, c := range outcomes {
		if c != nil {
			over = append(over, *c)
		}
	}
	if err != nil {
		return over, err // what is not closed yet is given out again
	}
	if _, err := r.runner.run(ctx, r.scripts.forget, []string{r.keys.live(bucket)}, gone...); err != nil {
		return over, fmt.Errorf("take closed sessions off the list: %w", err)
	}
	return over, nil
}

// close ends a stretch of a session; nil if somebody has done so.
func (r *Redis) close(ctx context.Context, raw any, silent time.Duration) (*session.ClosingRecord, error) {
	id, ok := rawSessionID(raw)
	if !ok {
		return nil, nil // nobody's
	}
	reply, err := r.runner.run(ctx, r.scripts.close, []string{r.keys.session(id)}, recordVersion, r.keepFor.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("close session %s: %w", id, err)
	}
	f := list(reply)
	if len(f) == 0 || number(f[0]) == 1 {
		return nil, nil
	}
	if len(f) != 12 {
		return nil, fmt.Errorf("BUG: script close returned %d fields", len(f))
	}
	now := time.Now()
	record, _ := r.readRecord(id, f[1:7], now)
	c := &session.ClosingRecord{Record: record, LastSeen: now.Add(-silent), Counters: session.Counters{
		Requests: number(f[8]), Bytes: number(f[9]), Unverified: time.Duration(number(f[10])) * time.Millisecond,
		History: text(f[11]),
	}}
	c.Since = c.LastSeen
	if began := number(f[7]); began >= 0 {
		c.Since = now.Add(-time.Duration(began) * time.Millisecond)
	}
	if c.Since.After(c.LastSeen) {
		c.Since = c.LastSeen // it was seen but in the moment that it began
	}
	return c, nil
}
