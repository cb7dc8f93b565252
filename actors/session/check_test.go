package session

import (
	"testing"
	"time"

	"usher/backends"
)

// TestStep_BackendAnswered_Validity shows until when an answer holds, and which revision the session has after it.
func TestStep_BackendAnswered_Validity(t *testing.T) {
	t.Parallel()
	const now, lease, old = 20 * time.Second, 7, 5
	forAnHour := yes()
	forAnHour.ValidFor = time.Hour
	for name, test := range map[string]struct {
		event    BackendAnswered
		lease    uint64
		until    time.Duration
		revision uint64
	}{
		"an answer of the backend":            {BackendAnswered{Decision: yes()}, lease, now + 3*time.Minute, lease},
		"an answer that says how long":        {BackendAnswered{Decision: forAnHour}, lease, now + time.Hour, lease},
		"an answer without a lease":           {BackendAnswered{Decision: yes()}, 0, now + 3*time.Minute, old},
		"the outage policy's":                 {BackendAnswered{Decision: letIn()}, lease, now + 10*time.Second, old},
		"the outage policy's while it's down": {BackendAnswered{Decision: letIn(), IsBackendDown: true}, lease, now + 10*time.Second, old},
		"no answer":                           {BackendAnswered{Decision: backends.Decision{Source: backends.FromBackend}}, lease, 0, old},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(openingChecking)
			s.Revision, s.LeaseRevision = old, test.lease
			s.step(test.event, now)
			if s.Decision.Verdict == backends.Allowed && s.ValidUntil != test.until {
				t.Errorf("valid until %v after the start, want %v", s.ValidUntil, test.until)
			}
			if s.Revision != test.revision {
				t.Errorf("got revision %d, want %d", s.Revision, test.revision)
			}
		})
	}
}

// TestStep_LeaseAnswered_NewerRecord_Credentials shows that credentials, once known to the session or to the store, stay known.
func TestStep_LeaseAnswered_NewerRecord_Credentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ofSession, ofRecord, want bool
	}{
		"the session's": {true, false, true},
		"the record's":  {false, true, true},
		"both":          {true, true, true},
		"neither":       {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionIn(allowedLooking)
			s.HasCredentials = test.ofSession
			r := Record{Revision: s.Revision + 1, Decision: yes(), Expires: in(time.Hour)}
			if test.ofRecord {
				r.Request = &backends.Request{}
			}
			s.step(LeaseAnswered{Kind: LookupOnly, LeaseResult: LeaseResult{Found: true, Record: r}}, time.Minute)
			if s.Revision != r.Revision || s.HasCredentials != test.want {
				t.Errorf("got revision %d and credentials %t, want %d and %t", s.Revision, s.HasCredentials, r.Revision, test.want)
			}
			if s.ValidUntil != time.Hour {
				t.Errorf("valid until %v after the start, want what the record says, 1h", s.ValidUntil)
			}
		})
	}
}
