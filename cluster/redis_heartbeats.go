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
// round trips, mostly one.
func (r *Redis) ExpireIdle(ctx context.Context, idle time.Duration, limit int) (closed []session.ClosingRecord, err error) {
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
	if err != nil {
		return closed, err // the scan returns again what is not closed yet
	}
	if _, err := r.client.Run(ctx, r.scripts.expireAck, key, acks...); err != nil {
		return closed, fmt.Errorf("remove closed sessions from the list: %w", err)
	}
	return closed, nil
}

// closeAll closes the sessions that a scan found, and returns the arguments of expire_ack.lua.
func (r *Redis) closeAll(ctx context.Context, found []any) (closed []session.ClosingRecord, acks []any, err error) {
	results := make([]*session.ClosingRecord, len(found))
	acks = make([]any, 2*len(found))
	group, closing := errgroup.WithContext(ctx)
	group.SetLimit(concurrentCalls)
	for i, one := range found {
		f := redisclient.List(one)
		if len(f) != 3 {
			err = fmt.Errorf("BUG: script expire_scan returned %v", one)
			break
		}
		acks[2*i], acks[2*i+1] = f[0], f[2]
		group.Go(func() error {
			var err error
			results[i], err = r.endPeriod(closing, f[0], time.Duration(redisclient.Int(f[1]))*time.Millisecond)
			return err
		})
	}
	err = errors.Join(err, group.Wait())
	for _, c := range results {
		if c != nil {
			closed = append(closed, *c)
		}
	}
	return closed, acks, err
}

// endPeriod ends the current period of a session. It returns nil if that was done before.
func (r *Redis) endPeriod(ctx context.Context, raw any, idleFor time.Duration) (*session.ClosingRecord, error) {
	id, ok := parseRawID(raw)
	if !ok {
		return nil, nil // not a session's id
	}
	f, err := r.client.RunWithExpiry(ctx, r.scripts.closeSession, r.sessionKey(id), recordVersion, r.sessionTTL.Milliseconds())
	if err != nil {
		return nil, fmt.Errorf("close session %s: %w", id, err)
	}
	if redisclient.Text(f[1]) == "before" {
		return nil, nil
	}
	if len(f) != 12 {
		return nil, fmt.Errorf("BUG: script close_session returned %d fields", len(f))
	}
	now := time.Now()
	record, _ := r.parseRecord(id, f[2:7], now)
	c := &session.ClosingRecord{Record: record, LastSeen: now.Add(-idleFor), Counters: session.Counters{
		Requests: redisclient.Int(f[8]), Bytes: redisclient.Int(f[9]),
		Unverified: time.Duration(redisclient.Int(f[10])) * time.Millisecond, History: redisclient.Text(f[11]),
	}}
	c.Since = c.LastSeen
	if age := redisclient.Int(f[7]); age >= 0 {
		c.Since = now.Add(-time.Duration(age) * time.Millisecond)
	}
	if c.Since.After(c.LastSeen) {
		c.Since = c.LastSeen // it was seen only in the moment when the period began
	}
	return c, nil
}
