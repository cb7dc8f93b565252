package events

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"usher/cluster/redisclient"
)

const (
	// replayOverlap is how far before the last known revocation a replay begins: the clock of a new master may be behind.
	replayOverlap = 10 * time.Second
	// replayPageSize is how many revocations one call reads, so that it takes Redis less than a few milliseconds.
	replayPageSize = 1000
)

// streamPage is a part of the stream of revocations.
type streamPage struct {
	ms    int64 // Redis' clock
	epoch string
	// last is the id of the stream's last revocation.
	last streamID
	// trimmedTo is the id before the oldest revocation that is kept: those up to it are lost.
	trimmedTo streamID
	entries   []streamEntry
}

type streamEntry struct {
	id      streamID
	payload string
}

// replay applies the revocations that this node missed. Revocations that were trimmed are logged, and all sessions
// rechecked.
func (s *revocationStream) replay(ctx context.Context) error {
	s.mu.Lock()
	position, epoch, isAssumed := s.position, s.epoch, s.isAssumed
	s.mu.Unlock()

	from := position.minus(replayOverlap)
	page, err := s.read(ctx, from)
	if err != nil {
		return err
	}
	if page.epoch == "" { // Redis lost everything after the last heartbeat; the next one begins an epoch
		s.requestReplay()
		return nil
	}
	isConsistent := isAssumed || page.endsAt(position)
	switch {
	case page.epoch != epoch || !isAssumed && position.isAfter(page.last):
		isConsistent = true
		s.restart(page.epoch)
		if page, err = s.read(ctx, streamID{}); err != nil {
			return err
		}
	case page.trimmedTo.isAfter(position):
		s.log.Warn("revocations missed, rechecking all sessions")
		s.recheckAll()
	}
	page, isFound, err := s.applyFrom(ctx, page, from, position)
	if err != nil {
		return err
	}
	if !isConsistent && !isFound {
		s.restart(page.epoch) // a replica took over that did not have it, and other nodes have written more since
	}
	s.markCurrent(page)
	return nil
}

// endsAt reports whether the page shows by itself that the stream has the node's last revocation, or had it before it was
// trimmed or expired. Otherwise the entries must have it.
func (p streamPage) endsAt(position streamID) bool {
	return position == streamID{} || position == p.last || !position.isAfter(p.trimmedTo)
}

// applyFrom applies a page of the stream and all that follow, and returns the last one. isFound: an entry has the id that
// was sought.
func (s *revocationStream) applyFrom(
	ctx context.Context, page streamPage, from, sought streamID,
) (last streamPage, isFound bool, err error) {
	applied := 0
	for {
		for _, e := range page.entries {
			from = e.id.next()
			isFound = isFound || e.id == sought
			if s.receive(e.id, e.payload) {
				applied++
			}
		}
		if len(page.entries) < replayPageSize {
			break
		}
		if page, err = s.read(ctx, from); err != nil {
			return page, isFound, err
		}
	}
	if applied > 0 {
		s.log.Info("missed revocations applied", slog.Int("applied", applied))
	}
	return page, isFound, nil
}

// restart begins anew with another stream: Redis was flushed, or a replica took over that lacked some revocations. This
// node issues its recent revocations again, and so do the others. A node that was disconnected for longer than that
// rechecks all its sessions.
func (s *revocationStream) restart(epoch string) {
	s.mu.Lock()
	s.remember() // drops what is too old
	s.queued, s.recent = append(s.recent, s.queued...), nil
	s.position, s.isAssumed, s.epoch = streamID{}, true, epoch
	reissued, wasDisconnected := slices.Clone(s.queued), time.Since(s.lastCurrent) > reissueWindow
	s.mu.Unlock()
	s.onStateLost(reissued)
	s.log.Info("redis lost shared state, restoring this node's part", slog.Int("revocations", len(reissued)))
	if wasDisconnected {
		s.recheckAll()
	}
}

// markCurrent records that everything up to the page's end was applied.
func (s *revocationStream) markCurrent(page streamPage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := page.last
	if n := len(page.entries); n > 0 && page.entries[n-1].id.isAfter(end) {
		end = page.entries[n-1].id
	}
	if end.isAfter(s.position) {
		s.position, s.isAssumed = end, false
	}
	s.lastCurrent = time.Now()
}

func (s *revocationStream) read(ctx context.Context, from streamID) (streamPage, error) {
	sentAt, k := time.Now(), s.client.Keys()
	reply, err := s.client.RunDirect(ctx, s.readScript,
		[]string{k.Shared("revocations"), k.Shared("state")}, from.String(), replayPageSize)
	if err != nil {
		return streamPage{}, err
	}
	page, err := parsePage(reply)
	if err != nil {
		return streamPage{}, fmt.Errorf("replay revocations: %w", err)
	}
	s.clock.Set(page.ms, sentAt)
	return page, nil
}

// parsePage reads the reply of read_revocations.lua.
func parsePage(reply any) (streamPage, error) {
	fields := redisclient.List(reply)
	if len(fields) != 5 {
		return streamPage{}, fmt.Errorf("BUG: script read_revocations returned %d fields", len(fields))
	}
	page := streamPage{ms: redisclient.Int(fields[0]), epoch: redisclient.Text(fields[1])}
	page.last, _ = parseStreamID(redisclient.Text(fields[2]))
	page.trimmedTo, _ = parseStreamID(redisclient.Text(fields[3]))
	for _, entry := range redisclient.List(fields[4]) {
		pair := redisclient.List(entry)
		if len(pair) != 2 {
			continue
		}
		id, ok := parseStreamID(redisclient.Text(pair[0]))
		if ok {
			page.entries = append(page.entries, streamEntry{id, redisclient.Text(pair[1])})
		}
	}
	return page, nil
}
