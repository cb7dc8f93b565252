package cluster

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"usher/actors/session"
)

const (
	// keptRevocations is how many revocations the stream keeps, about: an hour of a busy cluster, some 30 MB. A node that
	// missed more looks at all its sessions instead.
	keptRevocations = 100_000
	// seenRevocations is how many names are remembered at least, so that what comes twice is applied once.
	seenRevocations = keptRevocations
	// heldRevocations is how many revocations a node holds back while Redis is away; the oldest go first.
	heldRevocations = 10_000
	// reissuedFor is for how long a node can issue its revocations again, if Redis lost them in a failover or a flush.
	reissuedFor = 5 * time.Minute
	// replayOverlap is how far before the last known revocation a replay begins: a new master's clock may be behind.
	replayOverlap = 10 * time.Second
	// replayPage is how many revocations one call reads, so that it takes Redis less than a few milliseconds.
	replayPage = 1000
	// sentAtOnce is how many revocations one call writes, for the same reason.
	sentAtOnce = 100
)

// issued is a revocation of this node's.
type issued struct {
	name       string
	revocation session.Revocation
	at         time.Time
}

// revocations hears, issues and replays what every node has to know at once. It is safe for concurrent use.
type revocations struct {
	wire   *wire
	clock  *redisClock
	apply  func(session.Revocation)
	reread func()
	// missed asks for a replay soon.
	missed func()
	// lost is told what this node issued lately when Redis lost what was shared.
	lost func(lately []issued)
	log  *slog.Logger
	keep time.Duration

	mu sync.Mutex
	// at is up to where nothing was missed. assumed: it was not told, but follows from when this node started.
	at      place
	assumed bool
	epoch   string
	contact time.Time // when the stream was last known to be whole
	seen    seenNames
	held    []issued // not written yet
	recent  []issued // written lately
	dropped int
	foreign bool // told of a message that this version does not know
}

// issue applies a revocation here and tells the others. If Redis is away, the others are told on its return.
func (r *revocations) issue(ctx context.Context, revocation session.Revocation) error {
	one := issued{name: newName(), revocation: revocation, at: time.Now()}
	r.mu.Lock()
	r.seen.add(one.name)
	r.mu.Unlock()
	r.apply(revocation)

	err := r.send(ctx, r.wire.call, []issued{one})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.remember(one)
		return nil
	}
	r.hold(one)
	return err
}

func (r *revocations) send(ctx context.Context, call caller, batch []issued) error {
	args := make([]any, 0, 3+len(batch))
	args = append(args, r.wire.keys.revoked(), keptRevocations, r.keep.Milliseconds())
	now := time.Now()
	for _, one := range batch {
		args = append(args, encodeRevocation(r.wire.seal, one.name, one.revocation, now))
	}
	_, err := call(ctx, r.wire.scripts.revoke,
		[]string{r.wire.keys.common("revocations"), r.wire.keys.common("state")}, args...)
	return err
}

func (r *revocations) hold(batch ...issued) {
	r.held = append(r.held, batch...)
	if over := len(r.held) - heldRevocations; over > 0 {
		r.dropped += over
		r.held = append([]issued(nil), r.held[over:]...)
	}
}

func (r *revocations) remember(batch ...issued) {
	r.recent = append(r.recent, batch...)
	drop := max(0, len(r.recent)-heldRevocations)
	for drop < len(r.recent) && time.Since(r.recent[drop].at) > reissuedFor {
		drop++
	}
	if drop > 0 {
		r.recent = append([]issued(nil), r.recent[drop:]...)
	}
}

// sendHeld writes what was held back. What fails is held again.
func (r *revocations) sendHeld(ctx context.Context) {
	r.mu.Lock()
	held, dropped := r.held, r.dropped
	r.held, r.dropped = nil, 0
	r.mu.Unlock()
	if dropped > 0 {
		r.log.Warn("revocations were lost to the other nodes: too many while Redis was away",
			slog.Int("lost", dropped), slog.Int("most", heldRevocations))
	}
	for len(held) > 0 {
		batch := held[:min(sentAtOnce, len(held))]
		err := r.send(ctx, r.wire.direct, batch)
		r.mu.Lock()
		if err != nil {
			r.held, held = append(held, r.held...), nil
			r.hold()
		} else {
			r.remember(batch...)
			held = held[len(batch):]
		}
		r.mu.Unlock()
	}
}

// hear takes a message of the channel: "previous-place place payload".
func (r *revocations) hear(message string) {
	before, rest, _ := strings.Cut(message, " ")
	at, payload, _ := strings.Cut(rest, " ")
	previous, ok := parsePlace(before)
	here, okHere := parsePlace(at)
	if !ok || !okHere {
		r.tellForeign(errForeign)
		return
	}
	r.mu.Lock()
	// Either something came before it that this node has not heard of, or what it heard of last is not there any more.
	gap := previous.after(r.at) || !r.assumed && r.at.after(previous) && here.after(r.at)
	if !gap && here.after(r.at) {
		r.at, r.assumed, r.contact = here, false, time.Now()
	}
	r.mu.Unlock()
	r.take(here, payload)
	if gap {
		r.missed()
	}
}

// take applies a revocation, unless it was applied before.
func (r *revocations) take(at place, payload string) bool {
	name, revocation, err := decodeRevocation(r.wire.seal, []byte(payload), r.clock.age(at), time.Now())
	if err != nil {
		r.tellForeign(err)
		return false
	}
	r.mu.Lock()
	fresh := r.seen.add(name)
	r.mu.Unlock()
	if fresh {
		r.apply(revocation)
	}
	return fresh
}

func (r *revocations) tellForeign(err error) {
	r.mu.Lock()
	told := r.foreign
	r.foreign = true
	r.mu.Unlock()
	if !told {
		r.log.Warn("a revocation was not understood: is a node of another version, or with other cluster.encryption_keys, about?",
			slog.Any("error", err))
	}
}

// behind notes where the stream ends, as a pulse says, and reports whether something in it was missed.
func (r *revocations) behind(p pulse, started time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch == "" { // the first pulse: what came before this node started does not concern it
		r.epoch, r.assumed = p.epoch, true
		r.at = place{ms: uint64(max(0, p.ms))}.earlier(time.Since(started))
	}
	if p.epoch == r.epoch && !p.last.after(r.at) && (r.assumed || p.last == r.at) {
		r.contact = time.Now()
		return false
	}
	return true
}

// seenNames remembers the newest names, at least seenRevocations of them. Its zero value knows none.
type seenNames struct{ young, old map[string]struct{} }

// add reports whether the name is new.
func (s *seenNames) add(name string) bool {
	if _, found := s.young[name]; found {
		return false
	}
	_, found := s.old[name]
	if len(s.young) >= seenRevocations || s.young == nil {
		s.old, s.young = s.young, make(map[string]struct{})
	}
	s.young[name] = struct{}{}
	return !found
}
