package freerides

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
)

// TestReports_SilentNode takes a node that does not answer for alive for a minute after it wrote its part, and one that all know
// to be gone for gone.
func TestReports_SilentNode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		silent []string
		after  time.Duration
		want   bool
	}{
		"gone":                {nil, time.Second, false},
		"silent":              {[]string{"b"}, gap - time.Second, true},
		"silent for too long": {[]string{"b"}, gap, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				a, stopA := c.node(t, "a")
				defer stopA()
				b, stopB := c.node(t, "b")
				b.decide(1, allowedBy(backends.FromFailOpen))
				wait(10 * time.Second) // b saves
				c.kill("b", stopB)
				c.silent = test.silent
				wait(test.after)
				if got := a.one(t); got.IsRunning != test.want || got.Unverified+got.Unknown != 1 {
					t.Errorf("running: %t, want %t: %+v", got.IsRunning, test.want, got)
				}
			})
		})
	}
}

// TestTracker_LeftInOrder ends the part of a node that stops, while no node is missed.
func TestTracker_LeftInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stopA := c.node(t, "a")
		defer stopA()
		b, stopB := c.node(t, "b")
		b.decide(1, allowedBy(backends.FromFailOpen))
		wait(3 * time.Second)
		stopB()
		c.silent = []string{"another"}
		wantFigures(t, a.one(t).Figures, Figures{Sessions: 1, FailOpen: 1, UnverifiedSeconds: 3, Unknown: 1})
	})
}

// TestTracker_Bounded keeps no more outages in memory than are listed, the newest ones.
func TestTracker_Bounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, stop := c.node(t, "a")
		defer stop()
		c.isDown.Store(true)
		for i := range uint32(maxReports + 7) {
			a.decide(i, allowedBy(backends.FromFailOpen))
			a.decide(i, allowedBy(backends.FromBackend))
			wait(2 * gap)
			if i == 3 {
				a.Decided(&backends.Request{Session: idOf(9999), Backend: "billing"}, nil, allowedBy(backends.FromFailOpen))
			}
		}
		if got, _ := a.kept(); got != maxReports+1 {
			t.Errorf("%d outages are in memory, want %d of one backend and one of the other", got, maxReports)
		}
		list := a.Reports(t.Context(), Filter{Backend: "portal"}).Reports
		newest := time.Now().Add(-2 * gap).Truncate(time.Minute)
		if len(list) != maxReports || !list[0].Started.Equal(newest) {
			t.Errorf("%d reports, the newest of %v; want %d and %v", len(list), list[0].Started, maxReports, newest)
		}
	})
}

// TestTracker_Idle lets the store delete what is too old once an hour, and calls it no more often without an outage.
func TestTracker_Idle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		_, stop := c.node(t, "a")
		defer stop()
		wait(time.Hour - time.Second)
		before := c.reads.Load()
		wait(2 * time.Second)
		if after := c.reads.Load(); before != 0 || after != 2 {
			t.Errorf("%d reads within an hour and %d after it, want none and one of each backend", before, after)
		}
	})
}

func TestUsers_Bound(t *testing.T) {
	t.Parallel()
	u := users{}
	for i := range int64(maxUsers) {
		u.add(cost{User: fmt.Sprint(i), Sessions: 1, Time: i, Bytes: 2})
		u.bound()
	}
	if len(u) != maxUsers {
		t.Errorf("%d users are kept, want all", len(u))
	}
	u.add(cost{Session: "0", Sessions: 1, Time: 1 << 30, Bytes: 2}) // another than user 0
	u.add(cost{User: "999", Sessions: 1, Time: 1, Bytes: 2})
	u.bound()
	want := []cost{{Session: "0", Sessions: 1, Time: 1 << 30, Bytes: 2}, {User: "999", Sessions: 2, Time: 1000, Bytes: 4}, {User: "998", Sessions: 1, Time: 998, Bytes: 2}}
	if got := u.worst(3); len(u) != maxUsers/2 || !slices.Equal(got, want) {
		t.Errorf("%d users are kept, the worst are %+v", len(u), got)
	}
}

// TestSample_Add keeps the smallest ids, in whatever order they come.
func TestSample_Add(t *testing.T) {
	t.Parallel()
	ids := make([]backends.SessionID, 3*sampleSize)
	for i := range ids {
		ids[i] = idOf(uint32(i))
	}
	s := newSample()
	for i, id := range ids {
		s.add(id)
		if isFull := i >= sampleSize; s.isFull != isFull {
			t.Fatalf("after %d sessions: there are others: %t", i+1, s.isFull)
		}
	}
	slices.SortFunc(ids, func(a, b backends.SessionID) int { return slices.Compare(a[:], b[:]) })
	for i, id := range ids {
		if isKept := s.find(id) != nil; isKept != (i < sampleSize) {
			t.Errorf("the session at %d of %d: kept: %t", i, len(ids), isKept)
		}
	}
}

// TestMerged_Merge_Sampled estimates, from the ids up to which both samples are whole, how much two nodes saw together.
func TestMerged_Merge_Sampled(t *testing.T) {
	t.Parallel()
	ride := func(id byte, bytes int64) entry {
		return entry{
			ID: backends.SessionID{id}, First: 1000, Last: 2000, Unverified: 1000, Bytes: bytes, Figure: failOpenFigure, Outcome: outcomeFreeRide, User: "Ann",
		}
	}
	sums := func(sessions, bytes int64) (f figures) {
		f[sessionsFigure], f[failOpenFigure], f[freeRidesFigure] = sessions, sessions, sessions
		f[unverifiedTimeFigure], f[freeRideTimeFigure], f[freeRideBytesFigure] = 1000*sessions, 1000*sessions, bytes
		return f
	}
	whole := &part{Sample: []entry{ride(1, 10), ride(2, 10), ride(3, 10), ride(9, 10)}, Figures: sums(4, 40)}
	sampled := &part{
		Sample: []entry{ride(3, 30), ride(4, 30), ride(5, 30)}, IsSampled: true, Figures: sums(6, 180),
		Users: []cost{{User: "Ann", Sessions: 6, Time: 6000, Bytes: 180}},
	}
	var m merged
	m.merge([]*part{whole, sampled})
	// Up to the id 5 there are 6 sessions on the nodes, and 5 in all. So 10 sessions on the nodes are 8.3.
	want := sums(8, 220)
	want[unverifiedTimeFigure], want[freeRideTimeFigure] = 8333, 8333
	if m.figures != want || !m.isEstimated {
		t.Errorf("figures %v, want %v", m.figures, want)
	}
	if got, want := m.users.worst(9), []cost{{User: "Ann", Sessions: 3 + 5, Time: 3333 + 5000, Bytes: 220}}; !slices.Equal(got, want) {
		t.Errorf("users %+v, want %+v", got, want)
	}
	var alone merged
	if alone.merge([]*part{sampled}); alone.figures != sampled.Figures || alone.isEstimated || !slices.Equal(alone.users.worst(9), sampled.Users) {
		t.Errorf("alone: %v %+v", alone.figures, alone.users.worst(9))
	}
}

func TestDecodePart_Invalid_Error(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]entry{
		"an outcome that this version does not know": {Outcome: numOutcomes, Figure: cachedFigure},
		"a source that this version does not know":   {Outcome: outcomeOpen, Figure: sessionsFigure},
	} {
		p := part{Sample: []entry{{Figure: ticketFigure}, {Figure: failOpenFigure}, e}}
		if _, err := decodePart(p.encode()); err == nil {
			t.Errorf("%s is no error", name)
		}
		p.Sample = p.Sample[:2]
		if _, err := decodePart(p.encode()); err != nil {
			t.Errorf("without it: %v", err)
		}
	}
}
