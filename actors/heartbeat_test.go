package actors

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// heartbeatRecorder is a store that keeps the heartbeats it gets. It fails with err, and knows none of the sessions in unknown.
type heartbeatRecorder struct {
	*fakeCluster

	mu      sync.Mutex
	seen    map[backends.SessionID][]time.Time
	calls   int
	err     error
	unknown []backends.SessionID
}

func (r *heartbeatRecorder) RecordHeartbeats(_ context.Context, seen []session.Heartbeat) ([]backends.SessionID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if r.err != nil {
		return nil, r.err
	}
	if r.seen == nil {
		r.seen = map[backends.SessionID][]time.Time{}
	}
	var unknown []backends.SessionID
	for _, h := range seen {
		r.seen[h.ID] = append(r.seen[h.ID], h.LastSeen)
		if slices.Contains(r.unknown, h.ID) {
			unknown = append(unknown, h.ID)
		}
	}
	return unknown, nil
}

func (r *heartbeatRecorder) set(edit func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit()
}

func (r *heartbeatRecorder) of(i int) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen[idOf(i)])
}

// newHeartbeatNode starts a node that reports to the recorder every 16 s, and denies viewer 2.
func newHeartbeatNode(r *heartbeatRecorder) *node {
	b := newFakeBackend(backends.PolicyAllow, func(_ context.Context, q *backends.Request) (backends.Decision, error) {
		if q.Session == idOf(2) {
			return deniedDecision(), nil
		}
		return allowedDecision(), nil
	})
	n := newNode(b, r.fakeCluster, func(s *setup) {
		s.Cluster, s.HeartbeatInterval, s.Config.DenialTTL, s.Config.IdleTimeout = r, 16*time.Second, time.Hour, time.Hour
	})
	// No clock but the bubble's lets a viewer come at the node's very start, or just when it looks for opened sessions: in the
	// middle of their first request.
	time.Sleep(time.Second + openedInterval/2)
	return n
}

func TestHeartbeatReporter_ReportsSeenOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		r := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: true}}
		n := newHeartbeatNode(r)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		n.watch(t, openRequest(2))
		first := n.Find(idOf(1)).LastSeen()
		time.Sleep(40 * time.Second) // two heartbeats
		if got := r.of(1); len(got) != 1 || !got[0].Equal(first) {
			t.Errorf("reported %v, want %v once", got, first)
		}
		if got := r.of(2); len(got) != 0 {
			t.Errorf("a viewer who was denied from the start is reported: %v", got)
		}
		if r.set(func() { r.calls = 0 }); n.watch(t, openRequest(1)).Verdict != backends.Allowed {
			t.Fatal("the viewer is denied")
		}
		time.Sleep(40 * time.Second)
		if got := r.of(1); len(got) != 2 || !got[1].Equal(n.Find(idOf(1)).LastSeen()) {
			t.Errorf("reported %v, want the second request once", got)
		}
		if r.calls != 1 {
			t.Errorf("%d calls of the store, want none without a heartbeat", r.calls)
		}
	})
}

// TestHeartbeatReporter_DeniedLater keeps a session reported that was allowed once: the store knows it.
func TestHeartbeatReporter_DeniedLater(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		r := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: true}}
		n := newHeartbeatNode(r)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		time.Sleep(20 * time.Second)
		before := len(r.of(1))
		n.OnRevocation(session.Revocation{Kind: session.RevokedKicked, Session: idOf(1), Opened: time.Now(), Decision: session.Kicked("x")})
		synctest.Wait()
		if d := n.watch(t, openRequest(1)); d.Verdict != backends.Denied {
			t.Fatalf("got %+v, want a denial", d)
		}
		time.Sleep(20 * time.Second)
		if got := r.of(1); before == 0 || len(got) != before+1 {
			t.Errorf("reported %v, want %d and the request of the denied viewer", got, before)
		}
	})
}

func TestHeartbeatReporter_StoreFails_ReportedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		r := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: true}, err: errBroken, unknown: []backends.SessionID{idOf(1)}}
		n := newHeartbeatNode(r)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		time.Sleep(20 * time.Second)
		r.set(func() { r.err = nil })
		store := r.fakeCluster
		store.mu.Lock()
		store.records = nil
		store.mu.Unlock()
		time.Sleep(20 * time.Second)
		if got := r.of(1); len(got) != 1 {
			t.Errorf("reported %v, want the heartbeat that the store missed", got)
		}
		if got := store.get(idOf(1)).Decision.Verdict; got != backends.Allowed {
			t.Errorf("the store holds %v, want what it has lost to be stored again", got)
		}
	})
}

// TestHeartbeatReporter_UnknownSession stores a session again that the store has lost, but not one whose first heartbeat it is.
func TestHeartbeatReporter_UnknownSession(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		r := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: true}, unknown: []backends.SessionID{idOf(1), idOf(99)}}
		n := newHeartbeatNode(r)
		defer n.closeAndDrain()
		n.watch(t, openRequest(1))
		forget := func() {
			r.fakeCluster.mu.Lock()
			defer r.fakeCluster.mu.Unlock()
			r.records = nil
		}
		synctest.Wait()
		forget()
		time.Sleep(2 * openedInterval)
		if got := r.get(idOf(1)).Decision.Verdict; got != backends.Pending || len(r.of(1)) != 1 {
			t.Errorf("after the first of %d heartbeats the store holds %v, want pending", len(r.of(1)), got)
		}
		n.watch(t, openRequest(1))
		time.Sleep(20 * time.Second)
		if got := r.get(idOf(1)).Decision.Verdict; got != backends.Allowed {
			t.Errorf("after the second heartbeat the store holds %v, want allowed", got)
		}
	})
}

func TestHeartbeatReporter_Collect_EachSessionOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		n := newNode(newFakeBackend(backends.PolicyAllow, nil), &fakeCluster{isShared: true}, nil)
		defer n.closeAndDrain()
		time.Sleep(time.Second)
		const sessions = 1000
		for i := range sessions {
			n.watch(t, openRequest(i))
		}
		time.Sleep(openedInterval + time.Millisecond) // their first heartbeats
		for i := range sessions {
			n.watch(t, openRequest(i))
		}
		n.table.find(idOf(1)).flags.set(flagClosed, true)
		n.table.find(idOf(2)).opening.Store(&pendingOpening{done: make(chan struct{})})
		reported := map[backends.SessionID]int{}
		for step := range heartbeatSteps {
			seen, _ := n.heartbeats.collect(step)
			for _, h := range seen {
				reported[h.ID]++
			}
		}
		n.table.find(idOf(2)).opening.Store(nil)
		for i := range sessions {
			want := 1
			if i == 1 || i == 2 { // closed, and not yet open
				want = 0
			}
			if got := reported[idOf(i)]; got != want {
				t.Errorf("session %d is reported %d times, want %d", i, got, want)
			}
		}
	})
}

// TestHeartbeatReporter_SingleNode_RenewsAlone reports nothing where no other node shares the store, but keeps streams and
// addresses counted.
func TestHeartbeatReporter_SingleNode_RenewsAlone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		use      *ticketUse
		stream   *userStream
		isSilent bool
		isOpened bool // and does not play yet
		streams  int
		uses     int
	}{
		"a stream of a limited user":       {stream: &userStream{user: &userStreams{hash: "17"}}, streams: 1},
		"a stream that nobody watches":     {stream: &userStream{user: &userStreams{hash: "17"}}, isSilent: true},
		"a stream that does not play yet":  {stream: &userStream{user: &userStreams{hash: "17"}}, isOpened: true},
		"an address of a shared ticket":    {use: &ticketUse{root: idOf(1)}, uses: 1},
		"neither":                          {},
		"an address with a stream as well": {use: &ticketUse{root: idOf(1)}, stream: &userStream{user: &userStreams{hash: "17"}}, streams: 1, uses: 1},
	} {
		c := core{table: new(sessionTable), cluster: &clusterClient{Cluster: new(fakeCluster)}}
		h := newHeartbeatReporter(c, newStreamLimits(c, PerUserConfig{}), newAddressLimit(c, t0()), time.Minute, time.Minute)
		s, _ := c.table.findOrAdd(idOf(1), newBareSession(idOf(1)))
		s.decision.Store(new(allowedDecision()))
		s.lastSeen.Store(5) // long ago
		if !test.isSilent {
			s.Begin()
		}
		s.flags.set(flagUnsaved, true)
		s.flags.set(flagPlaying, !test.isOpened)
		s.stream.Store(test.stream)
		s.ticketUse = test.use
		for step := range heartbeatSteps {
			if got, open := h.collect(step); len(got) != 0 || len(open) != 0 {
				t.Errorf("%s: reports %v, want nothing", name, got)
			}
		}
		if streams, uses := len(h.streams.renewal), len(h.addresses.renewal); streams != test.streams || uses != test.uses {
			t.Errorf("%s: %d streams and %d addresses are renewed, want %d and %d", name, streams, uses, test.streams, test.uses)
		}
	}
}

// TestSession_Heartbeat_Edge extends the last request by the time for which an edge need not ask.
func TestSession_Heartbeat_Edge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		extra    time.Duration
		validFor time.Duration
		isOpen   bool
		want     time.Duration // after the last request
	}{
		"a player":                             {0, 10 * time.Minute, true, 0},
		"an edge":                              {time.Minute, 10 * time.Minute, true, 10 * time.Minute},
		"an edge with a longer extra lifetime": {3 * time.Minute, 10 * time.Minute, true, 12 * time.Minute},
		"an edge that asks often":              {10 * time.Second, 30 * time.Second, true, 0},
		"an edge before the first decision":    {time.Minute, 10 * time.Minute, false, 0},
	} {
		s := bareSession(idOf(1))
		s.policy().RecheckMin, s.policy().RecheckMax = 10*time.Second, 24*time.Hour
		s.extraLifetime = int32(test.extra.Milliseconds())
		if test.isOpen {
			d := allowedDecision()
			d.ValidFor = test.validFor
			s.decision.Store(&d)
		}
		s.Seen(in(time.Minute), true)
		want := session.Heartbeat{ID: idOf(1), LastSeen: in(time.Minute + test.want)}
		if got := s.heartbeat(); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		silence := test.want + time.Minute // the idle timeout
		if got := s.idleAfter(); got != silence {
			t.Errorf("%s: idle after %v, want %v", name, got, silence)
		}
	}
}

// TestHeartbeatReporter_StateLost_Paced stores sessions again that the store has lost, and never many at once: viewers' calls would
// find no room.
func TestHeartbeatReporter_StateLost_Paced(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T) {
		const sessions = 8 * maxReloads
		r := &heartbeatRecorder{fakeCluster: &fakeCluster{isShared: true}}
		var isSlow atomic.Bool
		answer := make(chan struct{})
		r.beforeSave = func(context.Context) error {
			if isSlow.Load() {
				<-answer
			}
			return nil
		}
		n := newHeartbeatNode(r)
		defer n.closeAndDrain()
		for i := range sessions {
			n.watch(t, openRequest(100+i))
		}
		time.Sleep(20 * time.Second)
		store := r.fakeCluster
		store.mu.Lock()
		store.records = nil
		store.mu.Unlock()
		r.set(func() {
			for i := range sessions {
				r.unknown = append(r.unknown, idOf(100+i))
				n.Find(idOf(100+i)).Seen(time.Now(), true)
			}
		})
		isSlow.Store(true)
		time.Sleep(17 * time.Second) // one heartbeat of each
		r.set(func() { r.unknown = nil })
		if got := n.Registry.cluster.restores.Load(); got == 0 || got > maxReloads {
			t.Errorf("%d sessions are being stored at once, want some, and %d at most", got, maxReloads)
		}
		isSlow.Store(false)
		close(answer)
		time.Sleep(10 * time.Second)
		store.mu.Lock()
		defer store.mu.Unlock()
		if got := len(store.records); got != sessions {
			t.Errorf("the store holds %d sessions, want all %d", got, sessions)
		}
	})
}
