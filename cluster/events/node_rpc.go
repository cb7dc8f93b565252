package events

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"usher/cluster/redisclient"
)

const (
	// maxMessageSize bounds a request or a reply as it is sent, so that Redis' buffers hold those of many nodes.
	maxMessageSize = 1 << 20
	// maxBodySize bounds it uncompressed.
	maxBodySize = 16 << 20
	// maxConcurrentRequests is how many requests of other nodes a node answers at once; it drops the rest.
	maxConcurrentRequests = 8
	// maxRequestTime bounds how long a node waits for replies, and works on a reply.
	maxRequestTime = 5 * time.Second
)

// nodeRPC sends requests to all nodes and returns their replies. Its messages are "request request-id node-id
// milliseconds body" and "reply request-id node-id body"; a body is compressed, then encrypted.
type nodeRPC struct {
	client   *redisclient.Client
	cipher   *redisclient.Cipher
	registry *nodeRegistry
	nodeID   string
	nodeName string
	answer   func(ctx context.Context, request []byte) []byte
	log      *slog.Logger

	answering sync.WaitGroup
	slots     chan struct{} // of maxConcurrentRequests

	mu      sync.Mutex
	pending map[string]*pendingRequest
}

// pendingRequest waits for replies.
type pendingRequest struct {
	bodies  map[string][]byte // by node id
	arrived chan struct{}     // holds one
}

// call sends a request to all live nodes, including this one, and waits until all have replied or ctx ends. It returns the
// names of the nodes that did not reply as silent. If several nodes have one name, it gets a "'" for each but the first.
func (c *nodeRPC) call(ctx context.Context, body []byte) (replies map[string][]byte, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, maxRequestTime)
	defer cancel()
	requestID := NewID()
	pending := &pendingRequest{bodies: make(map[string][]byte), arrived: make(chan struct{}, 1)}
	c.mu.Lock()
	c.pending[requestID] = pending
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, requestID)
		c.mu.Unlock()
	}()

	nodes, err := c.send(ctx, requestID, body)
	replies = map[string][]byte{c.nodeName: c.answer(ctx, body)}
	if err != nil {
		_, others := c.registry.lastOthers()
		return replies, others
	}
	nodes = slices.DeleteFunc(nodes, func(n listedNode) bool { return n.IsSelf || !n.IsAlive })
	received := c.wait(ctx, pending, len(nodes))
	for _, n := range nodes {
		body, found := received[n.ID]
		if !found {
			silent = append(silent, n.Name)
			continue
		}
		name := n.Name
		for _, isTaken := replies[name]; isTaken; _, isTaken = replies[name] {
			name += "'"
		}
		replies[name] = body
	}
	return replies, silent
}

// wait returns the bodies that arrived once there are that many, or ctx ends.
func (c *nodeRPC) wait(ctx context.Context, pending *pendingRequest, count int) map[string][]byte {
	for {
		c.mu.Lock()
		received := maps.Clone(pending.bodies)
		c.mu.Unlock()
		if len(received) >= count || ctx.Err() != nil {
			return received
		}
		select {
		case <-pending.arrived:
		case <-ctx.Done():
		}
	}
}

func (c *nodeRPC) send(ctx context.Context, requestID string, body []byte) ([]listedNode, error) {
	packed, err := c.pack(body, "request "+requestID)
	if err != nil {
		c.log.Warn("node request not sent", slog.Any("error", err))
		return nil, err
	}
	timeLeft := maxRequestTime
	if deadline, hasDeadline := ctx.Deadline(); hasDeadline {
		timeLeft = time.Until(deadline)
	}
	header := "request " + requestID + " " + c.nodeID + " " + strconv.FormatInt(max(1, timeLeft.Milliseconds()), 10) + " "
	return c.registry.list(ctx, c.client.Run, header+packed)
}

// onMessage receives a message to this node alone. It does not block.
func (c *nodeRPC) onMessage(ctx context.Context, message string) {
	switch kind, rest, _ := strings.Cut(message, " "); kind {
	case "heartbeat":
		// A number that was never sent would hide for good that the subscription is dead.
		if number, err := strconv.ParseUint(rest, 10, 64); err == nil && number <= c.registry.heartbeats.Load() {
			c.registry.noteEcho(number)
		}
	case "request":
		if f := strings.SplitN(rest, " ", 4); len(f) == 4 {
			c.onRequest(ctx, f[0], f[1], f[2], f[3])
		}
	case "reply":
		if f := strings.SplitN(rest, " ", 3); len(f) == 3 {
			c.onReply(f[0], f[1], f[2])
		}
	}
}

// onRequest answers a request of another node on a goroutine of its own.
func (c *nodeRPC) onRequest(ctx context.Context, requestID, callerID, millis, packed string) {
	ms, err := strconv.ParseInt(millis, 10, 64)
	if err != nil || ms <= 0 {
		return
	}
	select {
	case c.slots <- struct{}{}:
	default:
		c.log.Warn("node request dropped, too many at once", slog.Int("max", maxConcurrentRequests))
		return
	}
	c.answering.Go(func() {
		defer func() { <-c.slots }()
		timeout := time.Duration(min(ms, maxRequestTime.Milliseconds())) * time.Millisecond
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if err := c.reply(ctx, requestID, callerID, packed); err != nil {
			c.log.Warn("node request not answered", slog.Any("error", err))
		}
	})
}

func (c *nodeRPC) reply(ctx context.Context, requestID, callerID, packed string) error {
	body, err := c.unpack(packed, "request "+requestID)
	if err != nil {
		return err
	}
	answer, err := c.pack(c.answer(ctx, body), "reply "+requestID)
	if err != nil {
		return err
	}
	channel := c.client.Keys().NodeChannel(callerID)
	return c.client.Publish(ctx, channel, "reply "+requestID+" "+c.nodeID+" "+answer)
}

// onReply receives a reply to a request of this node. A reply that no call waits for is dropped.
func (c *nodeRPC) onReply(requestID, nodeID, packed string) {
	c.mu.Lock()
	_, isPending := c.pending[requestID]
	c.mu.Unlock()
	if !isPending {
		return
	}
	body, err := c.unpack(packed, "reply "+requestID)
	if err != nil {
		c.log.Warn("node reply unreadable", slog.String("node", nodeID), slog.Any("error", err))
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pending, isPending := c.pending[requestID]
	if !isPending {
		return
	}
	pending.bodies[nodeID] = body
	select {
	case pending.arrived <- struct{}{}:
	default:
	}
}

var errTooLarge = errors.New("too large")

// pack compresses and encrypts a body.
func (c *nodeRPC) pack(body []byte, purpose string) (string, error) {
	if len(body) > maxBodySize {
		return "", fmt.Errorf("%d bytes to another node: %w; want at most %d", len(body), errTooLarge, maxBodySize)
	}
	var compressed bytes.Buffer
	w, err := flate.NewWriter(&compressed, flate.BestSpeed)
	if err != nil {
		return "", fmt.Errorf("BUG: %w", err)
	}
	_, _ = w.Write(body) // into memory
	_ = w.Close()
	packed := c.cipher.Encrypt(compressed.Bytes(), purpose)
	if len(packed) > maxMessageSize {
		return "", fmt.Errorf("%d packed bytes to another node: %w; want at most %d", len(packed), errTooLarge, maxMessageSize)
	}
	return string(packed), nil
}

// unpack decrypts and decompresses a body.
func (c *nodeRPC) unpack(packed, purpose string) ([]byte, error) {
	if len(packed) > maxMessageSize {
		return nil, fmt.Errorf("%d bytes from another node: %w; want at most %d", len(packed), errTooLarge, maxMessageSize)
	}
	compressed, err := c.cipher.Decrypt([]byte(packed), purpose)
	if err != nil {
		return nil, fmt.Errorf("decrypt a message of another node: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(compressed)), maxBodySize+1))
	if err != nil {
		return nil, fmt.Errorf("decompress a message of another node: %w", err)
	}
	if len(body) > maxBodySize {
		return nil, fmt.Errorf("a message of another node: %w decompressed; want at most %d", errTooLarge, maxBodySize)
	}
	return body, nil
}
