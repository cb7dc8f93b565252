package events

import (
	"slices"
	"testing"

	"usher/actors/session"
)

// TestNodeRegistry_MissesEchoes takes a subscription for dead once three heartbeats have not come back over it.
func TestNodeRegistry_MissesEchoes(t *testing.T) {
	t.Parallel()
	for sent, want := range map[uint64]bool{7: false, 8: false, 9: false, 10: true, 20: true} {
		r := new(nodeRegistry)
		r.heartbeats.Store(sent)
		r.lastEcho.Store(7)
		if got := r.missesEchoes(); got != want {
			t.Errorf("%d sent, 7 came back: got %t, want %t", sent, got, want)
		}
	}
}

func TestNodeRegistry_SetWritten_NewOnce(t *testing.T) {
	t.Parallel()
	r := new(nodeRegistry)
	for i, want := range []bool{true, false, true, true, false} {
		if got := r.setWritten([]string{"e1", "e1", "e2", "e1", "e1"}[i]); got != want {
			t.Errorf("call %d: new %t, want %t", i, got, want)
		}
	}
}

func TestNodeRegistry_SetOthers_LiveAlone(t *testing.T) {
	t.Parallel()
	r := new(nodeRegistry)
	if !r.isListCurrent(1) {
		t.Error("a node that knows no other is not taken for the only one")
	}
	self, dead, other := listed("self", ""), listed("dead", ""), listed("other", "")
	self.IsSelf, dead.IsAlive, other.Name = true, false, "n2"
	r.setOthers([]listedNode{self, dead, other})
	ids, names := r.lastOthers()
	if !slices.Equal(ids, []string{"other"}) || !slices.Equal(names, []string{"n2"}) {
		t.Errorf("the others are %v, %v; want the one that lives", ids, names)
	}
	for live, want := range map[int]bool{1: false, 2: true, 3: false} {
		if got := r.isListCurrent(live); got != want {
			t.Errorf("%d live nodes: the list is current %t, want %t", live, got, want)
		}
	}
	if r.others[0].ID != (session.NodeInfo{ID: "other"}).ID {
		t.Errorf("remembers %+v", r.others)
	}
}
