// Package known tells all nodes which viewers were allowed, so that none of them takes one for a stranger whom another node
// knows, also after a restart. It lasts for as long as Redis keeps it, and knows viewers by keyed hashes of 64 bits alone.
//
//	Add ─► a batch ─► stream in Redis ─► each node: onKnown
//
// Invariants:
//   - A node remembers nothing here but what waits to be sent, at most maxPending hashes. What is beyond is not told, and counted.
//   - Redis keeps the newest maxEntries batches. A batch is sent when it is full or has waited for maxDelay, so that a quiet service
//     does not fill them with nothing.
//   - Nobody waits for it. While Redis is unavailable each node goes by what it knows.
//
// Decided: what Redis loses is not written again. It only says who goes first when not all can.
//
// Refused: a question to Redis for each stranger, since a flood would be one of questions. Filters of bits (Bloom) in Redis: every
// node would read all of it again and again, and some of a flood would pass for known.
package known

import (
	"context"
	"embed"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"usher/cluster/redisclient"
)

//go:embed lua/*.lua
var scripts embed.FS

const (
	// batchSize is how many hashes are one entry of the stream, and keySize the size of one.
	batchSize, keySize = 128, 8
	// maxBatches is how many entries one call appends, and pageSize how many it returns.
	maxBatches, pageSize = 16, 256
	// maxEntries bounds the stream to 50 MB.
	maxEntries = 50_000
	// maxPending bounds what waits while Redis is unavailable.
	maxPending = 1 << 16
	// maxDelay is how long a batch that is not full waits, and interval how often a node reads what others appended.
	maxDelay, interval = 15 * time.Second, 5 * time.Second
	// ttl is how long Redis keeps the stream of a service that is not used.
	ttl = 8 * 24 * time.Hour
)

// Sharing exchanges viewers who were allowed with the other nodes. It is safe for concurrent use.
type Sharing struct {
	client  *redisclient.Client
	script  *redisclient.Script
	onKnown func(key uint64, allowed time.Time)
	log     *slog.Logger
	next    string        // the first id that was not read yet; used by Run alone
	wake    chan struct{} // holds one token when a batch is full

	mu      sync.Mutex
	pending []byte // hashes to append
	since   time.Time
	dropped uint64
}

// New returns a sharing that [Sharing.Run] runs. onKnown is called with each viewer whom a node allowed, this one included, and
// when. It must not block.
func New(client *redisclient.Client, onKnown func(key uint64, allowed time.Time), log *slog.Logger) *Sharing {
	return &Sharing{
		client: client, script: redisclient.LoadScript(scripts, "exchange_known"), onKnown: onKnown, log: log, next: "-",
		wake: make(chan struct{}, 1),
	}
}

// Add tells the other nodes soon that a viewer was allowed. It does not block.
func (s *Sharing) Add(key uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch len(s.pending) {
	case maxPending * keySize:
		s.dropped++
		return
	case 0:
		s.since = time.Now()
	}
	s.pending = binary.LittleEndian.AppendUint64(s.pending, key)
	if len(s.pending) >= batchSize*keySize {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Dropped returns how many viewers were not told of, because Redis did not take them.
func (s *Sharing) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Run exchanges viewers until ctx ends.
func (s *Sharing) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		if err := s.exchange(ctx, time.Now()); err != nil && ctx.Err() == nil && !s.client.IsDown() {
			s.log.Debug("known viewers not exchanged", slog.Any("error", err))
		}
		timer.Reset(interval)
	}
}

// exchange sends what is due, and reads all that is new. What could not be sent stays.
func (s *Sharing) exchange(ctx context.Context, now time.Time) error {
	for isMore := true; isMore; {
		if s.client.IsDown() {
			return redisclient.ErrNotSent
		}
		batches, size := s.due(now)
		args := append([]any{s.next, pageSize, maxEntries, ttl.Milliseconds()}, batches...)
		reply, err := s.client.RunDirect(ctx, s.script, []string{s.client.Keys().Shared("known")}, args...)
		if err != nil {
			return fmt.Errorf("exchange known viewers: %w", err)
		}
		s.sent(size)
		isMore = s.read(redisclient.List(reply), now) == pageSize || len(batches) == maxBatches
	}
	return nil
}

// due returns what is to be sent now, and its size.
func (s *Sharing) due(now time.Time) (batches []any, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(batches) < maxBatches {
		batch := s.pending[size:min(len(s.pending), size+batchSize*keySize)]
		if len(batch) == 0 || len(batch) < batchSize*keySize && now.Sub(s.since) < maxDelay {
			break
		}
		batches, size = append(batches, string(batch)), size+len(batch)
	}
	return batches, size
}

// sent forgets what was sent.
func (s *Sharing) sent(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending = s.pending[size:]; len(s.pending) == 0 {
		s.pending = nil
	}
}

// read tells of the viewers of a reply, and returns how many entries it had.
func (s *Sharing) read(reply []any, now time.Time) (entries int) {
	const fields = 2
	if len(reply) < fields {
		return 0
	}
	clock, found := redisclient.Int(reply[0]), redisclient.List(reply[1])
	for i := 0; i+1 < len(found); i += fields {
		id, keys := redisclient.Text(found[i]), []byte(redisclient.Text(found[i+1]))
		at, next, isID := after(id)
		if !isID {
			continue
		}
		s.next = next
		allowed := now.Add(-redisclient.Duration(max(0, clock-at)))
		for ; len(keys) >= keySize; keys = keys[keySize:] {
			s.onKnown(binary.LittleEndian.Uint64(keys), allowed)
		}
	}
	return len(found) / fields
}

// after returns when the entry of an id was appended, in ms of Redis' clock, and the id that follows it.
func after(id string) (ms int64, next string, isID bool) {
	left, right, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(left, 10, 64)
	n, err2 := strconv.ParseUint(right, 10, 64)
	if err != nil || err2 != nil || n+1 == 0 {
		return 0, "", false
	}
	return ms, left + "-" + strconv.FormatUint(n+1, 10), true
}
