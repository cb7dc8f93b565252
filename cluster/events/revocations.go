package events

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

const (
	// maxStreamLength is about how many revocations the stream keeps: an hour of a busy cluster, some 30 MB. A node that
	// missed more rechecks all its sessions instead.
	maxStreamLength = 100_000
	// minSeenIDs is how many ids a node remembers at least, so that it applies a revocation that arrives twice once.
	minSeenIDs = maxStreamLength
	// maxQueued is how many revocations a node queues while Redis is unavailable; it drops the oldest.
	maxQueued = 10_000
	// reissueWindow is for how long a node can issue its revocations again, if Redis lost them in a failover or a flush.
	reissueWindow = 5 * time.Minute
	// maxPerCall is how many revocations one call writes, so that it takes Redis less than a few milliseconds.
	maxPerCall = 100
)

// Issued is a revocation that this node issued.
type Issued struct {
	ID         string
	Revocation session.Revocation
	At         time.Time
}

// revocationStream publishes, receives and replays revocations. It is safe for concurrent use.
type revocationStream struct {
	client    *redisclient.Client
	cipher    *redisclient.Cipher
	clock     *redisclient.Clock
	retention time.Duration
	log       *slog.Logger

	onRevocation func(session.Revocation)
	// onReceived is told, before onRevocation, how long ago the revocation was issued; nil: nobody is.
	onReceived func(v session.Revocation, delay time.Duration)
	recheckAll func()
	// requestReplay asks for a replay soon. It does not block.
	requestReplay func()
	// onStateLost is called when Redis lost the shared state, with what this node issued lately.
	onStateLost func(recent []Issued)

	publishScript, readScript *redisclient.Script

	mu sync.Mutex
	// position is the id up to which nothing was missed. isAssumed: it is not from a message but from when the node
	// started.
	position  streamID
	isAssumed bool
	epoch     string
	// lastSent is the id of the last revocation that this node published.
	lastSent streamID
	// lastCurrent is when the node last knew that it had missed nothing.
	lastCurrent time.Time
	seen        seenIDs
	queued      []Issued // not written yet
	recent      []Issued // written lately
	dropped     int
	// allDropped is how many were dropped since the start.
	allDropped atomic.Uint64
	// hasLoggedUnknown: a message that this version does not know was logged.
	hasLoggedUnknown bool
}

// publish applies a revocation here and sends it to the other nodes. If Redis is unavailable it is queued, and the error
// says so.
func (s *revocationStream) publish(ctx context.Context, revocation session.Revocation) error {
	issued := Issued{ID: NewID(), Revocation: revocation, At: time.Now()}
	s.mu.Lock()
	s.seen.add(issued.ID)
	s.mu.Unlock()
	s.onRevocation(revocation)

	err := s.send(ctx, s.client.Run, []Issued{issued})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.remember(issued)
		return nil
	}
	s.queue(issued)
	return err
}

func (s *revocationStream) send(ctx context.Context, run runScript, batch []Issued) error {
	k := s.client.Keys()
	args := make([]any, 0, 3+len(batch))
	args = append(args, k.RevocationChannel(), maxStreamLength, s.retention.Milliseconds())
	now := time.Now()
	for _, issued := range batch {
		args = append(args, encodeIssued(s.cipher, issued, now))
	}
	reply, err := run(ctx, s.publishScript, []string{k.Shared("revocations"), k.Shared("state")}, args...)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := parseStreamID(redisclient.Text(reply)); ok && last.isAfter(s.lastSent) {
		s.lastSent = last
	}
	return nil
}

// queue keeps revocations until they can be sent. The caller holds the lock.
func (s *revocationStream) queue(batch ...Issued) {
	s.queued = append(s.queued, batch...)
	if excess := len(s.queued) - maxQueued; excess > 0 {
		s.dropped += excess
		s.allDropped.Add(uint64(excess))
		s.queued = append([]Issued(nil), s.queued[excess:]...)
	}
}

// remember keeps revocations so that they can be issued again, and forgets old ones. The caller holds the lock.
func (s *revocationStream) remember(batch ...Issued) {
	s.recent = append(s.recent, batch...)
	drop := max(0, len(s.recent)-maxQueued)
	for drop < len(s.recent) && time.Since(s.recent[drop].At) > reissueWindow {
		drop++
	}
	if drop > 0 {
		s.recent = append([]Issued(nil), s.recent[drop:]...)
	}
}

// sendQueued sends what was queued. What fails is queued again.
func (s *revocationStream) sendQueued(ctx context.Context) {
	s.mu.Lock()
	queued, dropped := s.queued, s.dropped
	s.queued, s.dropped = nil, 0
	s.mu.Unlock()
	if dropped > 0 {
		s.log.Warn("revocations dropped, too many while redis was unavailable",
			slog.Int("dropped", dropped), slog.Int("max", maxQueued))
	}
	for len(queued) > 0 {
		batch := queued[:min(maxPerCall, len(queued))]
		err := s.send(ctx, s.client.RunDirect, batch)
		s.mu.Lock()
		if err != nil {
			s.queued, queued = append(queued, s.queued...), nil
			s.queue()
		} else {
			s.remember(batch...)
			queued = queued[len(batch):]
		}
		s.mu.Unlock()
	}
}

// onMessage receives a message of the channel: "previous-id id payload".
func (s *revocationStream) onMessage(message string) {
	previousText, rest, _ := strings.Cut(message, " ")
	idText, payload, _ := strings.Cut(rest, " ")
	previous, okPrevious := parseStreamID(previousText)
	id, ok := parseStreamID(idText)
	if !okPrevious || !ok {
		s.logUnknown(errUnknownMessage)
		return
	}
	s.mu.Lock()
	// Either an entry before this one did not arrive, or the last one that arrived is no longer in the stream.
	hasGap := previous.isAfter(s.position) || !s.isAssumed && s.position.isAfter(previous) && id.isAfter(s.position)
	if !hasGap && id.isAfter(s.position) {
		s.position, s.isAssumed, s.lastCurrent = id, false, time.Now()
	}
	s.mu.Unlock()
	s.receive(id, payload)
	if hasGap {
		s.requestReplay()
	}
}

// receive applies a revocation unless it was applied before.
func (s *revocationStream) receive(id streamID, payload string) (isNew bool) {
	age := id.age(s.clock)
	message, revocation, err := decodeRevocation(s.cipher, []byte(payload), age, time.Now())
	if err != nil {
		s.logUnknown(err)
		return false
	}
	s.mu.Lock()
	isNew = s.seen.add(message.ID)
	s.mu.Unlock()
	if !isNew {
		return false
	}
	if s.onReceived != nil {
		s.onReceived(revocation, age+max(0, redisclient.Duration(message.Waited)))
	}
	s.onRevocation(revocation)
	return true
}

func (s *revocationStream) logUnknown(err error) {
	s.mu.Lock()
	hasLogged := s.hasLoggedUnknown
	s.hasLoggedUnknown = true
	s.mu.Unlock()
	if !hasLogged {
		s.log.Warn("revocation unreadable, check that all nodes have the same version and cluster.encryption_keys", slog.Any("error", err))
	}
}

// isBehind takes the end of the stream from a heartbeat, and reports whether the node missed something.
func (s *revocationStream) isBehind(r heartbeatReply, started time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == "" { // the first heartbeat: what was revoked before the node started does not concern it
		s.epoch, s.isAssumed = r.epoch, true
		s.position = streamID{ms: uint64(max(0, r.ms))}.minus(time.Since(started))
		// What this node published before that heartbeat must still be there, or Redis has lost its data since.
		if s.lastSent.isAfter(s.position) && !s.lastSent.minus(replayOverlap).isAfter(s.position) {
			s.position, s.isAssumed = s.lastSent, false
		}
	}
	if r.epoch == s.epoch && !r.lastRevocation.isAfter(s.position) && (s.isAssumed || r.lastRevocation == s.position) {
		s.lastCurrent = time.Now()
		return false
	}
	return true
}

// seenIDs remembers the newest ids, at least minSeenIDs of them. Its zero value is empty.
type seenIDs struct{ newer, older map[string]struct{} }

// add reports whether the id is new.
func (s *seenIDs) add(id string) bool {
	if _, found := s.newer[id]; found {
		return false
	}
	_, found := s.older[id]
	if len(s.newer) >= minSeenIDs || s.newer == nil {
		s.older, s.newer = s.newer, make(map[string]struct{})
	}
	s.newer[id] = struct{}{}
	return !found
}
