package session

import (
	"testing"
	"time"

	"usher/backends"
)

// TestRecord_IsSame compares what the store holds of a session, and leaves out what is stored beside it.
func TestRecord_IsSame(t *testing.T) {
	t.Parallel()
	record := Record{ID: backends.SessionID{1}, Opened: t0(), KeyID: "a", Decision: yes(), Request: new(backends.Request), Trace: "00-a-b-01"}
	for name, test := range map[string]struct {
		change func(r *Record)
		want   bool
	}{
		"the same":               {func(*Record) {}, true},
		"its time in other form": {func(r *Record) { r.Opened = r.Opened.In(time.FixedZone("", 3600)) }, true},
		"renewed": {func(r *Record) {
			r.CheckNumber, r.Expires, r.Revision, r.IsClosed = 7, t0().Add(time.Hour), 9, true
		}, true},
		"of another session":     {func(r *Record) { r.ID[1] = 1 }, false},
		"opened at another time": {func(r *Record) { r.Opened = r.Opened.Add(time.Second) }, false},
		"signed by another key":  {func(r *Record) { r.KeyID = "b" }, false},
		"with another decision":  {func(r *Record) { r.Decision.UserID = "another" }, false},
		"with another request":   {func(r *Record) { r.Request = new(backends.Request) }, false},
		"without a request":      {func(r *Record) { r.Request = nil }, false},
		"of another trace":       {func(r *Record) { r.Trace = "" }, false},
	} {
		other := record
		if test.change(&other); record.IsSame(&other) != test.want || other.IsSame(&record) != test.want {
			t.Errorf("%s: want %t", name, test.want)
		}
	}
}

// TestClosingRecord_Reason shows why a session counts as ended that no node has any more.
func TestClosingRecord_Reason(t *testing.T) {
	t.Parallel()
	evicted := Record{Opened: t0(), Decision: yes(), IsEvicted: true}
	revoked := Record{Opened: t0(), Decision: yes(), RevokedBefore: t0()}
	for name, test := range map[string]struct {
		record  Record
		history string
		want    CloseReason
	}{
		"it was denied":                      {Record{Opened: t0(), Decision: no()}, "allowed/backend,denied/backend", closedDenied},
		"its user's limit evicted it":        {evicted, "allowed/backend", closedDenied},
		"its viewer left":                    {Record{Opened: t0(), Decision: yes()}, "allowed/backend", ClosedIdle},
		"its viewer plays another channel":   {revoked, "allowed/backend,denied/limit", closedSuperseded},
		"its ticket was revoked":             {revoked, "allowed/backend", closedDenied},
		"its limit denied it, a kick later":  {revoked, "allowed/backend,denied/limit,denied/operator", closedDenied},
		"it was opened anew, its limit once": {Record{Opened: in(1e9), Decision: yes(), RevokedBefore: t0()}, "denied/limit", ClosedIdle},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := ClosingRecord{Record: test.record, Counters: Counters{History: test.history}}
			if got := c.Reason(); got != test.want {
				t.Errorf("reason %v, want %v", got, test.want)
			}
		})
	}
}
