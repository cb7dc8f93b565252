package soak

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func chanceOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestPlan_SeedRepeats(t *testing.T) {
	t.Parallel()
	first, again, other := plan(time.Minute, true, chanceOf(1)), plan(time.Minute, true, chanceOf(1)), plan(time.Minute, true, chanceOf(2))
	if !reflect.DeepEqual(first, again) {
		t.Errorf("the same seed gave %v, then %v", first, again)
	}
	if reflect.DeepEqual(first, other) {
		t.Errorf("two seeds gave the same faults: %v", first)
	}
}

// TestPlan_Rules holds what the checks build on for runs of any length.
func TestPlan_Rules(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		length := minFor + time.Duration(seed)*2*time.Second
		share := func(s float64) time.Duration { return time.Duration(s * float64(length)) }
		free := map[string]time.Duration{}
		for _, f := range plan(length, seed%2 == 0, chanceOf(seed)) {
			from, to := f.at, f.at+f.length
			if from < share(warmShare) || to > share(endFrom) || from < share(middleTo) && to > share(middleFrom) {
				t.Errorf("seed %d, run of %v: %q from %v to %v is in a quiet time", seed, length, &f, from, to)
			}
			if from < free[f.target()] {
				t.Errorf("seed %d: %q from %v begins before the last fault of %s has ended at %v", seed, &f, from, f.target(), free[f.target()])
			}
			if free[f.target()] = to; f.length <= 0 {
				t.Errorf("seed %d: %q lasts %v", seed, &f, f.length)
			}
		}
	}
}

func TestPlan_TenMinutes_AllKinds(t *testing.T) {
	t.Parallel()
	for _, hasClock := range []bool{true, false} {
		seen := map[kind]int{}
		for _, f := range plan(10*time.Minute, hasClock, chanceOf(5)) {
			seen[f.kind]++
			if s := f.String(); !strings.Contains(s, f.a) || !strings.Contains(s, f.b) || !strings.Contains(s, f.mode) && f.kind == middleware {
				t.Errorf("%q does not name %q, %q and %q", s, f.a, f.b, f.mode)
			}
		}
		for _, k := range kinds(true) {
			if isClock := k == clockForward || k == clockBack; (seen[k] > 0) != (hasClock || !isClock) {
				t.Errorf("with a clock that can be set (%v): %d faults of the kind %q", hasClock, seen[k], k)
			}
		}
	}
}
