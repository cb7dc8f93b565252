package session

import (
	"testing"
)

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
		"it was banned":                      {Record{Opened: t0(), Decision: yes()}, "allowed/backend,denied/ban", closedDenied},
		"it was banned, and played again":    {Record{Opened: t0(), Decision: yes()}, "denied/ban,allowed/backend", ClosedIdle},
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
