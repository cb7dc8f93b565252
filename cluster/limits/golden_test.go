package limits

import (
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// TestStreamSet_Encode_Golden: all versions write a set alike, as their nodes share it.
func TestStreamSet_Encode_Golden(t *testing.T) {
	t.Parallel()
	set := streamSet{
		{
			id: backends.SessionID{0: 1, 15: 2}, opened: 1700000000, lastSeen: 1700000001000, reportedAt: 1700000001001,
			countedSince: 1700000000500, zapTimeout: 6000, maxStreams: 2, isPlaying: true, device: "box",
		},
		{id: backends.SessionID{0: 3}, opened: 1, lastSeen: 2, reportedAt: 3, zapTimeout: 4, maxStreams: 1, state: session.StreamEvicted},
		{id: backends.SessionID{0: 4}, opened: 1, lastSeen: 2, reportedAt: 3, zapTimeout: 4, maxStreams: 1, state: session.StreamSuperseded},
	}
	const want = "02010000000000000000000000000000020000000000000000000000000000000080c49fd50cd0afabfef962d2afabfef962e8a7abfef9" +
		"62e05d04000206626f78030000000000000000000000000000000000000000000000000000000000000002040600080202000004000000" +
		"00000000000000000000000000000000000000000000000000000000020406000802040000"
	if got := hex.EncodeToString(set.encode()); got != want {
		t.Errorf("encoded as %s, want %s", got, want)
	}
	data, err := hex.DecodeString(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(data)
	if diff := cmp.Diff(set, got, cmp.AllowUnexported(stream{})); diff != "" || err != nil {
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
	rules := rulesInMillis(testRules(session.EvictOldest))
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
