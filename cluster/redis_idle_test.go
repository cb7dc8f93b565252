package cluster

import (
	"log/slog"
	"syscall"
	"testing"
	"time"

	"usher/actors/session"
	"usher/cluster/redistest"
)

// TestRedis_ExpireIdle_AfterOutage has viewers play through an outage in which no node could report them. Nobody closes their
// sessions before each node has had the time to report them.
func TestRedis_ExpireIdle_AfterOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := testConfig(server)
	c.RedisTimeout = time.Second
	a, b := newStore(t, c, slog.New(slog.DiscardHandler)), newStore(t, c, slog.New(slog.DiscardHandler))
	p := closingPair{storePair{t, a, b}, server}
	p.save(a, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
	p.seen(a, closingIdle+c.HeartbeatInterval/2) // by a node that noticed the outage half a heartbeat before this one
	server.Signal(syscall.SIGSTOP)
	for _, s := range []*Redis{a, b} {
		awaitRedisDown(t, s, s.IsDown)
	}
	server.Signal(syscall.SIGCONT)
	for _, s := range []*Redis{a, b} {
		redistest.Eventually(t, "redis has recovered", func() bool { return !s.IsDown() })
		if closed := p.expire(s); len(closed) != 0 {
			t.Errorf("closed %+v before its node could report it", closed)
		}
	}
	// Once that time is over the session is closed, if nobody has seen it since.
	closed, err := a.ExpireIdle(t.Context(), time.Nanosecond, 10)
	if must(t, err); len(closed) != 1 {
		t.Errorf("closed %+v, want the session", closed)
	}
}

// TestRedis_ExpireIdle_ShortOutage closes a session right after a short outage that nobody had seen for long before it: outages that come
// again and again end no closing.
func TestRedis_ExpireIdle_ShortOutage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := testConfig(server)
	c.RedisTimeout = time.Second
	s := newStore(t, c, slog.New(slog.DiscardHandler))
	p := closingPair{storePair{t, s, s}, server}
	p.save(s, allowedRecord(1, openedAgo(5)), false, session.OutcomeStored)
	p.seen(s, time.Hour)
	server.Signal(syscall.SIGSTOP)
	awaitRedisDown(t, s, s.IsDown)
	server.Signal(syscall.SIGCONT)
	redistest.Eventually(t, "redis has recovered", func() bool { return !s.IsDown() })
	if closed := p.expire(s); len(closed) != 1 {
		t.Errorf("closed %+v, want the session", closed)
	}
}

// TestInterruption_Add joins outages between which nodes had no time to report all sessions.
func TestInterruption_Add(t *testing.T) {
	t.Parallel()
	const pause = 40 * time.Second
	start := time.Now()
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	for name, test := range map[string]struct {
		outages [][2]int // when each began and ended
		want    time.Duration
	}{
		"one":                       {[][2]int{{10, 13}}, 3 * time.Second},
		"the same again":            {[][2]int{{10, 13}, {10, 13}}, 3 * time.Second},
		"two, far apart":            {[][2]int{{10, 13}, {53, 54}}, time.Second},
		"two, close to each other":  {[][2]int{{10, 13}, {52, 54}}, 44 * time.Second},
		"a chain of more":           {[][2]int{{10, 13}, {40, 41}, {80, 81}}, 71 * time.Second},
		"an earlier one comes late": {[][2]int{{53, 54}, {10, 13}}, time.Second},
	} {
		var i interruption
		var got time.Duration
		for _, o := range test.outages {
			got, _ = i.add(at(o[0]), at(o[1]), pause)
		}
		if got != test.want {
			t.Errorf("%s: took %v, want %v", name, got, test.want)
		}
	}
}

// TestRedis_RecordHeartbeats_WhileClosing_Unknown has a viewer return while another node closes the session. Their node learns of it
// and stores the session again, so that what it counts from then on has a record too.
func TestRedis_RecordHeartbeats_WhileClosing_Unknown(t *testing.T) {
	t.Parallel()
	p := newClosingPair(t)
	heartbeat := func(ago time.Duration) int {
		t.Helper()
		unknown, err := p.a.RecordHeartbeats(t.Context(), []session.Heartbeat{{ID: idOf(1), LastSeen: time.Now().Add(-ago)}})
		must(t, err)
		return len(unknown)
	}
	r := withRevision(p.lease(p.a, 1, 0), allowedRecord(1, openedAgo(5)))
	p.save(p.a, r, false, session.OutcomeStored)
	p.report(p.a, 3)
	p.seen(p.a, 2*closingIdle)
	closed := p.one(p.b, 3)
	if got := heartbeat(2 * closingIdle); got != 0 {
		t.Errorf("%d are unknown, though nobody has seen the viewer since", got)
	}
	if got := heartbeat(0); got != 1 {
		t.Errorf("%d are unknown, want the session that is closed now", got)
	}
	if got := heartbeat(0); got != 0 {
		t.Errorf("%d are unknown again", got)
	}
	p.save(p.a, r, false, session.OutcomeStored)
	must(t, p.b.ConfirmClosed(t.Context(), []session.ClosingRecord{closed}))
	p.report(p.a, 5)
	p.age()
	p.one(p.b, 5)
}
