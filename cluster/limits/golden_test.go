package limits

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// TestStoredSet_Encode_Golden: all versions write a set alike, as their nodes share it.
func TestStoredSet_Encode_Golden(t *testing.T) {
	t.Parallel()
	set := storedSet{epoch: 7, writes: 12, restored: 3, streams: streamSet{
		{
			facts: facts{
				ID: backends.SessionID{0: 1, 15: 2}, Group: backends.SessionID{0: 9}, IsIPv6: true, Opened: 1700000000, IsPlaying: true,
				ZapTimeout: 6000, MaxStreams: 2, Device: device{'b', 'o', 'x'},
			},
			LastSeen: 1700000001000, ReportedAt: 1700000001001, CountedSince: 1700000000500,
		},
		{facts: plays(3, 1, 1).facts, LastSeen: 2, ReportedAt: 3, State: session.StreamEvicted},
		{facts: plays(4, 1, 1).facts, LastSeen: 2, ReportedAt: 3, State: session.StreamSuperseded},
	}}
	const want = "0307000000000000000c000000000000000300000000000000010000000000000000000000000000020900000000000000000000000000" +
		"00000100f153650000000001701700000000000002000000626f7800000000000000000000000000e86be5cf8b010000e96be5cf8b0100" +
		"00f469e5cf8b01000000030000000000000000000000000000040300000000000000000000000000000400010000000000000001701700" +
		"00000000000100000000000000000000000000000000000000020000000000000003000000000000000000000000000000010400000000" +
		"00000000000000000000050400000000000000000000000000000500010000000000000001701700000000000001000000000000000000" +
		"0000000000000000000002000000000000000300000000000000000000000000000002"
	if got := hex.EncodeToString([]byte(set.encode())); got != want {
		t.Errorf("encoded as %s, want %s", got, want)
	}
	data, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(string(data))
	if diff := cmp.Diff(set, got, cmp.AllowUnexported(storedSet{}, stream{}, facts{})); diff != "" || err != nil {
		t.Errorf("decoded: %v (-want +got)\n%s", err, diff)
	}
}

// TestStreamSet_Bound: a user has 128 streams at most.
func TestStreamSet_Bound(t *testing.T) {
	t.Parallel()
	l := newPureLimiter(session.EvictOldest)
	for i := range 128 {
		if got := l.apply(testStart, plays(i, 100, 1000)); got.States[0] != active {
			t.Fatalf("stream %d is %v", i, got.States[0])
		}
	}
	rules := rules{LimitRules: testRules(session.EvictOldest)}
	var all []report
	for i := range 129 {
		all = append(all, plays(i, 100, 1000))
	}
	set, got := streamSet(nil).apply(all[:128], testStart, &rules)
	if len(set) != 128 || got.isFull {
		t.Errorf("128 streams: %d are kept, full: %t", len(set), got.isFull)
	}
	if set, got = streamSet(nil).apply(all, testStart, &rules); len(set) != 128 || !got.isFull {
		t.Errorf("129 streams: %d are kept, full: %t", len(set), got.isFull)
	}
}
