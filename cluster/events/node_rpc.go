package cluster

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
)

const (
	// maxAnswer bounds a question or an answer on its way, so that Redis' buffers bear it from many nodes at once.
	maxAnswer = 1 << 20
	// maxInflated bounds it after it was unpacked.
	maxInflated = 16 << 20
	// answersAtOnce is how many questions of others a node works on; more are left unanswered.
	answersAtOnce = 8
	// askedFor is for how long a question waits at most, so that nobody works for who has left.
	askedFor = 5 * time.Second
)

// Answer is what a node answered.
type Answer struct {
	// Node is its name.
	Node string
	Body []byte
}

// questions carries questions between nodes and their answers back. Their messages are
// "q question-id asker-id milliseconds body" and "a question-id node-id body"; the body is packed and sealed.
type questions struct {
	wire     *wire
	registry *registry
	self     string // id
	name     string
	answer   func(ctx context.Context, question []byte) []byte
	log      *slog.Logger
	// running are answers under way; slots bounds them.
	running sync.WaitGroup
	slots   chan struct{}

	mu   sync.Mutex
	open map[string]*question
}

// question is one that waits for answers.
type question struct {
	answers map[string][]byte // by node id
	arrived chan struct{}
}

// ask asks all nodes that live, this one included, and waits until all have answered or ctx ends. silent are those that
// did not.
func (q *questions) ask(ctx context.Context, body []byte) (answers []Answer, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	name := newName()
	waiting := &question{answers: make(map[string][]byte), arrived: make(chan struct{}, 1)}
	q.mu.Lock()
	q.open[name] = waiting
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.open, name)
		q.mu.Unlock()
	}()

	nodes, err := q.send(ctx, name, body)
	answers = append(answers, Answer{Node: q.name, Body: q.answer(ctx, body)})
	if err != nil {
		return answers, q.registry.lastOthers()
	}
	nodes = slices.DeleteFunc(nodes, func(n NodeInfo) bool { return n.Self || !n.Alive })
	for {
		got := q.answered(waiting)
		if len(got) >= len(nodes) || ctx.Err() != nil {
			for _, n := range nodes {
				if body, found := got[n.ID]; found {
					answers = append(answers, Answer{Node: n.Name, Body: body})
				} else {
					silent = append(silent, n.Name)
				}
			}
			return answers, silent
		}
		select {
		case <-waiting.arrived:
		case <-ctx.Done():
		}
	}
}

func (q *questions) answered(waiting *question) map[string][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(waiting.answers)
}

func (q *questions) send(ctx context.Context, name string, body []byte) ([]NodeInfo, error) {
	packed, err := q.pack(body, "question "+name)
	if err != nil {
		q.log.Warn("a question to the other nodes could not be sent", slog.Any("error", err))
		return nil, err
	}
	left := askedFor
	if end, set := ctx.Deadline(); set {
		left = time.Until(end)
	}
	head := "q " + name + " " + q.self + " " + strconv.FormatInt(max(1, left.Milliseconds()), 10) + " "
	return q.registry.ask(ctx, head+packed)
}

// hear takes a message for this node alone. It does not block.
func (q *questions) hear(ctx context.Context, message string) {
	switch kind, rest, _ := strings.Cut(message, " "); kind {
	case "b":
		if beat, err := strconv.ParseUint(rest, 10, 64); err == nil {
			q.registry.heard.Store(beat)
		}
	case "q":
		if f := strings.SplitN(rest, " ", 4); len(f) == 4 {
			q.asked(ctx, f[0], f[1], f[2], f[3])
		}
	case "a":
		if f := strings.SplitN(rest, " ", 3); len(f) == 3 {
			q.take(f[0], f[1], f[2])
		}
	}
}

// asked answers a question of another node, off the subscription's goroutine.
func (q *questions) asked(ctx context.Context, name, asker, millis, packed string) {
	ms, err := strconv.ParseInt(millis, 10, 64)
	if err != nil || ms <= 0 {
		return
	}
	select {
	case q.slots <- struct{}{}:
	default:
		q.log.Warn("a question of another node is left unanswered: too many at once", slog.Int("most", answersAtOnce))
		return
	}
	q.running.Go(func() {
		defer func() { <-q.slots }()
		ctx, cancel := context.WithTimeout(ctx, min(askedFor, time.Duration(min(ms, askedFor.Milliseconds()))*time.Millisecond))
		defer cancel()
		if err := q.reply(ctx, name, asker, packed); err != nil {
			q.log.Warn("a question of another node is left unanswered", slog.Any("error", err))
		}
	})
}

func (q *questions) reply(ctx context.Context, name, asker, packed string) error {
	body, err := q.unpack(packed, "question "+name)
	if err != nil {
		return err
	}
	answer, err := q.pack(q.answer(ctx, body), "answer "+name)
	if err != nil {
		return err
	}
	channel := q.wire.keys.node(asker)
	return q.wire.client.Publish(ctx, channel, "a "+name+" "+q.self+" "+answer).Err()
}

// take takes an answer to a question of this node's. One that nobody waits for any more is dropped.
func (q *questions) take(name, node, packed string) {
	q.mu.Lock()
	_, awaited := q.open[name]
	q.mu.Unlock()
	if !awaited {
		return
	}
	body, err := q.unpack(packed, "answer "+name)
	if err != nil {
		q.log.Warn("another node's answer cannot be read", slog.String("node", node), slog.Any("error", err))
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting, awaited := q.open[name]
	if !awaited {
		return
	}
	waiting.answers[node] = body
	select {
	case waiting.arrived <- struct{}{}:
	default:
	}
}

var errTooLarge = errors.New("too large")

func (q *questions) pack(body []byte, about string) (string, error) {
	if len(body) > maxInflated {
		return "", fmt.Errorf("%d bytes to another node: %w; want at most %d", len(body), errTooLarge, maxInflated)
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err != nil {
		return "", fmt.Errorf("BUG: %w", err)
	}
	_, _ = w.Write(body) // into memory
	_ = w.Close()
	sealed := q.wire.seal.seal(packed.Bytes(), about)
	if len(sealed) > maxAnswer {
		return "", fmt.Errorf("%d packed bytes to another node: %w; want at most %d", len(sealed), errTooLarge, maxAnswer)
	}
	return string(sealed), nil
}

func (q *questions) unpack(sealed, about string) ([]byte, error) {
	if len(sealed) > maxAnswer {
		return nil, fmt.Errorf("%d bytes from another node: %w; want at most %d", len(sealed), errTooLarge, maxAnswer)
	}
	packed, err := q.wire.seal.open([]byte(sealed), about)
	if err != nil {
		return nil, fmt.Errorf("open a message of another node: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxInflated+1))
	if err != nil {
		return nil, fmt.Errorf("unpack a message of another node: %w", err)
	}
	if len(body) > maxInflated {
		return nil, fmt.Errorf("a message of another node: %w unpacked; want at most %d", errTooLarge, maxInflated)
	}
	return body, nil
}
