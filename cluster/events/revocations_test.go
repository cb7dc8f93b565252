package events

import (
	"bytes"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/actors/session"
	"usher/cluster/redisclient"
)

// TestRevocationStream_FirstHeartbeat_NoticesWhatRedisLost has a node publish revocations before its first heartbeat, and Redis
// lose its data in between.
func TestRevocationStream_FirstHeartbeat_NoticesWhatRedisLost(t *testing.T) {
	t.Parallel()
	const startedMS = 1_700_000_000_000
	id := func(ms uint64) streamID { return streamID{ms: startedMS + ms} }
	tests := map[string]struct {
		sent, last streamID
		want       bool
	}{
		"nothing was published":                        {streamID{}, streamID{ms: startedMS - 1000}, false},
		"what was published is the last of the stream": {id(300), id(300), false},
		"another node published later":                 {id(300), id(400), true},
		"the stream is empty":                          {id(300), streamID{}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &revocationStream{lastSent: tt.sent}
			reply := heartbeatReply{ms: startedMS + 500, epoch: "e", lastRevocation: tt.last}
			if got := s.isBehind(reply, time.Now().Add(-500*time.Millisecond)); got != tt.want {
				t.Errorf("behind: got %v, want %v", got, tt.want)
			}
			if s.isAssumed != (tt.sent == streamID{}) {
				t.Errorf("the position %v is assumed: %v", s.position, s.isAssumed)
			}
		})
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestRevocationStream_IsBehind(t *testing.T) {
	t.Parallel()
	at := streamID{5_000, 1}
	for name, test := range map[string]struct {
		isAssumed bool
		epoch     string
		last      streamID
		want      bool
	}{
		"all is known":                       {false, "e1", at, false},
		"one more was published":             {false, "e1", streamID{5_000, 2}, true},
		"the stream ends before":             {false, "e1", streamID{5_000, 0}, true},
		"the stream ends before an estimate": {true, "e1", streamID{4_000, 0}, false},
		"one more than an estimate":          {true, "e1", streamID{6_000, 0}, true},
		"another epoch":                      {false, "e2", at, true},
		"another epoch than of an estimate":  {true, "e2", streamID{}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := &revocationStream{position: at, isAssumed: test.isAssumed, epoch: "e1", lastCurrent: began}
			time.Sleep(time.Second)
			if got := s.isBehind(heartbeatReply{ms: 9_000, epoch: test.epoch, lastRevocation: test.last}, began); got != test.want {
				t.Errorf("%s: got %t, want %t", name, got, test.want)
			}
			if isCurrent := s.lastCurrent.After(began); isCurrent == test.want || s.position != at {
				t.Errorf("%s: counts as current %t, at %v", name, isCurrent, s.position)
			}
		})
	}
}

// TestRevocationStream_OnMessage applies what the channel brings, and asks for a replay where something before it is missing.
func TestRevocationStream_OnMessage(t *testing.T) {
	t.Parallel()
	position := streamID{5, 0}
	for name, test := range map[string]struct {
		isAssumed    bool
		previous, id string
		want         streamID
		replays      int
	}{
		"the next one":                        {false, "5-0", "6-0", streamID{6, 0}, 0},
		"the next one after an estimate":      {true, "3-0", "6-0", streamID{6, 0}, 0},
		"one before it is missing":            {false, "6-0", "7-0", position, 1},
		"one before it is missing, likewise":  {true, "6-0", "7-0", position, 1},
		"the last known one is not in there":  {false, "4-0", "6-0", position, 1},
		"one that was replayed already":       {false, "3-0", "4-0", position, 0},
		"the one that is the last known":      {false, "4-0", "5-0", position, 0},
		"one that is older than the estimate": {true, "3-0", "4-0", position, 0},
	} {
		var applied []session.Revocation
		replays := 0
		s := &revocationStream{
			position: position, isAssumed: test.isAssumed, clock: new(redisclient.Clock), cipher: goldenCipher(t), log: discard(),
			onRevocation: func(r session.Revocation) { applied = append(applied, r) }, requestReplay: func() { replays++ },
		}
		message := string(encodeRevocation(s.cipher, "name", session.Revocation{Kind: session.RevokedKicked, Session: idOf(1)}, time.Now()))
		s.onMessage(test.previous + " " + test.id + " " + message)
		s.onMessage("5-0 5-0 " + message) // the same once more
		if len(applied) != 1 || applied[0].Session != idOf(1) {
			t.Errorf("%s: applied %+v, want it once", name, applied)
		}
		if s.position != test.want || replays != test.replays {
			t.Errorf("%s: at %v after %d replays, want %v after %d", name, s.position, replays, test.want, test.replays)
		}
		if isAssumed := test.isAssumed && test.want == position; s.isAssumed != isAssumed {
			t.Errorf("%s: the position is assumed: %t", name, s.isAssumed)
		}
	}
}

// TestRevocationStream_OnMessage_Delay adds to a message's age in the stream how long it waited for Redis at its node. The age is
// by Redis' clock alone, and never below zero where that has gone back.
func TestRevocationStream_OnMessage_Delay(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		redisMS int64
		waited  time.Duration
		want    time.Duration
	}{
		"sent at once":                     {10_250, 0, 250 * time.Millisecond},
		"sent after an outage of Redis":    {10_250, time.Minute, time.Minute + 250*time.Millisecond},
		"the clock of another master":      {9_000, 0, 0},
		"the same, sent after an outage":   {9_000, time.Minute, time.Minute},
		"by a node whose clock moved back": {10_250, -time.Minute, 250 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			var delays []time.Duration
			s := &revocationStream{
				position: streamID{5, 0}, clock: new(redisclient.Clock), cipher: goldenCipher(t), log: discard(),
				onRevocation: func(session.Revocation) {}, requestReplay: func() {},
				onReceived: func(_ session.Revocation, delay time.Duration) { delays = append(delays, delay) },
			}
			s.clock.Set(test.redisMS, time.Now())
			now := time.Now()
			message := string(encodeIssued(s.cipher, Issued{
				ID: "name", At: now.Add(-test.waited), Revocation: session.Revocation{Kind: session.RevokedKicked, Session: idOf(1)},
			}, now))
			s.onMessage("5-0 10000-0 " + message)
			s.onMessage("5-0 10000-0 " + message) // the same once more
			if !slices.Equal(delays, []time.Duration{test.want}) {
				t.Errorf("%s: delays %v, want %v", name, delays, test.want)
			}
		})
	}
}

func TestRevocationStream_OnMessage_Unreadable(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	s := &revocationStream{
		clock: new(redisclient.Clock), cipher: goldenCipher(t), log: slog.New(slog.NewTextHandler(&text, nil)),
		onRevocation: func(r session.Revocation) { t.Errorf("applied %+v", r) }, requestReplay: func() { t.Error("replays") },
	}
	for _, message := range []string{"", "5-0", "x 6-0 {}", "5-0 x {}", "0-0 6-0 {}"} {
		s.onMessage(message)
	}
	if s.receive(streamID{6, 0}, "{}") {
		t.Error("what cannot be read counts as applied")
	}
	if got := strings.Count(text.String(), "revocation unreadable"); got != 1 {
		t.Errorf("%d warnings, want one:\n%s", got, &text)
	}
}

func TestSeenIDs(t *testing.T) {
	t.Parallel()
	var seen seenIDs
	for i := range 2*minSeenIDs + 1 {
		if !seen.add(strconv.Itoa(i)) || seen.add(strconv.Itoa(i)) {
			t.Fatalf("id %d is not new once", i)
		}
		if i == 2*minSeenIDs-1 && (seen.add("0") || seen.add(strconv.Itoa(minSeenIDs))) {
			t.Error("one of the newest ids is forgotten")
		}
	}
	if !seen.add("1") {
		t.Error("an id is remembered that is older than all that are needed")
	}
}

// TestRevocationStream_Queue_DropsOldest bounds what waits for Redis.
func TestRevocationStream_Queue_DropsOldest(t *testing.T) {
	t.Parallel()
	var s revocationStream
	all := make([]Issued, maxQueued+2)
	for i := range all {
		all[i].ID = strconv.Itoa(i)
	}
	s.queue(all[:maxQueued]...)
	if len(s.queued) != maxQueued || s.dropped != 0 {
		t.Errorf("%d queued, %d dropped; want all", len(s.queued), s.dropped)
	}
	s.queue(all[maxQueued:]...)
	s.queue()
	if len(s.queued) != maxQueued || s.dropped != 2 || s.queued[0].ID != "2" {
		t.Errorf("%d queued from %s on, %d dropped; want the oldest two dropped", len(s.queued), s.queued[0].ID, s.dropped)
	}
}

func TestRevocationStream_Remember_RecentAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s revocationStream
		s.remember(Issued{ID: "a", At: time.Now()})
		time.Sleep(time.Second)
		s.remember(Issued{ID: "b", At: time.Now()})
		time.Sleep(reissueWindow - time.Second)
		if s.remember(); len(s.recent) != 2 {
			t.Errorf("remembers %+v, want both", s.recent)
		}
		time.Sleep(time.Nanosecond)
		if s.remember(); len(s.recent) != 1 || s.recent[0].ID != "b" {
			t.Errorf("remembers %+v, want the second", s.recent)
		}
		many := make([]Issued, maxQueued)
		time.Sleep(2 * reissueWindow)
		if s.remember(); len(s.recent) != 0 {
			t.Errorf("remembers %+v, want none that is too old", s.recent)
		}
		for i := range many {
			many[i].At = time.Now()
		}
		if s.remember(many...); len(s.recent) != maxQueued || s.recent[0].ID != "" {
			t.Errorf("remembers %d, want the newest %d", len(s.recent), maxQueued)
		}
	})
}
