package events

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"usher/actors/session"
	"usher/cluster/redisclient"
	"usher/cluster/redistest"
)

// TestRevocationStream_Replay reads a stream of Redis: what was missed is applied, and a stream that is not the one that the node
// knows is a loss.
func TestRevocationStream_Replay(t *testing.T) {
	t.Parallel()
	const base = 1_700_000_000_000
	at := func(n int) streamID { return streamID{ms: base + uint64(n)*1000} }
	server := redistest.Start(t)
	for name, test := range map[string]struct {
		position  streamID
		isAssumed bool
		epoch     string // of the server; the node knows "e1"
		entries   []int
		previous  streamID // of the oldest entry
		applied   int
		lost      int
		rechecks  int
		replays   int
		want      streamID
	}{
		"nothing was missed":                 {position: at(3), epoch: "e1", entries: []int{1, 2, 3}, applied: 3, want: at(3)},
		"two were missed":                    {position: at(1), epoch: "e1", entries: []int{1, 2, 3}, applied: 3, want: at(3)},
		"an estimate":                        {position: at(2), isAssumed: true, epoch: "e1", entries: []int{1, 3}, applied: 2, want: at(3)},
		"the last known one is not in there": {position: at(2), epoch: "e1", entries: []int{1, 3}, applied: 2, lost: 1, want: at(3)},
		"the stream ends before":             {position: at(9), epoch: "e1", entries: []int{1, 3}, applied: 2, lost: 1, want: at(3)},
		"another epoch":                      {position: at(1), epoch: "e2", entries: []int{1, 2}, applied: 2, lost: 1, want: at(2)},
		"another epoch than of an estimate":  {position: at(1), isAssumed: true, epoch: "e2", entries: []int{1, 2}, applied: 2, lost: 1, want: at(2)},
		"the oldest ones are gone":           {position: at(1), epoch: "e1", entries: []int{3, 4}, previous: at(2), applied: 2, rechecks: 1, want: at(4)},
		"older ones are gone":                {position: at(2), epoch: "e1", entries: []int{3, 4}, previous: at(2), applied: 2, want: at(4)},
		"redis has just lost everything":     {position: at(1), replays: 1, want: at(1)},
	} {
		must(t, server.Client.FlushAll(t.Context()).Err())
		client, err := redisclient.New(redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 8}, 5*time.Second, discard())
		must(t, err)
		log := new(redistest.Log)
		applied, lost, rechecks, replays := 0, 0, 0, 0
		s := &revocationStream{
			client: client, cipher: goldenCipher(t), clock: new(redisclient.Clock), log: log.Logger(), lastCurrent: time.Now(),
			position: test.position, isAssumed: test.isAssumed, epoch: "e1",
			onRevocation: func(session.Revocation) { applied++ }, recheckAll: func() { rechecks++ },
			requestReplay: func() { replays++ }, onStateLost: func([]Issued) { lost++ },
			readScript: redisclient.LoadScript(scripts, "read_revocations"),
		}
		last := addEntries(t, server, s, test.previous, test.entries, at)
		if test.epoch != "" {
			must(t, server.Client.HSet(t.Context(), "usher:{all}:state", "epoch", test.epoch, "last", last.String()).Err())
		}
		must(t, s.replay(t.Context()))
		if applied != test.applied || lost != test.lost || rechecks != test.rechecks || replays != test.replays {
			t.Errorf("%s: applied %d, %d losses, %d rechecks, %d replays; want %d, %d, %d, %d", name,
				applied, lost, rechecks, replays, test.applied, test.lost, test.rechecks, test.replays)
		}
		if s.position != test.want || log.Count("applied="+strconv.Itoa(applied)) != min(applied, 1) {
			t.Errorf("%s: at %v, want %v; logged:\n%s", name, s.position, test.want, log)
		}
		if must(t, s.replay(t.Context())); applied != test.applied || lost != test.lost {
			t.Errorf("%s: once more: applied %d, %d losses", name, applied, lost)
		}
		client.Close()
	}
}

// addEntries writes a stream as nodes do, and returns the id of the last entry.
func addEntries(
	t *testing.T, server *redistest.Server, s *revocationStream, previous streamID, entries []int, at func(int) streamID,
) streamID {
	t.Helper()
	pipe := server.Client.Pipeline()
	for _, n := range entries {
		v := session.Revocation{Kind: session.RevokedDenied, Session: idOf(n)}
		payload := string(encodeRevocation(s.cipher, fmt.Sprint("name", n), v, time.Now()))
		pipe.XAdd(t.Context(), &redis.XAddArgs{
			Stream: "usher:{all}:revocations", ID: at(n).String(), Values: []any{"p", payload, "q", previous.String()},
		})
		previous = at(n)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return previous
}

// TestRevocationStream_Replay_ManyPages applies more revocations than one call reads.
func TestRevocationStream_Replay_ManyPages(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := func(n int) streamID { return streamID{ms: 1_700_000_000_000 + uint64(n)} }
	for _, count := range []int{replayPageSize - 1, replayPageSize, replayPageSize + 1, 2*replayPageSize + 1} {
		must(t, server.Client.FlushAll(t.Context()).Err())
		client, err := redisclient.New(redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 8}, 5*time.Second, discard())
		must(t, err)
		applied := 0
		s := &revocationStream{
			client: client, cipher: goldenCipher(t), clock: new(redisclient.Clock), log: discard(), isAssumed: true, epoch: "e1", position: at(0),
			onRevocation: func(session.Revocation) { applied++ }, readScript: redisclient.LoadScript(scripts, "read_revocations"),
		}
		entries := make([]int, count)
		for i := range entries {
			entries[i] = i + 1
		}
		last := addEntries(t, server, s, streamID{}, entries, at)
		must(t, server.Client.HSet(t.Context(), "usher:{all}:state", "epoch", "e1", "last", last.String()).Err())
		must(t, s.replay(t.Context()))
		if applied != count || s.position != last {
			t.Errorf("applied %d of %d, now at %v, want %v", applied, count, s.position, last)
		}
		client.Close()
	}
}

// TestRevocationStream_SendQueued sends what waited for Redis, in order, and keeps what Redis does not take.
func TestRevocationStream_SendQueued(t *testing.T) {
	t.Parallel()
	const count = 2*maxPerCall + 50
	queue := func(client *redisclient.Client, log *redistest.Log) *revocationStream {
		s := &revocationStream{
			client: client, cipher: goldenCipher(t), log: log.Logger(), retention: time.Hour,
			publishScript: redisclient.LoadScript(scripts, "publish_revocations"),
		}
		for i := range count {
			s.queued = append(s.queued, Issued{ID: strconv.Itoa(i), At: time.Now(), Revocation: session.Revocation{Kind: session.RevokedDenied, Session: idOf(i)}})
		}
		s.dropped = 7
		return s
	}
	log := new(redistest.Log)
	lonely := queue(newLonelyClient(t), log)
	for range 2 {
		lonely.sendQueued(t.Context())
		if len(lonely.queued) != count || lonely.queued[0].ID != "0" || len(lonely.recent) != 0 || log.Count("revocations dropped") != 1 {
			t.Errorf("%d queued from %s on, %d sent; logged:\n%s", len(lonely.queued), lonely.queued[0].ID, len(lonely.recent), log)
		}
	}
	server := redistest.Start(t)
	client, err := redisclient.New(redisclient.Config{Addresses: []string{server.Socket}, KeyPrefix: "usher", PoolSize: 8}, 5*time.Second, discard())
	must(t, err)
	t.Cleanup(client.Close)
	s := queue(client, new(redistest.Log))
	s.sendQueued(t.Context())
	if got := server.Client.XLen(t.Context(), "usher:{all}:revocations").Val(); got != count || len(s.queued) != 0 || len(s.recent) != count {
		t.Errorf("redis has %d, %d are queued, %d sent; want all %d there", got, len(s.queued), len(s.recent), count)
	}
	if last := server.Client.HGet(t.Context(), "usher:{all}:state", "last").Val(); last != s.lastSent.String() {
		t.Errorf("the last one sent is %v, want %s", s.lastSent, last)
	}
}
