package events

import (
	"bytes"
	"compress/flate"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// FuzzNodeRPC_OnMessage receives anything that Redis publishes on a node's channel. Only what a node with the keys has packed for
// a request is taken, and nothing keeps a slot or a call for itself.
func FuzzNodeRPC_OnMessage(f *testing.F) {
	const sent = 17
	request, reply := []byte(`{"ask":"who"}`), []byte(`{"sessions":[]}`)
	c, _ := newTestRPC(f)
	c.log = slog.New(slog.DiscardHandler)
	c.registry.heartbeats.Store(sent)
	packedRequest, err := c.pack(request, "request r1")
	must(f, err)
	packedReply, err := c.pack(reply, "reply r1")
	must(f, err)
	for _, message := range []string{
		"heartbeat 17", "heartbeat 18446744073709551615", "request r1 n2 5000 " + packedRequest, "request r1 n2 9223372036854775807 " + packedRequest,
		"request r1 n2 -1 " + packedRequest, "reply r1 n2 " + packedReply, "reply r1 n2 " + packedRequest, "reply r2 n2 " + packedReply,
		"request r1 n2 5000 " + packedReply[:len(packedReply)-1], "reply", "",
	} {
		f.Add(message)
	}
	neverSent := make([]byte, maxBodySize+1) // an answer that is too large to be sent
	var answered [][]byte
	c.answer = func(_ context.Context, body []byte) []byte {
		answered = append(answered, body)
		return neverSent
	}
	f.Fuzz(func(t *testing.T, message string) {
		answered = nil
		c.registry.lastEcho.Store(0)
		pending := &pendingRequest{bodies: map[string][]byte{}, arrived: make(chan struct{}, 1)}
		c.pending = map[string]*pendingRequest{"r1": pending}
		c.onMessage(t.Context(), message)
		c.answering.Wait()
		if echo := c.registry.lastEcho.Load(); echo > sent {
			t.Errorf("the echo is %d, of %d heartbeats", echo, sent)
		}
		if len(c.slots) != 0 || len(c.pending) != 1 {
			t.Errorf("%d slots are taken, and %d calls wait", len(c.slots), len(c.pending))
		}
		for _, body := range answered {
			if !bytes.Equal(body, request) || !strings.HasPrefix(message, "request r1 ") {
				t.Errorf("answered %q", body)
			}
		}
		if len(answered) > 1 || len(pending.bodies) > 1 || len(pending.bodies) != len(pending.arrived) {
			t.Errorf("answered %d times, took %d replies, told of %d", len(answered), len(pending.bodies), len(pending.arrived))
		}
		for _, body := range pending.bodies {
			if !bytes.Equal(body, reply) || !strings.HasPrefix(message, "reply r1 ") {
				t.Errorf("took %q", body)
			}
		}
	})
}

// FuzzNodeRPC_Unpack unpacks what a node with the keys may have encrypted. What it accepts is bounded, and can be packed again.
func FuzzNodeRPC_Unpack(f *testing.F) {
	c, _ := newTestRPC(f)
	compressed := func(body []byte) []byte {
		packed, err := c.pack(body, "x")
		must(f, err)
		plain, err := c.cipher.Decrypt([]byte(packed), "x")
		must(f, err)
		return plain
	}
	f.Add(compressed([]byte(`{"sessions":[]}`)))
	f.Add(compressed(nil))
	f.Add(compressed(make([]byte, 1<<16)))
	f.Add(slices.Concat(compressed([]byte("one")), []byte("more behind its end")))
	var stored bytes.Buffer
	w, err := flate.NewWriter(&stored, flate.NoCompression)
	must(f, err)
	_, _ = w.Write([]byte("not compressed")) // into memory
	must(f, w.Close())
	f.Add(stored.Bytes())
	f.Fuzz(func(t *testing.T, plain []byte) {
		packed := string(c.cipher.Encrypt(plain, "x"))
		body, err := c.unpack(packed, "x")
		if err != nil {
			if body != nil {
				t.Errorf("refused with %d bytes", len(body))
			}
			return
		}
		if len(body) > maxBodySize {
			t.Fatalf("accepted %d bytes; want at most %d", len(body), maxBodySize)
		}
		again, err := c.pack(body, "x")
		if err != nil { // it may compress worse
			return
		}
		if got, err := c.unpack(again, "x"); err != nil || !bytes.Equal(got, body) {
			t.Errorf("packed again it is %d bytes and %v; want %d", len(got), err, len(body))
		}
	})
}
