// Package matches keeps in Redis which tickets belong to viewers who show none: an edge that asks about each request reports the
// viewer's address and player of a segment, and nothing else that tells the viewer. So any node answers what one node has seen, and
// the same node does after a restart.
//
//	Add ─► Redis, by a keyed hash ─► Find, on any node
//	   └► what waits for Redis ─┘
//
// A ticket stays what it is anywhere: it says which session and since when, and a ban, a kick or its age end it.
//
// Invariants:
//   - After Redis lost its data each node adds again what its viewers ask for: see LostAt. Of a Redis Cluster that loses other hash slots
//     alone nobody notices, and what was there is added again when it is to be kept for longer.
//   - A node remembers nothing here but what waits to be sent, at most maxPending tickets. What is beyond is dropped and counted, and
//     added again when the ticket is to be kept for longer.
//   - Add returns once Redis has the ticket, since a player asks for its segments at once, of any node. While Redis is unavailable it
//     waits for nothing, and Find fails.
//   - Redis sees keyed hashes and encrypted tickets. It keeps a ticket for ttl, and ticketsPerKey under one hash.
//   - Of two tickets of a session the one that was opened later stays, in whatever order they reach Redis, because the other is worth
//     nothing.
//   - Find returns also beside an error what could be found: in a Redis Cluster a viewer's keys lie on several servers.
//
// Refused: to keep the sessions' ids alone. A session that Redis has lost then has no proof that it was ever opened, which a ticket is.
package matches

import (
	"cmp"
	"context"
	"embed"
	"encoding/base64"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"usher/backends"
	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

const (
	// ttl is how long Redis keeps a ticket that is not added again.
	ttl = 30 * time.Minute
	// ticketsPerKey is how many are kept under one key.
	ticketsPerKey = 8
	// maxPending bounds what waits to be sent, to some 20 MB.
	maxPending = 1 << 16
	// batchSize is how many tickets are sent at once, which share pipelines.
	batchSize = 64
	// retryInterval is after what time those that could not be sent are sent again.
	retryInterval = time.Second
)

// Sharing is the tickets in Redis. It is safe for concurrent use.
type Sharing struct {
	client      *redisclient.Client
	cipher      *redisclient.Cipher
	store, find *redisclient.Script
	log         *slog.Logger
	lost        atomic.Int64 // when Redis was found to have lost what it had, in Unix ns; 0: never

	mu      sync.Mutex
	pending map[place]ticket // the newest that waits to be sent
	dropped uint64
}

// place is where a session's ticket is kept.
type place struct {
	key     [16]byte // a keyed hash of what requests of a viewer have in common, the same on all nodes
	session backends.SessionID
}

// ticket is a session's, as its viewer would show it.
type ticket struct {
	text   string
	opened int64 // when it was, in Unix seconds
}

// match is a ticket and its place.
type match struct {
	place
	ticket
}

// New returns a sharing that [Sharing.Run] runs.
func New(client *redisclient.Client, cipher *redisclient.Cipher, log *slog.Logger) *Sharing {
	return &Sharing{
		client: client, cipher: cipher, log: log, pending: make(map[place]ticket),
		store: redisclient.LoadSessionScript(scripts, "store_match"), find: redisclient.LoadSessionScript(scripts, "find_match"),
	}
}

// Add keeps the ticket of a session under each of the keys, in place of one that was opened earlier. What Redis does not take in time
// waits to be sent later.
func (s *Sharing) Add(ctx context.Context, keys [][16]byte, session backends.SessionID, opened time.Time, text string) {
	failed := make([]match, len(keys))
	for i, key := range keys {
		failed[i] = match{place{key, session}, ticket{text, opened.Unix()}}
	}
	if !s.client.IsDown() {
		failed, _ = s.send(ctx, failed)
	}
	s.keep(failed)
}

// Lose notes that Redis has lost what it had.
func (s *Sharing) Lose(now time.Time) { s.lost.Store(now.UnixNano()) }

// LostAt returns when Redis was found to have lost what it had. What was added before is to be added again. Zero: never.
func (s *Sharing) LostAt() (at time.Time) {
	if lost := s.lost.Load(); lost != 0 {
		at = time.Unix(0, lost)
	}
	return at
}

// Dropped returns how many tickets were not kept, because Redis did not take them.
func (s *Sharing) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Find returns the tickets under each of the keys, the one used last first. The error says that Redis did not answer about some of them.
func (s *Sharing) Find(ctx context.Context, keys [][16]byte) ([][]string, error) {
	tickets := make([][]string, len(keys))
	var group errgroup.Group
	for i, key := range keys {
		group.Go(func() (err error) {
			tickets[i], err = s.findOne(ctx, key)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return tickets, fmt.Errorf("find the tickets of a viewer: %w", err)
	}
	return tickets, nil
}

func (s *Sharing) findOne(ctx context.Context, key [16]byte) ([]string, error) {
	reply, err := s.client.Run(ctx, s.find, []string{s.name(key)}, ttl.Milliseconds())
	if err != nil {
		return nil, err
	}
	type used struct {
		at     int64
		ticket string
	}
	const fields = 2
	var found []used
	for raw := redisclient.List(reply); len(raw) >= fields; raw = raw[fields:] {
		plain, err := s.cipher.Decrypt([]byte(redisclient.Text(raw[1])), purpose(key))
		if err == nil { // of a key that this node lacks: as if it were not there
			found = append(found, used{redisclient.Int(raw[0]), string(plain)})
		}
	}
	slices.SortStableFunc(found, func(a, b used) int { return cmp.Compare(b.at, a.at) })
	tickets := make([]string, len(found))
	for i := range found {
		tickets[i] = found[i].ticket
	}
	return tickets, nil
}

func (s *Sharing) name(key [16]byte) string {
	return s.client.Keys().Match(base64.RawURLEncoding.EncodeToString(key[:]))
}

func purpose(key [16]byte) string { return "match " + string(key[:]) }

// Run sends what waits until ctx ends.
func (s *Sharing) Run(ctx context.Context) {
	retry := time.NewTicker(retryInterval)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
		if err := s.sendAll(ctx); err != nil && ctx.Err() == nil && !s.client.IsDown() {
			s.log.Debug("tickets of viewers at edges not kept", slog.Any("error", err))
		}
	}
}

// sendAll sends what waits, until that fails. What could not be sent waits on.
func (s *Sharing) sendAll(ctx context.Context) error {
	for !s.client.IsDown() {
		batch := s.take()
		if len(batch) == 0 {
			return nil
		}
		if failed, err := s.send(ctx, batch); err != nil {
			s.keep(failed)
			return err
		}
	}
	return nil
}

// send sends tickets at once, and returns those that Redis did not take.
func (s *Sharing) send(ctx context.Context, all []match) (failed []match, err error) {
	var sending errgroup.Group
	hasFailed := make([]bool, len(all))
	for i, m := range all {
		sending.Go(func() error {
			encrypted := s.cipher.Encrypt([]byte(m.text), purpose(m.key))
			_, err := s.client.Run(ctx, s.store, []string{s.name(m.key)}, m.session[:], encrypted, m.opened, ttl.Milliseconds(), ticketsPerKey)
			hasFailed[i] = err != nil
			return err
		})
	}
	if err = sending.Wait(); err == nil {
		return nil, nil
	}
	for i, m := range all {
		if hasFailed[i] {
			failed = append(failed, m)
		}
	}
	return failed, err
}

// take returns some of what waits, which then does not wait.
func (s *Sharing) take() (batch []match) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, waiting := range s.pending {
		if len(batch) == batchSize {
			break
		}
		batch = append(batch, match{at, waiting})
		delete(s.pending, at)
	}
	return batch
}

// keep has tickets wait that could not be sent.
func (s *Sharing) keep(failed []match) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range failed {
		switch waiting, isWaiting := s.pending[m.place]; {
		case !isWaiting && len(s.pending) >= maxPending:
			s.dropped++
		case waiting.opened <= m.opened:
			s.pending[m.place] = m.ticket
		}
	}
}
