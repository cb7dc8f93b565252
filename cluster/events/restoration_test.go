package events

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// listed returns a node that lives and has written its part in an epoch.
func listed(id, epoch string) listedNode {
	return listedNode{epoch: epoch, NodeInfo: session.NodeInfo{ID: id, IsAlive: true}}
}

// TestRestoration_OnList takes a list of nodes in the epoch "e2". All is known once every node that lives, or lived when the
// epoch began, has written its part.
func TestRestoration_OnList(t *testing.T) {
	t.Parallel()
	self, dead := listed("self", ""), listed("dead", "e1")
	self.IsSelf, dead.IsAlive = true, false
	for name, test := range map[string]struct {
		others []string // that lived in the epoch "e1"; nil: this node has just started
		nodes  []listedNode
		age    time.Duration
		want   bool
	}{
		"no other ever lived":                        {[]string{}, []listedNode{self}, 0, true},
		"another has written":                        {[]string{"a"}, []listedNode{self, listed("a", "e2")}, 0, true},
		"another has not written":                    {[]string{"a"}, []listedNode{self, listed("a", "e1")}, 0, false},
		"another has not begun the epoch":            {[]string{"a"}, []listedNode{self}, 0, false},
		"one of two has written":                     {[]string{"a", "b"}, []listedNode{listed("a", "e2")}, 0, false},
		"both have written":                          {[]string{"a", "b"}, []listedNode{listed("a", "e2"), listed("b", "e2")}, 0, true},
		"a new one has not written":                  {[]string{}, []listedNode{self, listed("c", "")}, 0, false},
		"one that is dead has not written":           {[]string{}, []listedNode{self, dead}, 0, true},
		"one that lived is gone, for a moment":       {[]string{"a"}, []listedNode{self}, restoreTime - 1, false},
		"one that lived is gone, for long enough":    {[]string{"a"}, []listedNode{self}, restoreTime, true},
		"one that lives is late":                     {[]string{"a"}, []listedNode{listed("a", "e1")}, restoreTime, false},
		"one that lives is not waited for any more":  {[]string{"a"}, []listedNode{listed("a", "e1")}, maxRestoreTime, true},
		"one that lives is waited for a moment more": {[]string{"a"}, []listedNode{listed("a", "e1")}, maxRestoreTime - 1, false},
		"just started, alone":                        {nil, []listedNode{self}, 0, false},
		"just started, alone for long enough":        {nil, []listedNode{self}, restoreTime, true},
		"just started, beside one that has written":  {nil, []listedNode{self, listed("a", "e2")}, 0, false},
		"just started, beside one that has not":      {nil, []listedNode{self, listed("a", "")}, restoreTime, false},
	} {
		r := newRestoration()
		if test.others != nil {
			r.onEpoch("e1")
			r.setOthers(test.others)
		}
		if r.onEpoch("e2") {
			t.Errorf("%s: complete before the nodes are listed", name)
		}
		if got := r.onList(test.nodes, test.age); got != test.want {
			t.Errorf("%s: got %t, want %t", name, got, test.want)
		}
		if got := r.onEpoch("e2"); got != test.want {
			t.Errorf("%s: the next heartbeat finds %t, want %t", name, got, test.want)
		}
	}
}

func TestRestoration_OnEpoch_NewOneIsIncomplete(t *testing.T) {
	t.Parallel()
	r := newRestoration()
	r.onEpoch("e1")
	r.onList(nil, maxRestoreTime)
	r.setOthers([]string{"a"})
	if !r.onEpoch("e1") || r.onEpoch("e2") {
		t.Error("an epoch is complete that has just begun, or one is not that was")
	}
	r.setOthers(nil) // of the new epoch: the one before it counts
	if r.onList(nil, 0) {
		t.Error("what the node that lived before has is not waited for")
	}
}

// TestRestoration_Await waits for a heartbeat that begins after the call: one that is under way may have asked before.
func TestRestoration_Await(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, requested := newRestoration(), 0
		isDown := false
		ctx, leave := context.WithCancel(t.Context())
		var got error
		hasReturned := false
		await := func() {
			hasReturned = false
			go func() {
				got = r.await(ctx, func() { requested++ }, func() bool { return isDown })
				hasReturned = true
			}()
			synctest.Wait()
		}
		want := func(step string, returns bool, err error) {
			t.Helper()
			synctest.Wait()
			if hasReturned != returns || returns && !errors.Is(got, err) {
				t.Fatalf("%s: returned %t with %v, want %t with %v", step, hasReturned, got, returns, err)
			}
		}
		heartbeat := func(isRestored bool) { r.begin(); r.end(isRestored) }

		r.begin()
		await()
		want("a heartbeat is under way", false, nil)
		r.end(true)
		want("that one has ended", false, nil)
		heartbeat(false)
		want("the next one finds bans missing", false, nil)
		heartbeat(true)
		want("the next one finds all", true, nil)
		if requested != 1 {
			t.Errorf("%d heartbeats requested, want one", requested)
		}

		await()
		want("what an older heartbeat found", false, nil)
		isDown = true
		heartbeat(false)
		want("redis is unavailable", true, backends.ErrStoreUnavailable)

		isDown = false
		await()
		heartbeat(true)
		want("the first one after the call", true, nil)

		await()
		leave()
		want("the caller leaves", true, context.Canceled)
	})
}
