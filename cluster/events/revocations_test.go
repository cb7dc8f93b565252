package events

import (
	"testing"
	"time"
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
