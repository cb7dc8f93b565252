package timeline_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/actors/timeline"
	"usher/backends"
)

func TestChange_Entry(t *testing.T) {
	t.Parallel()
	var (
		pending = backends.Decision{}
		allowed = backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, Reason: "paid"}
		denied  = backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "not paid"}
		cached  = backends.Decision{Verdict: backends.Allowed, Source: backends.FromCached, Reason: "paid"}
		open    = backends.Decision{Verdict: backends.Allowed, Source: backends.FromFailOpen, Reason: "no answer: timeout"}
		ticket  = backends.Decision{Verdict: backends.Allowed, Source: backends.FromTicket}
		spent   = backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: "token_life"}
		banned  = backends.Decision{Verdict: backends.Denied, Source: backends.FromBan, Reason: "banned: b1"}
		kicked  = session.Kicked("")
		evicted = backends.Decision{Verdict: backends.Denied, Source: backends.FromLimit, Reason: "limit"}
	)
	outage := session.TimerFired{Breaker: backends.BreakerOpen, Fallback: cached}
	found := func(d backends.Decision) session.LeaseResult {
		return session.LeaseResult{Found: true, Record: session.Record{Decision: d}}
	}
	// none is the trigger of what is no entry.
	const none = timeline.Trigger(255)
	entry := func(trigger timeline.Trigger, backend, err string) timeline.Entry {
		return timeline.Entry{Trigger: trigger, Backend: backend, Error: err}
	}
	tests := map[string]struct {
		change        timeline.Change
		before, after backends.Decision
		isOpening     bool
		want          timeline.Entry
	}{
		"a look-up that takes over a newer decision": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed)}, RevisedAfter: 2},
			before: allowed, after: allowed, want: entry(timeline.Lookup, "", ""),
		},
		"a look-up that brings another ticket alone": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed)}},
			before: allowed, after: allowed, want: entry(none, "", ""),
		},
		"a look-up that takes over a denial": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(denied)}},
			before: allowed, after: denied, want: entry(timeline.Lookup, "", ""),
		},
		"a look-up that finds a ban": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed), Refused: &banned}},
			before: allowed, after: banned, want: entry(timeline.Ban, "", ""),
		},
		"a look-up that finds a kick": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed), Refused: &kicked}},
			before: allowed, after: kicked, want: entry(timeline.Kick, "", ""),
		},
		"a look-up of an evicted session": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed), Refused: &evicted}},
			before: pending, after: evicted, isOpening: true, want: entry(timeline.Limit, "", ""),
		},
		"a look-up after which the backend cannot be asked": {
			change: timeline.Change{
				Event: &session.LeaseAnswered{LeaseResult: found(allowed), Timer: outage}, Failure: backends.FailureBreakerOpen,
			},
			before: allowed, after: cached, want: entry(timeline.Expiry, "portal", "breaker-open"),
		},
		"a look-up after which the token is spent": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed)}},
			before: allowed, after: spent, want: entry(timeline.Expiry, "", ""),
		},
		"an opening that the store decides": {
			change: timeline.Change{Event: &session.LeaseAnswered{LeaseResult: found(allowed)}},
			before: pending, after: allowed, isOpening: true, want: entry(timeline.Lookup, "", ""),
		},
		"an opening by ticket, as the store is away": {
			change: timeline.Change{Event: &session.LeaseAnswered{IsUnavailable: true}},
			before: pending, after: ticket, isOpening: true, want: entry(timeline.Opening, "", "redis is unavailable"),
		},
		"an expiry in an outage": {
			change: timeline.Change{Event: outage, Failure: backends.FailureBreakerOpen},
			before: allowed, after: cached, want: entry(timeline.Expiry, "portal", "breaker-open"),
		},
		"an expiry of the token": {
			change: timeline.Change{Event: session.TimerFired{Breaker: backends.BreakerOpen, Fallback: cached}},
			before: allowed, after: spent, want: entry(timeline.Expiry, "", ""),
		},
		"a slot after the token is spent": {
			change: timeline.Change{Event: session.RecheckGranted{}}, before: allowed, after: spent, want: entry(timeline.Expiry, "", ""),
		},
		"a viewer who has waited for the backend": {
			change: timeline.Change{Event: session.WaitExpired{IsFailure: true}, Failure: backends.FailureTimeout},
			before: pending, after: open, isOpening: true, want: entry(timeline.Opening, "portal", "timeout"),
		},
		"a viewer who has waited for a queue": {
			change: timeline.Change{Event: session.WaitExpired{}}, before: pending, after: pending, isOpening: true,
			want: entry(timeline.Opening, "", ""),
		},
		"a kick":           {change: revoked(session.RevokedKicked), before: allowed, after: kicked, want: entry(timeline.Kick, "", "")},
		"a kick's ban":     {change: revoked(session.RevokedBanned), before: allowed, after: kicked, want: entry(timeline.Kick, "", "")},
		"the ban after it": {change: revoked(session.RevokedBanned), before: kicked, after: kicked, want: entry(none, "", "")},
		"a ban":            {change: revoked(session.RevokedBanned), before: allowed, after: banned, want: entry(timeline.Ban, "", "")},
		"a limit":          {change: revoked(session.RevokedEvicted), before: allowed, after: evicted, want: entry(timeline.Limit, "", "")},
		"another channel":  {change: revoked(session.RevokedSuperseded), before: allowed, after: evicted, want: entry(timeline.Superseded, "", "")},
		"a denial of another node": {
			change: revoked(session.RevokedDenied), before: allowed, after: denied, want: entry(timeline.Revocation, "", ""),
		},
		"an answer to a request that waits": {
			change: timeline.Change{Event: session.OpenRequested{}}, before: allowed, after: allowed, want: entry(none, "", ""),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := test.change
			c.Before, c.After, c.WasOpening = &test.before, &test.after, test.isOpening
			if _, isEntry := c.Entry("portal"); isEntry {
				t.Error("an entry of what was not published")
			}
			c.IsPublished = true
			got, isEntry := c.Entry("portal")
			if isEntry != (test.want.Trigger != none) {
				t.Fatalf("is an entry: %t, %+v", isEntry, got)
			}
			if !isEntry {
				return
			}
			want := test.want
			want.Verdict, want.Source, want.Reason = test.after.Verdict, test.after.Source, test.after.Reason
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
		})
	}
}

func revoked(k session.RevocationKind) timeline.Change {
	return timeline.Change{Event: session.Revoked{Kind: k}}
}

func TestAnswered_Error_WithoutOwnBackend(t *testing.T) {
	t.Parallel()
	refused := errors.New("connection refused")
	tests := map[string]struct {
		failure *backends.Failure
		want    string
	}{
		"an answer":           {nil, ""},
		"its own failure":     {&backends.Failure{Kind: backends.FailureTransport, Backend: "portal", Err: refused}, "transport: connection refused"},
		"a status":            {&backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 502}, "status 502"},
		"that of its members": {&backends.Failure{Kind: backends.FailureTimeout, Backend: "other"}, `check backend "other": timeout`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := backends.Decision{Verdict: backends.Allowed, Source: backends.FromCached, Reason: "paid"}
			got := timeline.Answered(timeline.Recheck, "portal", time.Second, &d, test.failure)
			want := timeline.Entry{
				Trigger: timeline.Recheck, Backend: "portal", Duration: time.Second, Verdict: backends.Allowed, Source: backends.FromCached,
				Reason: "paid", Error: test.want,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
		})
	}
}
