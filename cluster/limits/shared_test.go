package limits

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"usher/actors/session"
)

// fakeStore is a store that fails when a test says so. It keeps one user.
type fakeStore struct {
	mu      sync.Mutex
	ms      int64
	current versioned
	calls   int
	// fail, if not nil, says whether a call is lost, and whether its answer is.
	fail func() (isLost, isAnswerLost bool)
	// between, if not nil, is called before each call: other nodes change the streams.
	between func()
	// isExceeded: all nodes were told that the limit is exceeded, and report their streams.
	isExceeded bool
	// upSince is since when the nodes reach the store.
	upSince int64
}

var errLost = errors.New("lost")

func (f *fakeStore) clock(string) (now, upSince int64, isKnown bool) { return f.ms, f.upSince, true }

func (f *fakeStore) swap(_, was string, to versioned, _ time.Duration, isExceeded bool) (versioned, bool, error) {
	if f.between != nil {
		f.between()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	isLost, isAnswerLost := false, false
	if f.fail != nil {
		isLost, isAnswerLost = f.fail()
	}
	if isLost {
		return versioned{}, false, errLost
	}
	isStored := was == f.current.version
	if isStored {
		f.current, f.isExceeded = to, f.isExceeded || isExceeded
	}
	if isAnswerLost {
		return versioned{}, false, errLost
	}
	if isStored {
		return versioned{}, true, nil
	}
	return f.current, false, nil
}

// newTestShared returns the limits of a node with that store.
func newTestShared(f store, p session.LimitPolicy) *shared {
	return newShared(f, rules{LimitRules: testRules(p)}, slog.New(slog.DiscardHandler))
}

// nodesLimiter sends each report through one of several nodes, as a viewer with a session on each of them.
type nodesLimiter struct {
	store *fakeStore
	nodes []*shared
	pick  func() int
}

func (n *nodesLimiter) apply(now int64, reports ...report) session.LimitResult {
	n.store.ms = now
	return n.nodes[n.pick()].apply(context.Background(), "ann", reports)
}

// TestShared_InterleavedNodes_ExactOnceSettled has nodes that change the streams in turn, whose calls or answers are lost.
func TestShared_InterleavedNodes_ExactOnceSettled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy := session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy"))
		f := &fakeStore{ms: testStart}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)) // the calls come from other goroutines
		f.fail = func() (bool, bool) {
			if !mayLose(f.ms) || f.ms >= testStart+settledAfter {
				return false, false // once it has settled, what plays is counted
			}
			return random.IntN(20) == 0, random.IntN(20) == 0
		}
		n := &nodesLimiter{store: f, pick: func() int { return rapid.IntRange(0, 2).Draw(t, "node") }}
		for range 3 {
			n.nodes = append(n.nodes, newTestShared(f, policy))
		}
		checkSettles(t, n, rapid.IntRange(1, 4).Draw(t, "max"), rapid.IntRange(1, 9).Draw(t, "viewers"))
	})
}

// TestShared_ConcurrentNodes_NoUpdateLost has goroutines of several nodes join at once, while the store loses calls and
// answers. Each stream whose join succeeded is in the set.
func TestShared_ConcurrentNodes_NoUpdateLost(t *testing.T) {
	t.Parallel()
	const nodes, perNode = 4, 25
	f := &fakeStore{ms: testStart}
	lost := 0
	f.fail = func() (bool, bool) { lost++; return lost%11 == 5, lost%7 == 3 }
	var callers sync.WaitGroup
	stored := make([]bool, nodes*perNode)
	for node := range nodes {
		h := newTestShared(f, session.EvictOldest)
		for i := range perNode {
			callers.Go(func() {
				one := node*perNode + i
				for !stored[one] {
					stored[one] = !h.apply(t.Context(), "ann", []report{plays(one, 100, 200)}).IsLocal
				}
			})
		}
	}
	callers.Wait()
	set, err := decode(f.current.set)
	if err != nil || len(set.streams) != nodes*perNode {
		t.Errorf("%d streams, %v; want %d", len(set.streams), err, nodes*perNode)
	}
	t.Logf("%d calls of the store for %d joins", f.calls, nodes*perNode)
}

// TestShared_Outage_DeviceKeepsLatestChannel has a device zap within one second while the store hangs. The call for its first
// channel gives up after that for the second one, which a breaker ends at once.
func TestShared_Outage_DeviceKeepsLatestChannel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{ms: testStart, fail: func() (bool, bool) { return true, true }}
		h := newTestShared(f, session.RejectNew)
		join := func(i int, after, timeout time.Duration) (state session.StreamState) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			time.Sleep(after)
			p := plays(i, 100, 1).on("box")
			p.isJoin = true
			return h.apply(ctx, "ann", []report{p}).States[0]
		}
		f.between = func() { time.Sleep(2 * time.Second) }
		var first, second session.StreamState
		var joining sync.WaitGroup
		joining.Go(func() { first = join(1, 0, time.Second) })
		joining.Go(func() { second = join(2, 300*time.Millisecond, 300*time.Millisecond) })
		joining.Wait()
		if first != superseded || second != active {
			t.Errorf("the first channel is %v and the second one %v, want %v and %v", first, second, superseded, active)
		}
		time.Sleep(time.Minute) // the call of the store ends
	})
}

// TestShared_Contention_Ends has another node that is always faster.
func TestShared_Contention_Ends(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	f.between = func() { f.current = versioned{fmt.Sprint(f.calls), new(storedSet{}).encode()} }
	got := newTestShared(f, session.RejectNew).apply(t.Context(), "ann", []report{plays(1, 100, 1)})
	if !got.IsLocal || got.States[0] != active || got.RecheckIn <= 0 || got.RecheckIn.Seconds() > 1 {
		t.Errorf("got %+v", got)
	}
	if f.calls != maxTries {
		t.Errorf("%d tries, want %d", f.calls, maxTries)
	}
}

// TestShared_Contention_CallersGone has callers give up and count for themselves while their node reads what others wrote.
func TestShared_Contention_CallersGone(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	h := newTestShared(f, session.RejectNew)
	gone := make(chan struct{}, 1)
	f.between = func() {
		f.current = versioned{fmt.Sprint(f.calls), new(storedSet{}).encode()}
		select {
		case gone <- struct{}{}:
		default:
		}
	}
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				select {
				case <-gone:
					cancel()
				case <-ctx.Done():
				}
			}()
			if got := h.apply(ctx, "ann", []report{plays(i, 100, 100)}); !got.IsLocal {
				t.Errorf("got %+v, want it counted on the node", got)
			}
		})
	}
	callers.Wait()
}

// TestShared_MissingSet_FailsCompare flushes the store behind the node's back, and lets another node begin anew.
func TestShared_MissingSet_FailsCompare(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	a, b := newTestShared(f, session.RejectNew), newTestShared(f, session.RejectNew)
	apply := func(h *shared, p report, want session.StreamState) {
		t.Helper()
		if got := h.apply(t.Context(), "ann", []report{p}); got.IsLocal || got.States[0] != want {
			t.Errorf("got %+v, want %v", got, want)
		}
	}
	apply(a, plays(1, 100, 2), active)
	f.current = versioned{}
	before := f.calls
	apply(a, plays(1, 100, 2), active)
	if f.calls != before+2 {
		t.Errorf("after a flush %d calls, want 2", f.calls-before)
	}
	f.current = versioned{}
	apply(b, plays(2, 101, 2), active)
	apply(a, plays(1, 100, 2), active)
	if set, err := decode(f.current.set); err != nil || len(set.streams) != 2 {
		t.Errorf("the set holds %+v, %v; want both streams", set, err)
	}
}

// TestShared_Flushed_StaysExact flushes the store while one of three streams plays: it goes on, and the others stay evicted.
func TestShared_Flushed_StaysExact(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.LimitPolicy{session.EvictOldest, session.RejectNew} {
		f, turn := &fakeStore{ms: testStart}, 0
		n := &nodesLimiter{store: f, pick: func() int { turn++; return turn % 2 }}
		n.nodes = []*shared{newTestShared(f, policy), newTestShared(f, policy)}
		plays := func(now int64) (playing []int) {
			for i := range 3 {
				if n.apply(now, plays(i, int64(100+i), 1)).States[0] == active {
					playing = append(playing, i)
				}
			}
			return playing
		}
		survivor := map[session.LimitPolicy]int{session.EvictOldest: 2, session.RejectNew: 0}[policy]
		for second := range int64(60) {
			if second == 30 {
				f.current = versioned{}
			}
			playing := plays(testStart + second*1000)
			if !slices.Contains(playing, survivor) {
				t.Fatalf("%v: after %d s %v play, want %d among them", policy, second, playing, survivor)
			}
			if isGrace := second <= 14; !isGrace && len(playing) != 1 {
				t.Fatalf("%v: after %d s %v play, want one", policy, second, playing)
			}
		}
	}
}

// TestShared_LeavingLast_EmptySet leaves an empty set behind, which is no loss.
func TestShared_LeavingLast_EmptySet(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	h := newTestShared(f, session.RejectNew)
	for _, p := range []report{plays(1, 100, 1), leaves(1), leaves(1), plays(1, 100, 1)} {
		h.apply(t.Context(), "ann", []report{p})
		set, err := decode(f.current.set)
		if p.isLeaving != (len(set.streams) == 0) || err != nil || f.current.version == "" {
			t.Errorf("after %+v there is %+v, %v, version %q", p, set, err, f.current.version)
		}
	}
	if f.calls != 4 {
		t.Errorf("%d calls, want one each", f.calls)
	}
}

func TestShared_OtherLayout_LeftAlone(t *testing.T) {
	t.Parallel()
	older, err := hex.DecodeString("020100000000000000000000000000000201000000000000000000000000000002" +
		"80c49fd50cd0afabfef962d2afabfef962e8a7abfef962e05d04000206626f78")
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]versioned{
		"older": {"1 7 0 7", string(older)}, "older, without streams": {"1 7 0 7", ""}, "newer": {"1", "\x04newer"},
	} {
		f := &fakeStore{ms: testStart, current: other}
		h := newTestShared(f, session.RejectNew)
		for range 2 { // the second call knows of the first one
			got := h.apply(t.Context(), "ann", []report{plays(1, 100, 1)})
			if !got.IsLocal || got.RecheckIn != 0 || f.current != other {
				t.Errorf("%s: got %+v, the set is %q", name, got, f.current)
			}
		}
	}
}

// TestShared_TooManyStreams_CountedPerNode reports more streams than a set holds.
func TestShared_TooManyStreams_CountedPerNode(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	a, b := newTestShared(f, session.RejectNew), newTestShared(f, session.RejectNew)
	var all []report
	for i := range maxTracked {
		all = append(all, plays(i, 100, 3))
	}
	a.apply(t.Context(), "ann", all)
	stored := f.current
	for range 3 {
		if got := b.apply(t.Context(), "ann", []report{plays(200, 100, 3)}); !got.IsLocal || got.RecheckIn != 0 {
			t.Errorf("one more: %+v, want it counted on the node", got)
		}
	}
	if f.current != stored || f.calls != 2 {
		t.Errorf("%d calls, want 2: one that stores, one that reads", f.calls)
	}
}

// TestShared_CallerGone_OthersServed has a caller that gives up while the store is slow.
func TestShared_CallerGone_OthersServed(t *testing.T) {
	t.Parallel()
	f, release := &fakeStore{ms: testStart}, make(chan struct{})
	f.between = func() { <-release }
	h := newTestShared(f, session.RejectNew)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for i := range 3 {
		callers.Go(func() {
			if got := h.apply(t.Context(), "ann", []report{plays(i, 100, 3)}); got.IsLocal {
				t.Errorf("got %+v", got)
			}
		})
	}
	callers.Go(func() {
		if got := h.apply(ctx, "ann", []report{plays(9, 100, 3)}); !got.IsLocal || got.RecheckIn == 0 {
			t.Errorf("the one who gave up: %+v", got)
		}
	})
	cancel()
	close(release)
	callers.Wait()
}

// lossViewer plays without a break. When it is evicted it opens the session anew each time that it is refused.
type lossViewer struct {
	id     int
	opened int64
	state  session.StreamState
}

// lossRig is viewers of one user whose requests go to any of several nodes.
type lossRig struct {
	store   *fakeStore
	nodes   []*shared
	viewers []*lossViewer
	most    int
	// reached is how many of the nodes the viewers reach.
	reached int
}

func newLossRig(t *rapid.T, p session.LimitPolicy, isDown *bool) *lossRig {
	rig := &lossRig{store: &fakeStore{ms: testStart}, most: rapid.IntRange(1, 3).Draw(t, "max"), reached: rapid.IntRange(1, 3).Draw(t, "reached")}
	rig.store.fail = func() (bool, bool) { return *isDown, false }
	for range 3 {
		rig.nodes = append(rig.nodes, newTestShared(rig.store, p))
	}
	maxAge := rapid.SampledFrom([]int{1, 3, 1000}).Draw(t, "max age") // in seconds, so that some are opened in one second
	for i := range rig.most + rapid.IntRange(1, 3).Draw(t, "too many") {
		age := int64(rapid.IntRange(1, maxAge).Draw(t, "age"))
		rig.viewers = append(rig.viewers, &lossViewer{id: i, opened: testStart/1000 - age})
	}
	return rig
}

// report has some node report a viewer.
func (rig *lossRig) report(t *rapid.T, v *lossViewer) {
	p := plays(v.id, v.opened, rig.most)
	if v.state == evicted {
		p.Opened, p.isJoin = rig.store.ms/1000, true // its record is lost, too
	}
	got := rig.nodes[rapid.IntRange(0, rig.reached-1).Draw(t, "node")].apply(context.Background(), "ann", []report{p})
	if got.States[0] == active {
		v.opened = p.Opened
	}
	for _, e := range got.Evicted {
		rig.viewers[int(e.Session[0])].state = evicted
	}
	v.state = got.States[0]
}

// second has each viewer reported once, and again if the limit is exceeded. Meanwhile the nodes restore what they know, if
// isLost.
func (rig *lossRig) second(t *rapid.T, isLost bool) {
	rig.store.ms += 1000
	var events []func()
	for _, v := range rig.viewers {
		events = append(events, func() { rig.report(t, v) })
	}
	for _, n := range rig.nodes {
		if isLost {
			events = append(events, func() { restoreNow(n) })
		}
	}
	order := make([]int, len(events))
	for i := range order {
		order[i] = i
	}
	for _, i := range rapid.Permutation(order).Draw(t, "order") {
		events[i]()
	}
	if rig.store.isExceeded {
		for _, v := range rig.viewers {
			if v.state == active {
				rig.report(t, v)
			}
		}
	}
	rig.store.isExceeded = false
}

func (rig *lossRig) playing() (ids []int) {
	for _, v := range rig.viewers {
		if v.state == active {
			ids = append(ids, v.id)
		}
	}
	return ids
}

// restoreNow has a node restore what it knows, once.
func restoreNow(h *shared) { h.restore(context.Background(), h.denied()) }

// TestShared_DataLost_SameStreamsPlay has viewers of one user on several nodes, and a store that fails for a while and then has
// lost everything. Those who played before go on, and a second later no other one plays, under both policies, though those who
// are refused open their sessions anew, on a node that may know nothing of the user.
func TestShared_DataLost_SameStreamsPlay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		policy, isDown := session.LimitPolicy(rapid.IntRange(0, 1).Draw(t, "policy")), false
		rig := newLossRig(t, policy, &isDown)
		for rig.store.ms < testStart+settledAfter+5000 {
			rig.second(t, false)
		}
		before := rig.playing()
		if len(before) != rig.most {
			t.Fatalf("%v play before the loss, want %d", before, rig.most)
		}
		for range rapid.IntRange(1, 2).Draw(t, "losses") {
			isDown = true
			for range rapid.IntRange(0, 5).Draw(t, "outage") {
				rig.second(t, false)
			}
			isDown, rig.store.current, rig.reached = false, versioned{}, 3
			for i := range 40 {
				if rig.second(t, i == 0); !slices.Equal(rig.playing(), before) {
					t.Fatalf("%v: %v play after the loss, want %v", policy, rig.playing(), before)
				}
			}
		}
	})
}

// TestShared_Outage_WhoPlayedGoesOn: after an outage longer than any silence an evicted viewer asks first, by a node that knows
// of no stream. The one who played before goes on.
func TestShared_Outage_WhoPlayedGoesOn(t *testing.T) {
	t.Parallel()
	for _, policy := range []session.LimitPolicy{session.EvictOldest, session.RejectNew} {
		f := &fakeStore{ms: testStart}
		nodes := []*shared{newTestShared(f, policy), newTestShared(f, policy)}
		apply := func(node int, one report) session.StreamState {
			return nodes[node].apply(t.Context(), "ann", []report{one}).States[0]
		}
		streams := []report{plays(1, 100, 1), plays(2, 101, 1)}
		playing, evicted := 1, 0
		if policy == session.RejectNew {
			playing, evicted = 0, 1
		}
		for range 20 { // until one of them is evicted
			f.ms += 1000
			for _, one := range streams {
				apply(0, one)
			}
		}
		f.ms += 10 * 60_000
		f.upSince = f.ms
		for range 60 {
			if got := apply(1, streams[evicted]); got != session.StreamEvicted {
				t.Fatalf("%v, %d ms after the outage: the evicted stream is %v", policy, f.ms-f.upSince, got)
			}
			f.ms += 500
			if got := apply(0, streams[playing]); got != session.StreamActive {
				t.Fatalf("%v, %d ms after the outage: the stream that played is %v", policy, f.ms-f.upSince, got)
			}
			f.ms += 500
		}
	}
}

// TestShared_NodeDied_OutageKeepsNoPlace: a stream of a node that died during an outage does not count for longer than another
// one that nobody reports.
func TestShared_NodeDied_OutageKeepsNoPlace(t *testing.T) {
	t.Parallel()
	f := &fakeStore{ms: testStart}
	h := newTestShared(f, session.RejectNew)
	apply := func(one report) session.StreamState {
		return h.apply(t.Context(), "ann", []report{one}).States[0]
	}
	apply(plays(1, 100, 1))
	f.ms += 10 * 60_000
	f.upSince = f.ms
	for range 60 { // longer than its silence stands, and the grace period
		apply(plays(2, 700, 1))
		f.ms += 1000
	}
	if got := apply(plays(2, 700, 1)); got != session.StreamActive {
		t.Errorf("the other stream is %v, want active", got)
	}
}

// TestShared_Apply_KeepsNoCalls keeps of a user what the store holds, and of their calls nothing, unless one has failed: a million
// users have one stream each.
func TestShared_Apply_KeepsNoCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{ms: 1}
		h := newTestShared(f, session.EvictOldest)
		entry := session.StreamEntry{User: "ann", MaxStreams: 1, LastSeen: time.Now(), IsPlaying: true}
		report := func() *sharedUser {
			h.apply(t.Context(), "ann", newReports([]session.StreamEntry{entry}))
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.users.get("ann")
		}
		if u := report(); u.calls != nil || len(u.known.streams) != 1 || cap(u.known.streams) != 1 {
			t.Errorf("keeps calls %v and %d streams in room for %d, want one alone", u.calls, len(u.known.streams), cap(u.known.streams))
		}
		f.fail = func() (bool, bool) { return true, false }
		if u := report(); u.calls == nil || len(u.calls.local) != 1 {
			t.Errorf("after a failure %v is kept, want what this node counts", u.calls)
		}
		f.fail = nil
		if u := report(); u.calls != nil || cap(u.known.streams) != 1 {
			t.Errorf("keeps calls %v and room for %d streams once the store counts again, want one alone", u.calls, cap(u.known.streams))
		}
	})
}
