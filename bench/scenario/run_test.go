package scenario

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
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
		// interrupted is when the run is interrupted; 0: it is not.
		interrupted time.Duration
	}{
		"another fault during a restart": {
			"{ at: 10s, fault: node restart all }, { at: 12s, for: 8s, fault: middleware hang }",
			[]result.Fault{at(10, 25, "node restart all"), at(12, 20, "middleware hang")},
			"", 25 * time.Second, 0,
		},
		"a restart that takes longer than planned": {
			"{ at: 10s, for: 5s, fault: node restart all }, { at: 16s, for: 2s, fault: origin hang }",
			[]result.Fault{at(10, 25, "node restart all"), at(16, 18, "origin hang")},
			"", 25 * time.Second, 0,
		},
		"a restart that takes less long": {
			"{ at: 10s, for: 30s, fault: node restart all }",
			[]result.Fault{at(10, 40, "node restart all")},
			"", 40 * time.Second, 0,
		},
		"two restarts of a node": {
			"{ at: 10s, fault: node restart all }, { at: 12s, fault: node restart 2 }",
			[]result.Fault{at(10, 25, "node restart all"), at(25, 40, "node restart 2")},
			"", 40 * time.Second, 0,
		},
		"a node that still restarts": {
			"{ at: 10s, fault: node restart all }, { at: 20s, for: 8s, fault: node stop 1 }",
			[]result.Fault{at(10, 25, "node restart all"), at(25, 28, "node stop 1")},
			"", 28 * time.Second, 0,
		},
		"no time left": {
			"{ at: 10s, fault: node restart all }, { at: 12s, for: 8s, fault: node stop 1 }",
			[]result.Fault{at(10, 25, "node restart all")},
			`fault "node stop 1": at 12s for 8s: could not begin before 25s, because others took so long; have it begin later, or last longer`,
			25 * time.Second, 0,
		},
		"a restart that fails": {
			"{ at: 10s, fault: node restart 1 }, { at: 12s, for: 30s, fault: middleware hang }, { at: 50s, for: 1s, fault: origin hang }",
			[]result.Fault{at(10, 30, "node restart 1"), at(12, 30, "middleware hang")},
			errRestart.Error(), 30 * time.Second, 0,
		},
		"a begin after two restarts of nodes": {
			"{ at: 10s, fault: node restart all }, { at: 12s, fault: node restart 2 }, { at: 14s, for: 4s, fault: middleware hang }",
			[]result.Fault{at(10, 25, "node restart all"), at(25, 40, "node restart 2"), at(14, 18, "middleware hang")},
			"", 40 * time.Second, 0,
		},
		"an end after two restarts of nodes": {
			"{ at: 8s, for: 8s, fault: middleware hang }, { at: 10s, fault: node restart all }, { at: 12s, fault: node restart 2 }",
			[]result.Fault{at(8, 16, "middleware hang"), at(10, 25, "node restart all"), at(25, 40, "node restart 2")},
			"", 40 * time.Second, 0,
		},
		"an interrupt while a fault waits": {
			"{ at: 10s, fault: node restart all }, { at: 12s, for: 20s, fault: node stop 1 }",
			[]result.Fault{at(10, 25, "node restart all")},
			"", 25 * time.Second, 20 * time.Second,
		},
		"an interrupt behind the planned end of a fault that waits": {
			"{ at: 10s, fault: node restart all }, { at: 12s, for: 8s, fault: node stop 1 }",
			[]result.Fault{at(10, 25, "node restart all")},
			"", 25 * time.Second, 22 * time.Second,
		},
		"no time left in the run": {
			"{ at: 50s, fault: node restart all }, { at: 55s, fault: node restart 2 }",
			[]result.Fault{at(50, 65, "node restart all")},
			`fault "node restart 2": at 55s for 0s: could not begin before 1m0s, because others took so long; have it begin later, or last longer`,
			65 * time.Second, 0,
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
				if r.faults, err = s.plannedFaults(beginFault); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				defer time.AfterFunc(s.For, func() { cancel(errOver) }).Stop()
				if tt.interrupted > 0 {
					time.AfterFunc(tt.interrupted, func() { cancel(nil) })
				}
				err := r.breakThings(ctx)
				if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
					t.Errorf("got error %v, want %q", err, tt.err)
				}
				if took := time.Since(begun); took != tt.ended {
					t.Errorf("took %s, want %s", took, tt.ended)
				}
				if diff := cmp.Diff(tt.want, r.inPlanOrder(r.recorder.Finish(time.Now()).Faults)); diff != "" {
					t.Errorf("faults (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestRunner_Run_Interrupted interrupts a run while a fault begins, which fails for that reason.
func TestRunner_Run_Interrupted(t *testing.T) {
	t.Parallel()
	s, err := Parse("f.yaml", []byte("shows: a\nfor: 60s\nviewers: 1\nfaults: [{ at: 0s, for: 10s, fault: middleware hang }]"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	config, err := s.viewers()
	if err != nil {
		t.Fatal(err)
	}
	config.Targets = []string{server.URL}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r := &runner{scenario: s, rig: &rig.Rig{}, recorder: record.New(time.Now())}
	r.faults, err = s.plannedFaults(func(what string) (rig.Fault, error) {
		return rig.Fault{Name: what, Begin: func(ctx context.Context) (func(context.Context) error, error) {
			interrupt()
			return nil, ctx.Err()
		}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.run(ctx, config); !errors.Is(err, errInterrupted) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was interrupted, and what failed then", err)
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
