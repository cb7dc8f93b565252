package scenario

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/rig"
)

var errRestart = errors.New("node 1 does not start")

// TestRunner_BreakThings has restarts that take 15 s, and one of node 1 that fails after 20 s.
func TestRunner_BreakThings(t *testing.T) {
	t.Parallel()
	at := func(from, to float64, what string) result.Fault { return result.Fault{Name: what, From: from, To: to} }
	tests := map[string]struct {
		faults string
		want   []result.Fault
		err    string
		ended  time.Duration
	}{
		"another fault during a restart": {
			"{ at: 10s, fault: node restart all }, { at: 12s, for: 8s, fault: middleware hang }",
			[]result.Fault{at(10, 25, "node restart all"), at(12, 20, "middleware hang")},
			"", 25 * time.Second,
		},
		"a restart that takes longer than planned": {
			"{ at: 10s, for: 5s, fault: node restart all }, { at: 16s, for: 2s, fault: origin hang }",
			[]result.Fault{at(10, 25, "node restart all"), at(16, 18, "origin hang")},
			"", 25 * time.Second,
		},
		"a restart that takes less long": {
			"{ at: 10s, for: 30s, fault: node restart all }",
			[]result.Fault{at(10, 40, "node restart all")},
			"", 40 * time.Second,
		},
		"two restarts of a node": {
			"{ at: 10s, fault: node restart all }, { at: 12s, fault: node restart 2 }",
			[]result.Fault{at(10, 25, "node restart all"), at(25, 40, "node restart 2")},
			"", 40 * time.Second,
		},
		"a node that still restarts": {
			"{ at: 10s, fault: node restart all }, { at: 20s, for: 8s, fault: node stop 1 }",
			[]result.Fault{at(10, 25, "node restart all"), at(25, 28, "node stop 1")},
			"", 28 * time.Second,
		},
		"no time left": {
			"{ at: 10s, fault: node restart all }, { at: 12s, for: 8s, fault: node stop 1 }",
			[]result.Fault{at(10, 25, "node restart all")},
			`fault "node stop 1": at 12s for 8s: could not begin before 25s, because others took so long; have it begin later, or last longer`,
			25 * time.Second,
		},
		"a restart that fails": {
			"{ at: 10s, fault: node restart 1 }, { at: 12s, for: 30s, fault: middleware hang }, { at: 50s, for: 1s, fault: origin hang }",
			[]result.Fault{at(10, 30, "node restart 1"), at(12, 30, "middleware hang")},
			errRestart.Error(), 30 * time.Second,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse("f.yaml", []byte("shows: a\nfor: 60s\nnodes: 3\nredis: true\nfaults: ["+tt.faults+"]"))
			if err == nil {
				err = s.Validate()
			}
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				r := &runner{scenario: s, recorder: record.New(begun)}
				if r.events, err = s.events(beginFault); err != nil {
					t.Fatal(err)
				}
				err := r.breakThings(t.Context())
				if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
					t.Errorf("got error %v, want %q", err, tt.err)
				}
				if took := time.Since(begun); took != tt.ended {
					t.Errorf("took %s, want %s", took, tt.ended)
				}
				if diff := cmp.Diff(tt.want, r.recorder.Finish(time.Now()).Faults); diff != "" {
					t.Errorf("faults (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// beginFault returns a fault of no server. A restart goes on when it has begun.
func beginFault(what string) (rig.Fault, error) {
	mend := func(context.Context) error { return nil }
	if !strings.Contains(what, "restart") {
		return rig.Fault{Name: what, Begin: func(context.Context) (func(context.Context) error, error) { return mend, nil }}, nil
	}
	takes, fails := 15*time.Second, error(nil)
	if strings.HasSuffix(what, "1") {
		takes, fails = 20*time.Second, errRestart
	}
	return rig.Fault{Name: what, Begin: func(context.Context) (func(context.Context) error, error) {
		done := time.After(takes)
		return func(context.Context) error { <-done; return fails }, nil
	}}, nil
}
