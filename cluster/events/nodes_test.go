package events

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

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

// TestNodeRegistry_NoEcho expects nothing of heartbeats that failed, and finds a dead subscription by the others all the same.
func TestNodeRegistry_NoEcho(t *testing.T) {
	t.Parallel()
	for heartbeats, want := range map[string]bool{"----------": false, "+-+": false, "+-+-": false, "+-+-+": true, "-+-+--+": true, "++----": false} {
		r := new(nodeRegistry)
		for _, outcome := range heartbeats {
			if r.heartbeats.Add(1); outcome == '-' {
				r.noEcho()
			}
		}
		if got := r.missesEchoes(); got != want {
			t.Errorf("%s: got %t, want %t", heartbeats, got, want)
		}
	}
}

// TestNodeRegistry_NoEcho_LateEcho has heartbeats fail whose echoes come all the same, before the failure or long after it.
func TestNodeRegistry_NoEcho_LateEcho(t *testing.T) {
	t.Parallel()
	c, _ := newTestRPC(t)
	r := c.registry
	r.heartbeats.Store(10)
	r.lastEcho.Store(10)
	for range 3 {
		r.heartbeats.Add(1)
		r.noEcho()
	}
	c.onMessage(t.Context(), "heartbeat 11") // Redis ran it when it woke
	if r.heartbeats.Add(1); r.missesEchoes() {
		t.Errorf("%d sent, the echo is %d: got a dead subscription", r.heartbeats.Load(), r.lastEcho.Load())
	}
	for range 20 {
		c.onMessage(t.Context(), "heartbeat "+strconv.FormatUint(r.heartbeats.Add(1), 10))
		r.noEcho() // its reply was lost
	}
	if r.heartbeats.Add(3); !r.missesEchoes() {
		t.Errorf("%d sent, the echo is %d: got no dead subscription", r.heartbeats.Load(), r.lastEcho.Load())
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
	r := &nodeRegistry{nodeID: "self"}
	if !r.confirmOthers([]string{"self"}) {
		t.Error("a node that knows no other is not taken for the only one")
	}
	self, dead, other := listed("self", ""), listed("dead", ""), listed("other", "")
	self.IsSelf, dead.IsAlive, other.Name = true, false, "n2"
	r.setOthers([]listedNode{self, dead, other})
	ids, names := r.lastOthers()
	if !slices.Equal(ids, []string{"other"}) || !slices.Equal(names, []string{"n2"}) {
		t.Errorf("the others are %v, %v; want the one that lives", ids, names)
	}
	for name, test := range map[string]struct {
		live []string
		want bool
	}{
		"all":              {[]string{"self", "other"}, true},
		"in another order": {[]string{"other", "self"}, true},
		"this one":         {[]string{"self"}, false},
		"one more":         {[]string{"self", "other", "fresh"}, false},
		"as many":          {[]string{"self", "fresh"}, false},
		"without this one": {[]string{"other"}, false},
	} {
		if got := r.confirmOthers(test.live); got != test.want {
			t.Errorf("%s: the list is current %t, want %t", name, got, test.want)
		}
	}
	if r.others[0].ID != (session.NodeInfo{ID: "other"}).ID {
		t.Errorf("remembers %+v", r.others)
	}
}

// TestParseNode_ImpossibleTimes lists a node whose uptime or heartbeat overflow a duration as one that has long run.
func TestParseNode_ImpossibleTimes(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0).UTC()
	for name, test := range map[string]struct {
		status    string
		since     int64
		isStarted func(time.Time) bool
	}{
		"an uptime":               {`{"up":60000}`, 1000, now.Add(-61 * time.Second).Equal},
		"none":                    {`{}`, 0, now.Equal},
		"a negative uptime":       {`{"up":-60000}`, 0, now.Equal},
		"the least uptime":        {`{"up":-9223372036854775808}`, 0, now.Equal},
		"the greatest uptime":     {`{"up":9223372036854775807}`, 0, now.AddDate(-90, 0, 0).After},
		"the first that overflew": {`{"up":9223372036855}`, 0, now.AddDate(-90, 0, 0).After},
		"the greatest of both":    {`{"up":9223372036854775807}`, math.MaxInt64, now.AddDate(-190, 0, 0).After},
		"a heartbeat to come":     {`{"up":60000}`, -5000, now.Add(-time.Minute).Equal},
	} {
		n, isReadable := parseNode([]any{"n1", test.status, test.since}, now)
		if !isReadable || !test.isStarted(n.Started) || n.LastSeen.After(now) || n.Started.After(n.LastSeen) {
			t.Errorf("%s: readable %t, started %v, last seen %v", name, isReadable, n.Started, n.LastSeen)
		}
	}
}

// FuzzParseNode reads whatever Redis has of a node. What can be read has run for a time that can be, and can be shown.
func FuzzParseNode(f *testing.F) {
	status := func(s NodeStatus) string { return string(marshal(s)) }
	f.Add("n1", status(NodeStatus{Name: "edge-1", Address: "10.0.0.1:8080", Version: "1.2", UptimeMS: 61_000, Sessions: 7, Epoch: "e"}), int64(900))
	f.Add("n2", status(NodeStatus{UptimeMS: math.MaxInt64, Sessions: -1, IsDraining: true}), int64(math.MaxInt64))
	f.Add("n3", status(NodeStatus{UptimeMS: math.MinInt64}), int64(math.MinInt64))
	f.Add("n4", `{"up":1e3}`, int64(nodeTTL/time.Millisecond))
	f.Add("", "null", int64(0))
	now := time.Unix(1_700_000_000, 0).UTC()
	f.Fuzz(func(t *testing.T, id, text string, since int64) {
		n, isReadable := parseNode([]any{id, text, since}, now)
		if !isReadable {
			if n != (listedNode{}) {
				t.Errorf("unreadable, with %+v", n)
			}
			return
		}
		if n.ID != id || n.Sessions < 0 || n.IsSelf {
			t.Errorf("%q is listed as %+v", id, n)
		}
		if n.Started.After(n.LastSeen) || n.LastSeen.After(now) || n.Started.Before(now.AddDate(-201, 0, 0)) {
			t.Errorf("started %v, last seen %v; want both in the 200 years before %v, in this order", n.Started, n.LastSeen, now)
		}
		if n.IsAlive != (now.Sub(n.LastSeen) < nodeTTL) {
			t.Errorf("alive %t, last seen %v before", n.IsAlive, now.Sub(n.LastSeen))
		}
		if _, err := json.Marshal(n.NodeInfo); err != nil {
			t.Errorf("cannot be shown: %v", err)
		}
	})
}
