package limits

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

// nodeStore is a node's view of a store that all nodes share.
type nodeStore struct {
	*fakeStore
	isDown bool
	// isUnaware: the node has not noticed that, as it is short.
	isUnaware bool
	// upSince is since when the node reaches the store, as far as it has noticed.
	upSince time.Time
	// lose says whether a call is lost, and whether its answer is.
	lose func() (isLost, isAnswerLost bool)
}

func (n *nodeStore) clock(string) (now, upSince int64, isKnown bool) {
	return time.Now().UnixMilli(), n.upSince.UnixMilli(), true
}

func (n *nodeStore) swap(name, was string, to versioned, ttl time.Duration, isExceeded bool) (versioned, bool, error) {
	if n.isDown && n.isUnaware {
		return versioned{}, false, errLost
	} else if n.isDown {
		return versioned{}, false, redisclient.ErrNotSent
	}
	isLost, isAnswerLost := n.lose()
	if isLost {
		return versioned{}, false, errLost
	}
	current, isStored, err := n.fakeStore.swap(name, was, to, ttl, isExceeded)
	if isAnswerLost {
		return versioned{}, false, errLost
	}
	return current, isStored, err
}

// outageRecord is what all nodes, or one node alone, know of a viewer's session.
type outageRecord struct {
	opened    time.Time
	isEvicted bool
}

// outageSession is a session on a node.
type outageSession struct {
	opened, lastSeen, deniedUntil time.Time
	isPlaying                     bool
}

// outageNode is a node as package actors has it, as far as stream limits go.
type outageNode struct {
	*outageRig
	limits   *shared
	store    *nodeStore
	sessions map[int]*outageSession
	records  map[int]outageRecord // while the store is unavailable
	reportAt time.Time
	isLocal  bool // the store did not count the last report
}

// outageRig is viewers of one user who never stop, each on a node of their own or on all in turn.
type outageRig struct {
	rules   session.LimitRules
	records map[int]outageRecord
	nodes   []*outageNode
	most    int
	homes   []int // of the viewers; -1: all nodes
	// played is when each viewer was last served, admitted how often a session of theirs was let play.
	played   map[int]time.Time
	admitted map[int]int
}

const denialTTL = 15 * time.Second

func (n *outageNode) start() {
	n.limits = newTestShared(n.store, n.rules.Policy)
	n.store.upSince = time.Now()
	n.sessions, n.records = map[int]*outageSession{}, map[int]outageRecord{}
}

func (n *outageNode) limit(entries ...session.StreamEntry) session.LimitResult {
	return n.limits.apply(context.Background(), "ann", newReports(entries))
}

func (n *outageNode) record(v int) (r outageRecord, isKnown bool) {
	if n.store.isDown {
		r, isKnown = n.records[v]
	} else {
		r, isKnown = n.outageRig.records[v]
	}
	return r, isKnown
}

func (n *outageNode) save(v int, r outageRecord) {
	if n.store.isDown {
		n.records[v] = r
	} else {
		n.outageRig.records[v] = r
	}
}

func (n *outageNode) entry(v int, s *outageSession) session.StreamEntry {
	return session.StreamEntry{
		User: "ann", Session: idOf(v), Opened: s.opened, LastSeen: s.lastSeen, IsPlaying: s.isPlaying,
		ZapTimeout: 6 * time.Second, MaxStreams: n.most,
	}
}

// ask has a viewer ask for something.
func (n *outageNode) ask(v int) {
	now, s := time.Now(), n.sessions[v]
	switch {
	case s == nil || !s.deniedUntil.IsZero() && !now.Before(s.deniedUntil):
		if s = n.open(v); s == nil {
			return
		}
		n.admitted[v]++
	case !s.deniedUntil.IsZero():
		return
	}
	n.played[v], s.lastSeen = now, now
	if !s.isPlaying {
		s.isPlaying, n.reportAt = true, now
	}
}

// open opens a session, or denies it.
func (n *outageNode) open(v int) *outageSession {
	now := time.Now()
	s := &outageSession{opened: now, lastSeen: now}
	r, isKnown := n.record(v)
	if isKnown {
		s.opened = r.opened
	}
	n.sessions[v] = s
	if isKnown && !r.isEvicted {
		return s
	}
	e := n.entry(v, s)
	e.IsNew = true
	got := n.limit(e)
	n.applyResult(got)
	isEvicted := got.States[0] == session.StreamEvicted
	n.save(v, outageRecord{s.opened, isEvicted})
	if isEvicted {
		s.deniedUntil = now.Add(denialTTL)
		return nil
	}
	return s
}

func (n *outageNode) applyResult(got session.LimitResult) {
	n.isLocal = got.IsLocal
	for _, e := range got.Evicted {
		v := int(e.Session[0])
		if r, isKnown := n.record(v); isKnown {
			n.save(v, outageRecord{r.opened, true})
		}
		n.deny(v)
		if !got.IsLocal {
			n.announce(e)
		}
	}
	if got.RecheckIn > 0 {
		if at := time.Now().Add(got.RecheckIn); at.Before(n.reportAt) {
			n.reportAt = at
		}
	}
}

func (n *outageNode) announce(e session.EvictedStream) {
	for _, other := range n.nodes {
		if s := other.sessions[int(e.Session[0])]; s != nil && !s.opened.Truncate(time.Second).After(e.Opened) {
			other.deny(int(e.Session[0]))
		}
	}
}

func (n *outageNode) deny(v int) {
	if s := n.sessions[v]; s != nil {
		s.deniedUntil = time.Now().Add(denialTTL)
	}
}

// report reports the sessions that play, if it is time to.
func (n *outageNode) report() {
	now := time.Now()
	if now.Before(n.reportAt) {
		return
	}
	n.reportAt = now.Add(n.rules.HeartbeatInterval)
	var entries []session.StreamEntry
	var viewers []int
	for v := range n.homes {
		if s := n.sessions[v]; s != nil && s.deniedUntil.IsZero() {
			entries, viewers = append(entries, n.entry(v, s)), append(viewers, v)
		}
	}
	if len(entries) == 0 {
		return
	}
	got := n.limit(entries...)
	n.applyResult(got)
	for i, v := range viewers {
		if got.States[i] == session.StreamEvicted {
			n.deny(v)
			if r, isKnown := n.record(v); isKnown {
				n.save(v, outageRecord{r.opened, true})
			}
		}
	}
}

func (n *outageNode) setDown(isDown bool) {
	if n.store.isDown == isDown {
		return
	}
	n.store.isDown, n.records = isDown, map[int]outageRecord{}
	if !isDown && !n.store.isUnaware {
		n.store.upSince = time.Now()
		if n.isLocal {
			n.reportAt = time.Now()
		}
	}
}

func newOutageRig(t *rapid.T, lose func() (bool, bool)) *outageRig {
	rules := testRules(session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")))
	rig := &outageRig{
		rules: rules, records: map[int]outageRecord{}, most: rapid.IntRange(1, 3).Draw(t, "max"),
		played: map[int]time.Time{}, admitted: map[int]int{},
	}
	shared := &fakeStore{}
	for range rapid.IntRange(1, 3).Draw(t, "nodes") {
		n := &outageNode{outageRig: rig, store: &nodeStore{fakeStore: shared, lose: lose}}
		rig.nodes = append(rig.nodes, n)
		n.start()
	}
	for range rig.most + rapid.IntRange(1, 4).Draw(t, "too many") {
		rig.homes = append(rig.homes, rapid.IntRange(-1, len(rig.nodes)-1).Draw(t, "home"))
	}
	return rig
}

// second has each viewer ask, and each node report.
func (rig *outageRig) second(t *rapid.T) {
	time.Sleep(time.Second)
	order := make([]int, len(rig.homes))
	for v := range order {
		order[v] = v
	}
	for _, v := range rapid.Permutation(order).Draw(t, "order") {
		home := rig.homes[v]
		if home < 0 {
			home = rapid.IntRange(0, len(rig.nodes)-1).Draw(t, "node")
		}
		rig.nodes[home].ask(v)
	}
	for _, n := range rig.nodes {
		n.report()
	}
	if shared := rig.nodes[0].store.fakeStore; shared.isExceeded {
		shared.isExceeded = false
		for _, n := range rig.nodes {
			if !n.store.isDown {
				n.reportAt = time.Now()
			}
		}
	}
}

// playing returns the viewers who were served in the last seconds.
func (rig *outageRig) playing() (viewers []int) {
	for v := range rig.homes {
		if time.Since(rig.played[v]) < 3*time.Second {
			viewers = append(viewers, v)
		}
	}
	return viewers
}

// TestRedis_Outage_SamePlay has a store that all nodes lose for any time, not all at the same moment, and come back to in any
// order. Meanwhile each counts alone. Then those who played before go on, and no one else is admitted any more.
func TestRedis_Outage_SamePlay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		if err := inBubble(t, func() error { return outage(r) }); err != nil {
			r.Fatal(err)
		}
	})
}

// inBubble returns what f returns under time that jumps, and passes on what rapid throws to end a draw. Each draw has a bubble of
// its own: within one bubble rapid's deadline is soon over, and it ends after a few hundred draws.
func inBubble(t *testing.T, f func() error) (err error) {
	t.Helper()
	var thrown any
	synctest.Test(t, func(*testing.T) {
		defer func() { thrown = recover() }()
		err = f()
	})
	if thrown != nil {
		panic(thrown)
	}
	return err
}

// outage returns what is wrong with one draw.
func outage(t *rapid.T) error {
	isLossy := true
	// The calls are made by other goroutines, and rapid's draws end a test by a panic.
	losses := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "losses"), 0))
	rig := newOutageRig(t, func() (bool, bool) {
		return isLossy && losses.IntN(20) == 0, isLossy && losses.IntN(20) == 0
	})
	const settles = 40 // the grace period, a heartbeat, and what the messages take
	isLossy = false
	for range 2 * settles {
		rig.second(t)
	}
	before := rig.playing()
	if len(before) != rig.most {
		return fmt.Errorf("%v play before the outage, want %d", before, rig.most)
	}
	isLossy = rapid.Bool().Draw(t, "lossy")
	length := rapid.SampledFrom([]int{1, 3, 10, 30, 100, 400}).Draw(t, "outage")
	var downAt, upAt, restartAt []int
	for _, n := range rig.nodes {
		n.store.isUnaware = length <= 3 && rapid.Bool().Draw(t, "unaware")
		downAt = append(downAt, rapid.IntRange(0, 3).Draw(t, "down"))
		upAt = append(upAt, length+rapid.IntRange(0, 5).Draw(t, "up"))
		restartAt = append(restartAt, rapid.IntRange(0, 3*length).Draw(t, "restart"))
	}
	for i := range slices.Max(upAt) + 1 {
		for k, n := range rig.nodes {
			if n.setDown(i >= downAt[k] && i < upAt[k]); i == restartAt[k] {
				n.start()
			}
		}
		rig.second(t)
	}
	isLossy = false // a lost call delays what it was to tell
	for range settles {
		rig.second(t)
	}
	admitted := fmt.Sprint(rig.admitted)
	for i := range 100 {
		if rig.second(t); !slices.Equal(rig.playing(), before) {
			return fmt.Errorf("%v: %d s after it settled %v play, want %v", rig.rules.Policy, i, rig.playing(), before)
		}
	}
	if now := fmt.Sprint(rig.admitted); now != admitted {
		return fmt.Errorf("%v: sessions admitted by viewer %s, want %s still", rig.rules.Policy, now, admitted)
	}
	return nil
}

// TestStreamSet_ViewerOnAllNodes_KeepsItsPlace has a viewer whom no node sees for longer than the zap timeout, since their requests
// go to six nodes in turn. An evicted stream of the same user never plays again.
func TestStreamSet_ViewerOnAllNodes_KeepsItsPlace(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.LimitPolicy{session.EvictOldest, session.RejectNew} {
		l := newPureLimiter(policy)
		streams := []report{plays(1, 100, 1), plays(2, 101, 1)}
		playing, out := 1, 0
		if policy == session.RejectNew {
			playing, out = 0, 1
		}
		now := int64(testStart)
		for ; now <= testStart+15_000; now += 1000 {
			l.apply(now, streams...)
		}
		for node := range int64(100) { // each reports every 20 s, and saw the viewer up to 12 s ago
			now += 20_000 / 6
			silence := time.Duration(node*5%12) * time.Second
			if got := l.apply(now, streams[playing].silentFor(silence)).States[0]; got != active {
				t.Fatalf("%v: the stream that plays is %v", policy, got)
			}
			if got := l.apply(now, streams[out]).States[0]; got != evicted {
				t.Fatalf("%v: the evicted stream is %v after a report of %v of silence", policy, got, silence)
			}
		}
	}
}

// TestShared_CallerGone_EvictionTold has the caller give up whose report evicts a stream: the next one is told.
func TestShared_CallerGone_EvictionTold(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	h := newTestShared(f, session.EvictOldest)
	for ; f.ms < testStart+14_000; f.ms += 1000 {
		h.apply(t.Context(), "ann", []report{plays(1, 100, 1), plays(2, 101, 1)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.between = cancel
	h.apply(ctx, "ann", []report{plays(1, 100, 1), plays(2, 101, 1)})
	f.between = nil
	if got := h.apply(t.Context(), "ann", []report{plays(2, 101, 1)}); len(got.Evicted) != 1 || got.Evicted[0].Session != idOf(1) {
		t.Errorf("evicted %v, want the first stream", got.Evicted)
	}
}
