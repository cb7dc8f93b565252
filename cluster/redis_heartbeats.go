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
	"usher/cluster/redisclient"
)

const (
	// heartbeatsPerCall is how many sessions one call reports, so that it takes Redis less than a millisecond.
	heartbeatsPerCall = 250
	// concurrentCalls is how many calls of one report, or of one bucket's expiry, are in flight at once: they share
	// pipelines.
	concurrentCalls = 64
	// closeWindow is for how long no other node is given a session that this node is about to close.
	closeWindow = 15 * time.Second
)

// RecordHeartbeats stores when sessions were last seen, with a call for each bucket, and returns those that were not
// stored yet. Heartbeats of a call that failed are to be reported again.
func (r *Redis) RecordHeartbeats(ctx context.Context, seen []session.Heartbeat) (unknown []backends.SessionID, err error) {
	buckets := make(map[int][]session.Heartbeat)
	for _, h := range seen {
		buckets[bucketOf(h.ID)] = append(buckets[bucketOf(h.ID)], h)
	}
	results := make(chan []backends.SessionID, len(seen))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrentCalls)
	for bucket, all := range buckets {
		for len(all) > 0 {
			batch := all[:min(heartbeatsPerCall, len(all))]
			all = all[len(batch):]
			group.Go(func() error {
				ids, err := r.sendHeartbeats(ctx, bucket, batch)
				results <- ids
				return err
			})
		}
	}
	err = group.Wait()
	close(results)
	for ids := range results {
		unknown = append(unknown, ids...)
	}
	if errors.Is(err, backends.ErrStoreUnavailable) {
		r.deferred.deferHeartbeats(seen)
	}
	return unknown, err
}

func (r *Redis) sendHeartbeats(
	ctx context.Context, bucket int, seen []session.Heartbeat,
) (unknown []backends.SessionID, err error) {
	now := time.Now()
	args := make([]any, 0, 1+2*len(seen))
	args = append(args, r.sessionTTL.Milliseconds())
	for i := range seen {
		args = append(args, seen[i].ID[:], now.Sub(seen[i].LastSeen).Milliseconds())
	}
	reply, err := r.client.RunWithExpiry(ctx, r.scripts.sessionHeartbeat, r.client.Keys().LastSeen(bucket), args...)
	if err != nil {
		return nil, fmt.Errorf("store heartbeats: %w", err)
	}
	for _, raw := range reply[2:] {
		if id, ok := parseRawID(raw); ok {
			unknown = append(unknown, id)
		}
	}
	return unknown, nil
}

func parseRawID(v any) (id backends.SessionID, ok bool) {
	raw := redisclient.Text(v)
	copy(id[:], raw)
	return id, len(raw) == len(id)
}

// ExpireIdle closes sessions that no node has seen for that long, about that many. It scans all buckets at once: a few
// round trips, mostly one. For that long after an outage, in which no node could tell whom it saw, a session must not have been
// seen for as much longer as the outage took, and for one heartbeat more, by which nodes notice it at different times.
func (r *Redis) ExpireIdle(ctx context.Context, idle time.Duration, limit int) (closed []session.ClosingRecord, err error) {
	if length, ended := r.lastInterruption(); time.Since(ended) < idle {
		idle += length
	}
	limitPerBucket := max(1, limit/bucketCount)
	buckets := make([][]session.ClosingRecord, bucketCount)
	group, ctx := errgroup.WithContext(ctx)
	for bucket := range buckets {
		group.Go(func() (err error) {
			buckets[bucket], err = r.expireBucket(ctx, bucket, idle, limitPerBucket)
			return err
		})
	}
	err = group.Wait()
	return slices.Concat(buckets...), err
}

func (r *Redis) expireBucket(
	ctx context.Context, bucket int, idle time.Duration, limit int,
) ([]session.ClosingRecord, error) {
	key := []string{r.client.Keys().LastSeen(bucket)}
	reply, err := r.client.Run(ctx, r.scripts.expireScan, key, idle.Milliseconds(), limit, closeWindow.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("scan for idle sessions: %w", err)
	}
	found := redisclient.List(reply)
	if len(found) == 0 {
		return nil, nil
	}
	closed, acks, err := r.closeAll(ctx, found)
	if err != nil || len(acks) == 0 {
		return closed, err // the scan returns again what is not closed yet
	}
	if _, err := r.client.Run(ctx, r.scripts.expireAck, key, acks...); err != nil {
		return closed, fmt.Errorf("remove closed sessions from the list: %w", err)
	}
	return closed, nil
}

// closeAll closes the sessions that a scan found. It returns the arguments of expire_ack.lua for those that were closed and
// confirmed before.
func (r *Redis) closeAll(ctx context.Context, found []any) (closed []session.ClosingRecord, acks []any, err error) {
	results := make([]*session.ClosingRecord, len(found))
	isDone := make([]bool, len(found))
	group, closing := errgroup.WithContext(ctx)
	group.SetLimit(concurrentCalls)
	for i, one := range found {
		f := redisclient.List(one)
		if len(f) != 3 {
			err = fmt.Errorf("BUG: script expire_scan returned %v", one)
			break
		}
		group.Go(func() error {
			c, err := r.endPeriod(closing, f[0], redisclient.Int(f[1]), redisclient.Int(f[2]))
			results[i], isDone[i] = c, c == nil && err == nil
			return err
		})
	}
	err = errors.Join(err, group.Wait())
	for i, c := range results {
		switch {
		case c != nil:
			closed = append(closed, *c)
		case isDone[i]:
			acks = append(acks, redisclient.List(found[i])[0], redisclient.List(found[i])[2])
		}
	}
	return closed, acks, err
}

// endPeriod ends the current period of a session. It returns nil if that was done and confirmed before.
func (r *Redis) endPeriod(ctx context.Context, raw any, idleFor, score int64) (*session.ClosingRecord, error) {
	id, ok := parseRawID(raw)
	if !ok {
		return nil, nil // not a session's id
	}
	f, err := r.client.RunWithExpiry(ctx, r.scripts.closeSession, r.sessionKey(id), recordVersion, r.sessionTTL.Milliseconds(), idleFor)
	if err != nil {
		return nil, fmt.Errorf("close session %s: %w", id, err)
	}
	outcome := redisclient.Text(f[1])
	if outcome == "before" {
		return nil, nil
	}
	if len(f) != 15 {
		return nil, fmt.Errorf("BUG: script close_session returned %d fields", len(f))
	}
	now := time.Now()
	ago := func(ms any) time.Time { return now.Add(-redisclient.Duration(redisclient.Int(ms))) }
	record, _ := r.parseRecord(id, f[2:7], now)
	c := &session.ClosingRecord{
		Record: record, LastSeen: ago(f[12]), Period: uint64(redisclient.Int(f[13])), IsEstimated: redisclient.Int(f[14]) == 1,
		Counters: session.Counters{
			Requests: redisclient.Int(f[8]), Bytes: redisclient.Int(f[9]),
			Unverified: redisclient.Duration(redisclient.Int(f[10])), History: redisclient.Text(f[11]),
		},
	}
	c.Since = c.LastSeen
	if redisclient.Int(f[7]) >= 0 && ago(f[7]).Before(c.LastSeen) { // otherwise it was seen only as it began
		c.Since = ago(f[7])
	}
	if c.HasReturned = outcome == "again"; !c.HasReturned {
		c.Mark = score // otherwise the session stays in the list, since its newer period is to be closed
	}
	return c, nil
}

// ConfirmClosed forgets the counters of sessions that were closed, and then removes the sessions from the list of those that
// must be closed. A call that fails has them returned again.
func (r *Redis) ConfirmClosed(ctx context.Context, closed []session.ClosingRecord) error {
	acks := make(map[int][]any)
	group, confirming := errgroup.WithContext(ctx)
	group.SetLimit(concurrentCalls)
	for i := range closed {
		c := &closed[i]
		if id := c.Record.ID; c.Mark != 0 {
			acks[bucketOf(id)] = append(acks[bucketOf(id)], id[:], c.Mark)
		}
		group.Go(func() error {
			key := []string{r.sessionKey(c.Record.ID)}
			_, err := r.client.Run(confirming, r.scripts.confirmClosed, key, c.Period)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("confirm closed sessions: %w", err)
	}
	group, confirming = errgroup.WithContext(ctx)
	group.SetLimit(concurrentCalls)
	for bucket, args := range acks {
		group.Go(func() error {
			_, err := r.client.Run(confirming, r.scripts.expireAck, []string{r.client.Keys().LastSeen(bucket)}, args...)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("remove closed sessions from the list: %w", err)
	}
	return nil
}
