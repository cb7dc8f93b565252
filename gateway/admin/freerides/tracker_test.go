package freerides

import (
	"context"
	"encoding/binary"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// fakeCluster is a store that several trackers share, and how they ask one another.
type fakeCluster struct {
	mu       sync.Mutex
	parts    map[string][]byte
	trackers map[string]*Tracker
	silent   []string
	isDown   atomic.Bool // the store
	reads    atomic.Int64
}

func (c *fakeCluster) SaveReport(_ context.Context, subject, id string, part []byte, _ int, _ time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isDown.Load() {
		return backends.ErrStoreUnavailable
	}
	c.parts[subject+" "+id] = part
	return nil
}

func (c *fakeCluster) Reports(_ context.Context, subject string, _ time.Duration) (map[string][]byte, error) {
	c.reads.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isDown.Load() {
		return nil, backends.ErrStoreUnavailable
	}
	found := map[string][]byte{}
	for key, part := range c.parts {
		if id, isOf := strings.CutPrefix(key, subject+" "); isOf {
			found[id] = part
		}
	}
	return found, nil
}

func (c *fakeCluster) ask(ctx context.Context, request []byte) (map[string][]byte, []string) {
	replies := map[string][]byte{}
	for node, t := range c.trackers {
		if answer, isMine := t.Answer(ctx, request); isMine {
			replies[node] = answer
		}
	}
	return replies, c.silent
}

// testNode is a node whose sessions are told of by the test.
type testNode struct {
	*Tracker
	isDown atomic.Bool
	sent   sync.Map // session -> bytes
	opened sync.Map // session -> time
	log    logBuffer
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// kept returns how many outages and sessions the node has in memory.
func (n *testNode) kept() (outages, sessions int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.outages), len(n.sessions)
}

// tokenLife is how long the portal knows a token.
const tokenLife = time.Hour

func newCluster() *fakeCluster {
	return &fakeCluster{parts: map[string][]byte{}, trackers: map[string]*Tracker{}}
}

// node starts a node, which ends with the returned function.
func (c *fakeCluster) node(t *testing.T, name string) (n *testNode, stop func()) {
	t.Helper()
	n = new(testNode)
	n.Tracker = New(Options{
		Node: name, Backends: func() []string { return []string{"portal", "billing"} }, Store: c, Ask: c.ask,
		IsDown: func(backend string) bool { return n.isDown.Load() && backend == "portal" },
		Session: func(id backends.SessionID) (int64, time.Time) {
			bytes, _ := n.sent.Load(id)
			sent, _ := bytes.(int64)
			at, _ := n.opened.Load(id)
			opened, _ := at.(time.Time)
			return sent, opened
		},
		TokenLife: func(backend string) time.Duration { return map[string]time.Duration{"portal": tokenLife}[backend] },
		Retention: 24 * time.Hour, Logger: slog.New(slog.NewTextHandler(&n.log, nil)),
	})
	c.trackers[name] = n.Tracker
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		n.Run(ctx)
		close(ended)
	}()
	return n, func() {
		cancel()
		<-ended
		delete(c.trackers, name)
	}
}

// kill ends a node that saves nothing more.
func (c *fakeCluster) kill(name string, stop func()) {
	c.isDown.Store(true)
	stop()
	c.isDown.Store(false)
}

func idOf(n uint32) (id backends.SessionID) {
	binary.BigEndian.PutUint32(id[:], n*2654435761) // spread as hashes are
	binary.BigEndian.PutUint32(id[12:], n)
	return id
}

func allowedBy(s backends.Source) *backends.Decision {
	return &backends.Decision{Verdict: backends.Allowed, Source: s}
}

func deniedBy(s backends.Source, user string) *backends.Decision {
	return &backends.Decision{Verdict: backends.Denied, Source: s, User: user}
}

// decide gives a session of the portal a decision; nil: it leaves.
func (n *testNode) decide(id uint32, d *backends.Decision) {
	n.Decided(&backends.Request{Session: idOf(id), Backend: "portal"}, nil, d)
}

// wait lets time pass, and what is due by then happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// one returns the only report.
func (n *testNode) one(t *testing.T) Report {
	t.Helper()
	list := n.Reports(t.Context(), Filter{})
	if len(list.Reports) != 1 {
		t.Fatalf("%d reports, want one: %+v", len(list.Reports), list)
	}
	return list.Reports[0]
}

func wantFigures(t *testing.T, got, want Figures) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

func TestTracker_Outage_Report(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, stop := newCluster().node(t, "a")
		defer stop()
		n.isDown.Store(true)
		started := time.Now()
		n.decide(1, allowedBy(backends.FromFailOpen))
		n.decide(2, allowedBy(backends.FromFailOpen))
		n.decide(3, allowedBy(backends.FromCached))
		n.decide(4, allowedBy(backends.FromTicket))
		n.decide(5, allowedBy(backends.FromFailOpen))
		n.sent.Store(idOf(2), int64(500))
		wait(10 * time.Second)
		running := n.one(t)
		if !running.IsRunning || running.Ended != nil || running.Recovered != nil {
			t.Errorf("the report of a running outage: %+v", running)
		}
		wantFigures(t, running.Figures, Figures{Sessions: 5, FailOpen: 3, Cached: 1, Ticket: 1, UnverifiedSeconds: 50, Unverified: 5})
		n.isDown.Store(false)
		wait(time.Second)
		n.decide(1, allowedBy(backends.FromBackend))
		n.decide(2, deniedBy(backends.FromBackend, "Ann"))
		wait(time.Second)
		n.decide(3, deniedBy(backends.FromBackend, ""))
		n.decide(4, deniedBy(backends.FromBan, "Bob"))
		n.decide(5, nil)
		n.decide(6, deniedBy(backends.FromBackend, "Cid")) // was never admitted
		r := n.one(t)
		wantFigures(t, r.Figures, Figures{
			Sessions: 5, FailOpen: 3, Cached: 1, Ticket: 1, UnverifiedSeconds: 11 + 11 + 12 + 12 + 12,
			Verified: 1, FreeRides: 2, FreeRideSeconds: 23, Bytes: 500, Refused: 1, Unknown: 1,
		})
		recovered, ended := started.Add(11*time.Second), started.Add(12*time.Second)
		if r.IsRunning || !r.Started.Equal(started) || !r.Recovered.Equal(recovered) || !r.Ended.Equal(ended) {
			t.Errorf("started %v, recovered %v, ended %v", r.Started, r.Recovered, r.Ended)
		}
		users := []User{{Session: idOf(3).String(), Count: 1, Seconds: 12}, {User: "Ann", Count: 1, Seconds: 11, Bytes: 500}}
		if diff := cmp.Diff(users, r.Users); diff != "" {
			t.Errorf("users (-want +got):\n%s", diff)
		}
		if r.ID != "portal-20000101T000000Z" || len(r.Nodes) != 1 || r.Nodes[0].Node != "a" || r.Nodes[0].Figures != r.Figures {
			t.Errorf("report %s of nodes %+v", r.ID, r.Nodes)
		}
	})
}

// TestTracker_Log tells once, and only once it is over, what an outage cost.
func TestTracker_Log(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer *backends.Decision
		want   string
	}{
		"with a free ride": {deniedBy(backends.FromBackend, "Ann"), `level=WARN msg="outage ended, what it cost on this node" backend=portal ` +
			`started=2000-01-01T00:00:00.000Z duration=5s sessions=1 unverified=5s verified=0 free_rides=1 free_ride_time=5s ` +
			`free_ride_bytes=7 refused=0 unknown=0 expired_tokens=0`},
		"without one": {allowedBy(backends.FromBackend), `level=INFO msg="outage ended, what it cost on this node" backend=portal ` +
			`started=2000-01-01T00:00:00.000Z duration=5s sessions=1 unverified=5s verified=1 free_rides=0 free_ride_time=0s ` +
			`free_ride_bytes=0 refused=0 unknown=0 expired_tokens=0`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, stop := newCluster().node(t, "a")
				defer stop()
				n.decide(1, allowedBy(backends.FromFailOpen))
				n.sent.Store(idOf(1), int64(7))
				wait(5 * time.Second)
				n.decide(1, test.answer)
				wait(gap - 10*time.Second)
				if log := n.log.String(); log != "" {
					t.Errorf("logged while the outage may go on: %s", log)
				}
				wait(time.Hour)
				_, got, _ := strings.Cut(strings.TrimSpace(n.log.String()), " ")
				if got != test.want {
					t.Errorf("logged %s\nwant %s", got, test.want)
				}
				if outages, sessions := n.kept(); outages > 0 || sessions > 0 {
					t.Errorf("%d outages and %d sessions are kept for nothing", outages, sessions)
				}
			})
		})
	}
}

// TestTracker_Outages tells one outage from the next.
func TestTracker_Outages(t *testing.T) {
	t.Parallel()
	unverified, answer := allowedBy(backends.FromFailOpen), allowedBy(backends.FromBackend)
	for name, test := range map[string]struct {
		act  func(n *testNode)
		want []int64 // sessions of each report, the newest first
	}{
		"nobody is unverified": {func(n *testNode) { n.isDown.Store(true); wait(time.Hour) }, nil},
		"tickets alone":        {func(n *testNode) { n.decide(1, allowedBy(backends.FromTicket)); n.decide(1, answer) }, nil},
		"two within a minute": {func(n *testNode) {
			n.decide(1, unverified)
			n.decide(1, answer)
			wait(gap - time.Second)
			n.decide(2, unverified)
		}, []int64{2}},
		"two more than a minute apart": {func(n *testNode) {
			n.decide(1, unverified)
			n.decide(1, answer)
			wait(gap + time.Second)
			n.decide(2, unverified)
			n.decide(3, unverified)
		}, []int64{2, 1}},
		"an hour without anybody": {func(n *testNode) {
			n.isDown.Store(true)
			n.decide(1, unverified)
			wait(time.Hour)
			n.decide(2, unverified)
		}, []int64{2}},
		"a session of the first that nobody can ask any more": {func(n *testNode) {
			n.isDown.Store(true)
			n.decide(1, unverified)
			wait(time.Minute)
			n.isDown.Store(false)
			wait(time.Hour)
			n.decide(2, unverified)
		}, []int64{1, 1}},
		"a viewer who comes back": {func(n *testNode) {
			n.isDown.Store(true)
			n.decide(1, unverified)
			n.decide(1, nil)
			wait(time.Minute)
			n.decide(1, unverified)
		}, []int64{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, stop := newCluster().node(t, "a")
				defer stop()
				test.act(n)
				var got []int64
				for _, r := range n.Reports(t.Context(), Filter{}).Reports {
					got = append(got, r.Sessions)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("sessions of the reports (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestTracker_Paused counts no time in which the viewer may not watch, and the answer that comes then.
func TestTracker_Paused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, stop := newCluster().node(t, "a")
		defer stop()
		n.decide(1, allowedBy(backends.FromFailOpen))
		wait(3 * time.Second)
		n.decide(1, deniedBy(backends.FromFailOpen, ""))
		wait(5 * time.Second)
		n.decide(1, allowedBy(backends.FromCached))
		n.decide(1, allowedBy(backends.FromFailOpen))
		wait(2 * time.Second)
		n.decide(1, &backends.Decision{Verdict: backends.Pending})
		wait(time.Second)
		n.decide(1, deniedBy(backends.FromLocal, ""))
		wantFigures(t, n.one(t).Figures, Figures{Sessions: 1, FailOpen: 1, UnverifiedSeconds: 5, FreeRides: 1, FreeRideSeconds: 5})
	})
}

// TestTracker_TokenExpired tells which sessions nobody can ask any more.
func TestTracker_TokenExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, stop := newCluster().node(t, "a")
		defer stop()
		n.isDown.Store(true)
		for i := range uint32(5) {
			n.opened.Store(idOf(i), time.Now().Add(-time.Duration(i)*time.Minute))
			n.decide(i, allowedBy(backends.FromFailOpen))
		}
		n.decide(9, allowedBy(backends.FromFailOpen)) // is not known to have been opened
		wait(tokenLife - 2*time.Minute)               // 3 and 4 are older now
		n.decide(4, nil)
		wait(time.Minute + time.Second) // 1 and 2 are, too
		n.decide(0, nil)
		n.decide(2, deniedBy(backends.FromBan, ""))
		want := Figures{
			Sessions: 6, FailOpen: 6, UnverifiedSeconds: 58*60 + 5*(59*60+1), Refused: 1, Unknown: 2, Unverified: 3, ExpiredTokens: 3,
		}
		r := n.one(t)
		wantFigures(t, r.Figures, want)
		if got, most := n.one(t), n.estimated(t); got.ExpiredTokens != most {
			t.Errorf("%d of a sample", most)
		}
	})
}

// estimated returns how many sessions cannot be asked any more, as a part says of which only a sample is known.
func (n *testNode) estimated(t *testing.T) int64 {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.current["portal"]
	o.sample.isFull = true
	defer func() { o.sample.isFull = false }()
	return n.part(o, time.Now()).Figures[expiredFigure]
}

// TestReports_TwoNodes merges what two nodes saw, of which one dies and comes back.
func TestReports_TwoNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stopA := c.node(t, "a")
		defer stopA()
		b, stopB := c.node(t, "b")
		unverified := allowedBy(backends.FromFailOpen)
		a.isDown.Store(true)
		b.isDown.Store(true)
		a.decide(1, unverified) // on both
		a.decide(2, unverified) // on a alone
		wait(2 * time.Second)
		b.decide(1, unverified)
		b.decide(3, unverified) // on b alone, and lost with it
		b.decide(4, unverified) // on b, and on it again
		a.sent.Store(idOf(1), int64(10))
		b.sent.Store(idOf(1), int64(20))
		wait(9 * time.Second) // b saves after 10
		c.kill("b", stopB)
		lost := a.one(t)
		wantFigures(t, lost.Figures, Figures{Sessions: 4, FailOpen: 4, UnverifiedSeconds: 11 + 11 + 8 + 8, Unknown: 2, Unverified: 2})
		b, stopB = c.node(t, "b")
		b.decide(4, unverified)
		wait(4 * time.Second)
		a.isDown.Store(false)
		a.decide(1, deniedBy(backends.FromBackend, "Ann"))
		a.decide(2, allowedBy(backends.FromBackend))
		b.decide(4, deniedBy(backends.FromBackend, "Ann"))
		stopB()
		wait(2 * time.Minute)
		r := a.one(t)
		wantFigures(t, r.Figures, Figures{
			Sessions: 4, FailOpen: 4, UnverifiedSeconds: 15 + 15 + 8 + 12, Verified: 1,
			FreeRides: 2, FreeRideSeconds: 15 + 12, Bytes: 30, Unknown: 1,
		})
		if r.IsRunning || r.ID != lost.ID || len(r.Nodes) != 2 || r.Nodes[0].Sessions != 2 || r.Nodes[1].Sessions != 3 {
			t.Errorf("report %+v", r)
		}
		if diff := cmp.Diff([]User{{User: "Ann", Count: 2, Seconds: 27, Bytes: 30}}, r.Users); diff != "" {
			t.Errorf("users (-want +got):\n%s", diff)
		}
	})
}

// TestReports_ManySessions estimates how many sessions several nodes saw.
func TestReports_ManySessions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stopA := c.node(t, "a")
		defer stopA()
		b, stopB := c.node(t, "b")
		defer stopB()
		const each, shared = 9000, 3000
		for i := range uint32(each) {
			a.decide(i, allowedBy(backends.FromFailOpen))
			b.decide(i+each-shared, allowedBy(backends.FromFailOpen))
		}
		wait(10 * time.Second)
		for i := range uint32(each) {
			a.decide(i, deniedBy(backends.FromBackend, "Ann"))
			b.decide(i+each-shared, deniedBy(backends.FromBackend, "Ann"))
		}
		wait(2 * time.Minute)
		r := a.one(t)
		near := func(what string, got, want float64) {
			if got < want*0.97 || got > want*1.03 {
				t.Errorf("%s: %v, want about %v", what, got, want)
			}
		}
		const all = 2*each - shared
		near("sessions", float64(r.Sessions), all)
		near("free rides", float64(r.FreeRides), all)
		near("seconds", r.FreeRideSeconds, 10*all)
		near("the user's seconds", r.Users[0].Seconds, 10*all)
		if !r.IsApproximate || r.Nodes[0].Sessions != each || r.Nodes[0].FreeRides != each || r.Nodes[1].FreeRideSeconds != 10*each {
			t.Errorf("report %+v", r)
		}
		var size int
		for part := range maps.Values(c.parts) {
			size = max(size, len(part))
		}
		if size > 64<<10 {
			t.Errorf("a part has %d bytes", size)
		}
	})
}

// TestReports_StoreUnavailable shows what the node itself knows, and stores it later.
func TestReports_StoreUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stop := c.node(t, "a")
		defer stop()
		c.isDown.Store(true)
		c.silent = []string{"b"}
		a.decide(1, allowedBy(backends.FromFailOpen))
		a.decide(1, deniedBy(backends.FromBackend, ""))
		wait(time.Hour)
		list := a.Reports(t.Context(), Filter{})
		if !list.IsIncomplete || len(list.Reports) != 1 || !cmp.Equal(list.UnreachableNodes, []string{"b"}) {
			t.Errorf("the list without the store: %+v", list)
		}
		c.isDown.Store(false)
		c.silent = nil
		wait(time.Minute)
		if list := a.Reports(t.Context(), Filter{}); list.IsIncomplete || len(list.Reports) != 1 {
			t.Errorf("the list afterwards: %+v", list)
		}
		if outages, _ := a.kept(); outages > 0 || len(c.parts) != 1 {
			t.Errorf("%d parts are stored, %d in memory", len(c.parts), outages)
		}
	})
}

// TestReports_Filter lists what was running in the time, and nothing that is older than the retention.
func TestReports_Filter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, stop := newCluster().node(t, "a")
		defer stop()
		start := time.Now()
		for i := range uint32(3) { // an hour each
			a.decide(i, allowedBy(backends.FromFailOpen))
			wait(time.Hour)
			a.decide(i, allowedBy(backends.FromBackend))
			wait(time.Hour)
		}
		at := func(d time.Duration) time.Time { return start.Add(d) }
		for name, test := range map[string]struct {
			filter Filter
			want   int
		}{
			"all":              {Filter{}, 3},
			"another backend":  {Filter{Backend: "billing"}, 0},
			"this backend":     {Filter{Backend: "portal"}, 3},
			"from its end on":  {Filter{From: at(time.Hour)}, 3},
			"after its end":    {Filter{From: at(time.Hour + 1)}, 2},
			"before its start": {Filter{To: at(4 * time.Hour)}, 2},
			"in between":       {Filter{From: at(90 * time.Minute), To: at(100 * time.Minute)}, 0},
			"while one runs":   {Filter{From: at(130 * time.Minute), To: at(140 * time.Minute)}, 1},
			"more than were":   {Filter{From: at(100 * time.Hour)}, 0},
		} {
			if got := a.Reports(t.Context(), test.filter).Reports; len(got) != test.want {
				t.Errorf("%s: %d reports, want %d", name, len(got), test.want)
			}
		}
		wait(24*time.Hour - 4*time.Hour)
		if got := a.Reports(t.Context(), Filter{}).Reports; len(got) != 2 {
			t.Errorf("%d reports once one is older than the retention, want 2", len(got))
		}
	})
}

// TestTracker_Outage_Long adds up more than 292 years of viewing: 20,000 sessions for 6 days.
func TestTracker_Outage_Long(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sessions, days = 20_000, 6 * 24 * time.Hour
		n, stop := newCluster().node(t, "a")
		stop() // each of its looks would look at all sessions
		n.isDown.Store(true)
		for id := range uint32(sessions) {
			n.decide(id, allowedBy(backends.FromFailOpen))
		}
		time.Sleep(days)
		want := Figures{Sessions: sessions, FailOpen: sessions, UnverifiedSeconds: sessions * days.Seconds(), Unverified: sessions}
		wantFigures(t, n.one(t).Figures, want)
		n.isDown.Store(false)
		for id := range uint32(sessions) {
			n.decide(id, deniedBy(backends.FromBackend, "Ann"))
		}
		want.Unverified, want.FreeRides, want.FreeRideSeconds = 0, sessions, want.UnverifiedSeconds
		wantFigures(t, n.one(t).Figures, want)
		for range 2 {
			n.tick(t.Context(), time.Now())
			time.Sleep(gap)
		}
		if log := n.log.String(); !strings.Contains(log, "free_ride_time=2562047h47m16") {
			t.Errorf("logged %s, want the longest duration", log)
		}
	})
}
