package breakers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"usher/backends"
)

// ErrUnknownBackend means that a node has no such backend.
var ErrUnknownBackend = errors.New("no backend of that name")

// The kinds of query.
const (
	forceQueryKind = "force"
	probeQueryKind = "probe"
)

// MaxForced is the longest that a breaker is forced.
const MaxForced = 24 * time.Hour

// probeTimeout is less than a node waits for the replies of others, and far more than an operator should wait.
const probeTimeout = 4 * time.Second

const unreadable = "its answer is unreadable: it has another version"

// Node is one node with its backends. It is safe for concurrent use.
type Node interface {
	// HasBreaker returns ErrUnknownBackend, or why the backend has no breaker.
	HasBreaker(backend string) error
	// ApplyForced applies an order.
	ApplyForced(order backends.ForcedBreaker)
	// Probe asks the backend once. The error says that it was not asked, or is the call's.
	Probe(ctx context.Context, backend string) (d backends.Decision, took time.Duration, err error)
}

// query is what a node sends to all.
type query struct {
	Kind    string `json:"ask"`
	Backend string `json:"backend"`
	// Order is nil in a probe.
	Order *orderMessage `json:"order,omitempty"`
}

// orderMessage is a [backends.ForcedBreaker] on its way.
type orderMessage struct {
	IsForced bool   `json:"forced,omitempty"`
	IsOpen   bool   `json:"open,omitempty"`
	Duration int64  `json:"ms"`
	Reason   string `json:"reason,omitempty"`
	By       string `json:"by,omitempty"`
	Version  int64  `json:"version"`
}

// EncodeForce returns the query by which all nodes apply an order.
func EncodeForce(order backends.ForcedBreaker) []byte {
	return encode(query{Kind: forceQueryKind, Backend: order.Backend, Order: &orderMessage{
		IsForced: order.IsForced, IsOpen: order.State == backends.BreakerOpen, Duration: time.Until(order.Until).Milliseconds(),
		Reason: order.Reason, By: order.By, Version: order.Version,
	}})
}

// EncodeProbe returns the query by which all nodes probe a backend.
func EncodeProbe(backend string) []byte { return encode(query{Kind: probeQueryKind, Backend: backend}) }

func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // it holds only strings and numbers
	}
	return body
}

// decode returns a query that this version understands.
func decode(asked []byte) (q query, isKnown bool) {
	d := json.NewDecoder(bytes.NewReader(asked))
	d.DisallowUnknownFields()
	if d.Decode(&q) != nil {
		return query{}, false
	}
	switch q.Kind {
	case forceQueryKind:
		isKnown = q.Order != nil && q.Order.Duration > 0 && q.Order.Duration <= MaxForced.Milliseconds()
	case probeQueryKind:
		isKnown = q.Order == nil
	}
	return q, isKnown && q.Backend != ""
}

// forceReply is a node's reply to an order.
type forceReply struct {
	// Error says why the order does not hold there; empty: it does.
	Error string `json:"error,omitempty"`
}

// Probe is what one node learned from a probe.
type Probe struct {
	Node string `json:"node"`
	// Outcome is the verdict, or the kind of failure. It is empty if the node has not asked; Error says why.
	Outcome string `json:"outcome,omitempty"`
	// DurationMS is how long the backend took, in ms.
	DurationMS float64 `json:"duration_ms"`
	Error      string  `json:"error,omitempty"`
}

// Answer returns the reply of a node to a query of this package; nil: it is another one.
func Answer(ctx context.Context, here Node, asked []byte) []byte {
	q, isKnown := decode(asked)
	switch {
	case !isKnown:
		return nil
	case q.Kind == probeQueryKind:
		return encode(probe(ctx, here, q.Backend))
	}
	if err := here.HasBreaker(q.Backend); err != nil {
		return encode(forceReply{Error: err.Error()})
	}
	order := backends.ForcedBreaker{
		Backend: q.Backend, IsForced: q.Order.IsForced, Until: time.Now().Add(time.Duration(q.Order.Duration) * time.Millisecond),
		Reason: q.Order.Reason, By: q.Order.By, Version: q.Order.Version,
	}
	if q.Order.IsOpen {
		order.State = backends.BreakerOpen
	}
	here.ApplyForced(order)
	return encode(forceReply{})
}

func probe(ctx context.Context, here Node, backend string) Probe {
	if err := here.HasBreaker(backend); err != nil {
		return Probe{Error: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	d, took, err := here.Probe(ctx, backend)
	p := Probe{Outcome: d.Verdict.String(), DurationMS: float64(took.Microseconds()) / 1000}
	if err == nil {
		return p
	}
	p.Outcome, p.Error = "", err.Error()
	if f := backends.AsFailure(err); f != nil {
		p.Outcome = f.Kind.String()
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.Outcome, p.Error = backends.FailureTimeout.String(), fmt.Sprintf("no answer within %v", probeTimeout)
	}
	return p
}

// MergeForced returns the nodes on which an order holds, and why it does not on the others.
func MergeForced(replies map[string][]byte) (done []string, not map[string]string) {
	not = make(map[string]string)
	for _, node := range slices.Sorted(maps.Keys(replies)) {
		var a forceReply
		switch err := json.Unmarshal(replies[node], &a); {
		case err != nil:
			not[node] = unreadable
		case a.Error != "":
			not[node] = a.Error
		default:
			done = append(done, node)
		}
	}
	return done, not
}

// MergeProbes returns what the nodes learned, in the order of their names.
func MergeProbes(replies map[string][]byte) []Probe {
	all := []Probe{}
	for _, node := range slices.Sorted(maps.Keys(replies)) {
		var p Probe
		if json.Unmarshal(replies[node], &p) != nil {
			p = Probe{Error: unreadable}
		}
		p.Node = node
		all = append(all, p)
	}
	return all
}
