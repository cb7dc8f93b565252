package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"usher/actors/session"
	"usher/backends"
)

// wantLines requires lines of a scrape.
func wantLines(t *testing.T, o Options, lines ...string) {
	t.Helper()
	got := ownSeries(scrape(t, Handler(Config{}, o)).Body.String())
	for _, line := range lines {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
}

// recorderOptions are those of a node of which only the recorder matters.
func recorderOptions(m *Recorder) Options {
	o := newFakeNode().options()
	o.Recorder = m
	return o
}

// TestRecorder_Decided_Evictions counts a session that played until the streams of its user ended it, by the reason, and nothing
// else that a limit says.
func TestRecorder_Decided_Evictions(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.AddRoute("/a", "portal")
	m.AddRoute("/b", "portal")
	a, b := &backends.Request{Route: "/a", Backend: "portal"}, &backends.Request{Route: "/b", Backend: "portal"}
	allowed := &backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}
	unverified := &backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen}
	denied := func(s backends.Source, reason string) *backends.Decision {
		return &backends.Decision{Verdict: backends.Denied, Source: s, Reason: reason}
	}
	evicted, superseded := denied(backends.FromLimit, "the user watches as many streams as allowed"), denied(backends.FromLimit, backends.ReasonSuperseded)
	for _, step := range []struct {
		r             *backends.Request
		before, after *backends.Decision
	}{
		{a, nil, allowed},
		{a, allowed, evicted},
		{a, evicted, evicted}, // told by another node too
		{a, evicted, allowed},
		{a, allowed, evicted},
		{a, evicted, nil},
		{a, unverified, superseded},
		{a, superseded, nil},
		{a, nil, evicted}, // refused when it opened
		{b, allowed, denied(backends.FromBackend, backends.ReasonSuperseded)},
		{b, allowed, denied(backends.FromBan, "")},
		{b, allowed, nil},
	} {
		m.Decided(step.r, step.before, step.after)
	}
	wantLines(t, recorderOptions(m),
		`usher_stream_evictions_total{reason="limit",route="/a"} 2`,
		`usher_stream_evictions_total{reason="superseded",route="/a"} 1`,
		`usher_stream_evictions_total{reason="limit",route="/b"} 0`,
		`usher_stream_evictions_total{reason="superseded",route="/b"} 0`,
	)
}

// TestRecorder_Moved moves a session to another backend: it counts there, and nothing was decided.
func TestRecorder_Moved(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.AddRoute("/a", "portal")
	m.AddRoute("/a", "second")
	denied := &backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend}
	m.Decided(&backends.Request{Route: "/a", Backend: "portal"}, nil, denied)
	m.Moved(&backends.Request{Route: "/a", Backend: "second"}, "portal", denied)
	wantLines(t, recorderOptions(m),
		`usher_sessions{backend="portal",route="/a",state="denied"} 0`,
		`usher_sessions{backend="second",route="/a",state="denied"} 1`,
		`usher_decisions_total{backend="portal",route="/a",source="backend",verdict="denied"} 1`,
		`usher_decisions_total{backend="second",route="/a",source="backend",verdict="denied"} 0`,
	)
}

// TestRecorder_TokenExpired counts the unverified sessions of a backend that have an expired token.
func TestRecorder_TokenExpired(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.AddRoute("/a", "portal")
	for _, sessions := range []int{1, 1, -1, 1} {
		m.TokenExpired("portal", sessions)
	}
	wantLines(t, recorderOptions(m), `usher_sessions_token_expired{backend="portal"} 2`)
}

func TestRecorder_Rechecks(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.AddBackend("portal")
	m.AddBackend("other")
	for _, d := range []*backends.Decision{
		{Verdict: backends.Allowed, Source: backends.FromBackend},
		{Verdict: backends.Allowed, Source: backends.FromLocal},
		{Verdict: backends.Denied, Source: backends.FromBackend},
		{Verdict: backends.Denied, Source: backends.FromLimit},
		{Verdict: backends.Allowed, Source: backends.FromCached},
		{Verdict: backends.Denied, Source: backends.FromFailOpen},
		{Verdict: backends.Pending},
		nil,
	} {
		m.RecheckDue("portal")
		m.RecheckGranted("portal", 2*time.Second)
		m.Rechecked("portal", d)
	}
	m.RecheckDue("portal")
	wantLines(t, recorderOptions(m),
		`usher_backend_rechecks_due_total{backend="other"} 0`,
		`usher_backend_rechecks_due_total{backend="portal"} 9`,
		`usher_backend_rechecks_total{backend="other",outcome="allowed"} 0`,
		`usher_backend_rechecks_total{backend="other",outcome="denied"} 0`,
		`usher_backend_rechecks_total{backend="other",outcome="failed"} 0`,
		`usher_backend_rechecks_total{backend="other",outcome="unneeded"} 0`,
		`usher_backend_rechecks_total{backend="portal",outcome="allowed"} 2`,
		`usher_backend_rechecks_total{backend="portal",outcome="denied"} 2`,
		`usher_backend_rechecks_total{backend="portal",outcome="failed"} 3`,
		`usher_backend_rechecks_total{backend="portal",outcome="unneeded"} 1`,
		`usher_backend_recheck_delay_seconds_bucket{backend="portal",le="1"} 0`,
		`usher_backend_recheck_delay_seconds_bucket{backend="portal",le="5"} 8`,
		`usher_backend_recheck_delay_seconds_sum{backend="portal"} 16`,
		`usher_backend_recheck_delay_seconds_count{backend="other"} 0`,
	)
}

// TestRecorder_RevocationReceived clamps what a clock that went back would make negative.
func TestRecorder_RevocationReceived(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.RevocationReceived(session.RevokedKicked, -time.Second)
	m.RevocationReceived(session.RevokedKicked, 150*time.Millisecond)
	wantLines(t, recorderOptions(m),
		`usher_revocation_delay_seconds_bucket{kind="kicked",le="0.001"} 1`,
		`usher_revocation_delay_seconds_bucket{kind="kicked",le="0.1"} 1`,
		`usher_revocation_delay_seconds_bucket{kind="kicked",le="0.2"} 2`,
		`usher_revocation_delay_seconds_sum{kind="kicked"} 0.15`,
		`usher_revocation_delay_seconds_count{kind="banned"} 0`,
		`usher_revocation_delay_seconds_count{kind="unbanned"} 0`,
		`usher_revocation_delay_seconds_count{kind="denied"} 0`,
		`usher_revocation_delay_seconds_count{kind="evicted"} 0`,
		`usher_revocation_delay_seconds_count{kind="superseded"} 0`,
	)
}

func TestRecorder_RedisCalled(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.RedisCalled("acquire_lease", "ok", 700*time.Microsecond)
	m.RedisCalled("acquire_lease", "ok", 30*time.Millisecond)
	m.RedisCalled("publish", "unavailable", time.Second)
	wantLines(t, recorderOptions(m),
		`usher_redis_call_duration_seconds_bucket{operation="acquire_lease",outcome="ok",le="0.001"} 1`,
		`usher_redis_call_duration_seconds_count{operation="acquire_lease",outcome="ok"} 2`,
		`usher_redis_call_duration_seconds_count{operation="acquire_lease",outcome="unavailable"} 0`,
		`usher_redis_call_duration_seconds_count{operation="publish",outcome="unavailable"} 1`,
	)
}

// TestRecorder_AddRoute_BeginsAtZero has a value of each counter of a route and a backend before anything happens.
func TestRecorder_AddRoute_BeginsAtZero(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.AddBackend("portal")
	m.AddRoute("/a", "portal")
	m.AddRoute("/a", "portal") // a reload
	m.AddBound("sessions.max")
	wantLines(t, recorderOptions(m),
		`usher_backend_breaker_transitions_total{backend="portal",state="open"} 0`,
		`usher_decisions_total{backend="portal",route="/a",source="backend",verdict="denied"} 0`,
		`usher_decisions_total{backend="portal",route="/a",source="operator",verdict="denied"} 0`,
		`usher_decisions_total{backend="portal",route="/a",source="fail-open",verdict="allowed"} 0`,
		`usher_free_rides_total{backend="portal",route="/a"} 0`,
		`usher_free_ride_seconds_total{backend="portal",route="/a"} 0`,
		`usher_sessions{backend="portal",route="/a",state="unverified"} 0`,
		`usher_sessions_token_expired{backend="portal"} 0`,
		`usher_refusals_total{reason="no_ticket",route="/a"} 0`,
		`usher_refusals_total{reason="bad_ticket",route="/a"} 0`,
		`usher_refusals_total{reason="unknown_key",route="/a"} 0`,
		`usher_refusals_total{reason="ticket",route="/a"} 0`,
		`usher_refusals_total{reason="addresses",route="/a"} 0`,
		`usher_overloads_total{setting="sessions.max"} 0`,
	)
}

func TestRecorder_PassesLint(t *testing.T) {
	t.Parallel()
	m := NewRecorder()
	m.AddBackend("portal")
	m.AddRoute("/a", "portal")
	m.Overloaded("sessions.max")
	m.RedisCalled("publish", "ok", time.Millisecond)
	m.OnCall("portal")(backends.Decision{Verdict: backends.Allowed}, nil, time.Millisecond)
	m.Waited(&backends.Request{Route: "/a", Backend: "portal"}, &backends.Decision{}, time.Millisecond)
	o := recorderOptions(m)
	o.Cache = func() CacheState { return CacheState{} }
	problems, err := promlint.New(scrape(t, Handler(Config{}, o)).Body).Lint()
	if err != nil {
		t.Fatalf("read the scrape: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestCacheCollector_Scrape(t *testing.T) {
	t.Parallel()
	o := newFakeNode().options()
	o.Cache = func() CacheState {
		return CacheState{Entries: 3, StoredBytes: 4096, InFlightBytes: 512, Max: 1 << 30, Evictions: 7}
	}
	wantLines(t, o,
		`usher_cache_bytes{state="stored"} 4096`, `usher_cache_bytes{state="in_flight"} 512`,
		`usher_cache_max_bytes 1.073741824e+09`, `usher_cache_entries 3`, `usher_cache_evictions_total 7`,
	)
}
