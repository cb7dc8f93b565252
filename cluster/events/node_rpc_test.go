package events

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newTestRPC returns an RPC that reaches no other node, and its log.
func newTestRPC(t testing.TB) (*nodeRPC, *bytes.Buffer) {
	t.Helper()
	var text bytes.Buffer
	return &nodeRPC{
		cipher: goldenCipher(t), registry: new(nodeRegistry), nodeID: "self", nodeName: "n1",
		log: slog.New(slog.NewTextHandler(&text, nil)), slots: make(chan struct{}, maxConcurrentRequests),
		pending: make(map[string]*pendingRequest),
	}, &text
}

// noise returns bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(b)
	return b
}

func TestNodeRPC_Pack_Bounded(t *testing.T) {
	t.Parallel()
	c, _ := newTestRPC(t)
	overhead := len(c.cipher.Encrypt(nil, "x"))
	for name, test := range map[string]struct {
		body    []byte
		tooLong bool
	}{
		"nothing":                        {nil, false},
		"a request":                      {[]byte("who?"), false},
		"the longest that compresses":    {make([]byte, maxBodySize), false},
		"one byte more":                  {make([]byte, maxBodySize+1), true},
		"more than a message holds":      {noise(maxMessageSize), true},
		"little less than a message has": {noise(maxMessageSize - overhead - 1024), false},
	} {
		packed, err := c.pack(test.body, "request r1")
		if errors.Is(err, errTooLarge) != test.tooLong || !test.tooLong && err != nil {
			t.Errorf("%s: error %v, want too large: %t", name, err, test.tooLong)
			continue
		}
		if err != nil {
			continue
		}
		if body, err := c.unpack(packed, "request r1"); err != nil || !bytes.Equal(body, test.body) {
			t.Errorf("%s: %d bytes and %v, want the body of %d bytes", name, len(body), err, len(test.body))
		}
		if _, err := c.unpack(packed, "reply r1"); err == nil {
			t.Errorf("%s: a request is read as a reply", name)
		}
	}
}

func TestNodeRPC_Unpack_Hostile(t *testing.T) {
	t.Parallel()
	c, _ := newTestRPC(t)
	compressed := func(n int) []byte {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.BestSpeed)
		must(t, err)
		_, _ = w.Write(make([]byte, n))
		must(t, w.Close())
		return b.Bytes()
	}
	encrypted := func(b []byte) string { return string(c.cipher.Encrypt(b, "x")) }
	for name, test := range map[string]struct {
		packed string
		want   string // of the error; empty: none
	}{
		"the longest":                {encrypted(compressed(maxBodySize)), ""},
		"one byte more decompressed": {encrypted(compressed(maxBodySize + 1)), "too large decompressed"},
		"a message that is too long": {strings.Repeat("x", maxMessageSize+1), "too large"},
		"the longest message":        {strings.Repeat("x", maxMessageSize), "decrypt"},
		"a stranger's":               {"x", "decrypt"},
		"not compressed":             {encrypted([]byte("plain")), "decompress"},
	} {
		_, err := c.unpack(test.packed, "x")
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

func TestNodeRPC_Wait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestRPC(t)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		wait := func(count int, bodies ...string) (got int, took time.Duration) {
			pending := &pendingRequest{bodies: map[string][]byte{}, arrived: make(chan struct{}, 1)}
			c.pending["r1"] = pending
			go func() {
				for _, from := range bodies {
					time.Sleep(time.Second)
					packed, err := c.pack([]byte("yes"), "reply r1")
					must(t, err)
					c.onMessage(t.Context(), "reply r1 "+from+" "+packed)
				}
			}()
			got = len(c.wait(ctx, pending, count))
			return got, time.Since(began)
		}
		if got, took := wait(0); got != 0 || took != 0 {
			t.Errorf("no node to wait for: %d after %v", got, took)
		}
		if got, took := wait(2, "a", "b"); got != 2 || took != 2*time.Second {
			t.Errorf("two nodes: %d after %v, want both after 2s", got, took)
		}
		if got, took := wait(2); got != 0 || took != 3*time.Second {
			t.Errorf("silent nodes: %d after %v, want none once time is over", got, took)
		}
	})
}

// TestNodeRPC_OnMessage_Dropped drops what is no message, and what nobody waits for.
func TestNodeRPC_OnMessage_Dropped(t *testing.T) {
	t.Parallel()
	c, text := newTestRPC(t)
	c.answer = func(context.Context, []byte) []byte { t.Error("answered"); return nil }
	pending := &pendingRequest{bodies: map[string][]byte{}, arrived: make(chan struct{}, 1)}
	c.pending["r1"] = pending
	good, err := c.pack([]byte("yes"), "reply r1")
	must(t, err)
	for _, message := range []string{
		"", "request", "request r1 n2 5", "request r1 n2 x " + good, "request r1 n2 0 " + good, "request r1 n2 -1 " + good,
		"reply", "reply r1 n2", "reply r2 n2 " + good, "heartbeat", "heartbeat x", "gossip r1 n2 5 " + good,
	} {
		c.onMessage(t.Context(), message)
	}
	c.answering.Wait()
	if len(pending.bodies) != 0 || text.Len() != 0 || c.registry.lastEcho.Load() != 0 {
		t.Errorf("took %v, logged %s", pending.bodies, text)
	}
	c.registry.heartbeats.Store(17)
	c.onMessage(t.Context(), "heartbeat 17")
	for _, neverSent := range []string{"heartbeat 18", "heartbeat 18446744073709551615"} {
		c.onMessage(t.Context(), neverSent)
	}
	if got := c.registry.lastEcho.Load(); got != 17 {
		t.Errorf("the echo is %d, want 17", got)
	}
	c.onMessage(t.Context(), "reply r1 n2 "+good)
	if len(pending.bodies) != 1 || len(pending.arrived) != 1 {
		t.Errorf("took %v, want the reply", pending.bodies)
	}
	c.onMessage(t.Context(), "reply r1 n3 forged")
	if len(pending.bodies) != 1 || !strings.Contains(text.String(), "node reply unreadable") {
		t.Errorf("took %v, logged %s; want a warning", pending.bodies, text)
	}
}

// TestNodeRPC_OnRequest_Bounded answers a few requests at once, each for as long as its caller waits and no longer than that.
func TestNodeRPC_OnRequest_Bounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, text := newTestRPC(t)
		deadlines := make(chan time.Duration, maxConcurrentRequests)
		c.answer = func(ctx context.Context, _ []byte) []byte {
			deadline, _ := ctx.Deadline()
			deadlines <- time.Until(deadline)
			<-ctx.Done()
			return make([]byte, maxBodySize+1) // which is never sent
		}
		packed, err := c.pack([]byte("who?"), "request r1")
		must(t, err)
		for _, millis := range []string{"100", "5000", "5001", "86400000", "1", "1", "1", "1", "1"} {
			c.onMessage(t.Context(), "request r1 n2 "+millis+" "+packed)
		}
		c.answering.Wait()
		if got := len(deadlines); got != maxConcurrentRequests || strings.Count(text.String(), "node request dropped") != 1 {
			t.Errorf("%d requests answered, want %d and one dropped:\n%s", got, maxConcurrentRequests, text)
		}
		byTime := map[time.Duration]int{}
		for range maxConcurrentRequests {
			byTime[<-deadlines]++
		}
		if byTime[100*time.Millisecond] != 1 || byTime[maxRequestTime] != 3 || byTime[time.Millisecond] != 4 {
			t.Errorf("answered within %v", byTime)
		}
		c.onMessage(t.Context(), "request r1 n2 1 "+packed) // there is room again
		c.answering.Wait()
		if len(deadlines) != 1 {
			t.Error("no request is answered once the others are")
		}
	})
}
