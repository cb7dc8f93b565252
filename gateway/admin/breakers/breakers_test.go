package breakers

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// fakeNode has one backend with a breaker, and notes orders.
type fakeNode struct {
	orders []string
	probe  func(ctx context.Context) (backends.Decision, time.Duration, error)
}

func (n *fakeNode) HasBreaker(backend string) error {
	if backend != "portal" {
		return ErrUnknownBackend
	}
	return nil
}

func (n *fakeNode) ApplyForced(o backends.ForcedBreaker) {
	n.orders = append(n.orders, fmt.Sprint(o.Backend, o.IsForced, o.State, time.Until(o.Until), o.Reason, o.By, o.Version))
}

func (n *fakeNode) Probe(ctx context.Context, _ string) (backends.Decision, time.Duration, error) {
	return n.probe(ctx)
}

// TestAnswer_Force applies an order as it was sent, and none that is not one.
func TestAnswer_Force(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		order := backends.ForcedBreaker{
			Backend: "portal", IsForced: true, State: backends.BreakerOpen, Until: time.Now().Add(time.Hour), Reason: "upgrade", By: "ops", Version: 7,
		}
		n := new(fakeNode)
		other := order
		other.Backend = "other"
		done, not := MergeForced(map[string][]byte{
			"n1": Answer(t.Context(), n, EncodeForce(order)), "n2": Answer(t.Context(), n, EncodeForce(other)), "n3": nil,
		})
		if diff := cmp.Diff([]string{"n1"}, done) + cmp.Diff(map[string]string{"n2": "no backend of that name", "n3": unreadable}, not); diff != "" {
			t.Errorf("merged (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"portaltrue open 1h0m0supgradeops7"}, n.orders); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
		for _, asked := range []string{
			"", "{}", `{"ask":"sessions","filter":{},"limit":1}`, `{"ask":"force","backend":"portal"}`, `{"ask":"probe"}`,
			`{"ask":"force","backend":"portal","order":{"ms":0,"version":1}}`, `{"ask":"force","backend":"portal","order":{"ms":86400001,"version":1}}`,
			`{"ask":"force","backend":"portal","order":{"ms":1,"version":1,"new":1}}`, `{"ask":"probe","backend":"portal","order":{"ms":1,"version":1}}`,
		} {
			if reply := Answer(t.Context(), n, []byte(asked)); reply != nil {
				t.Errorf("%s is answered by %s", asked, reply)
			}
		}
		if len(n.orders) != 1 {
			t.Errorf("applied %q", n.orders)
		}
	})
}

// TestAnswer_Probe says what came of a probe.
func TestAnswer_Probe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := func(d backends.Decision, err error) []byte {
			n := &fakeNode{probe: func(ctx context.Context) (backends.Decision, time.Duration, error) {
				if errors.Is(err, context.DeadlineExceeded) {
					<-ctx.Done()
				}
				return d, 1500 * time.Microsecond, err
			}}
			return Answer(t.Context(), n, EncodeProbe("portal"))
		}
		got := MergeProbes(map[string][]byte{
			"n1": answer(backends.Decision{Verdict: backends.Denied}, nil),
			"n2": answer(backends.Decision{}, &backends.Failure{Kind: backends.FailureStatus, Backend: "portal", Status: 500}),
			"n3": answer(backends.Decision{}, context.DeadlineExceeded),
			"n4": answer(backends.Decision{}, errors.New("nobody")),
			"n5": Answer(t.Context(), new(fakeNode), EncodeProbe("other")),
			"n6": []byte("?"),
		})
		want := []Probe{
			{Node: "n1", Outcome: "denied", DurationMS: 1.5},
			{Node: "n2", Outcome: "status", DurationMS: 1.5, Error: `check backend "portal": status 500`},
			{Node: "n3", Outcome: "timeout", DurationMS: 1.5, Error: "no answer within 4s"},
			{Node: "n4", DurationMS: 1.5, Error: "nobody"},
			{Node: "n5", Error: "no backend of that name"},
			{Node: "n6", Error: unreadable},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("merged (-want +got):\n%s", diff)
		}
	})
}

// FuzzAnswer takes any query.
func FuzzAnswer(f *testing.F) {
	f.Add(EncodeProbe("portal"))
	f.Add(EncodeForce(backends.ForcedBreaker{Backend: "portal", IsForced: true, Until: time.Now().Add(time.Hour)}))
	f.Fuzz(func(t *testing.T, asked []byte) {
		n := &fakeNode{probe: func(context.Context) (backends.Decision, time.Duration, error) { return backends.Decision{}, 0, nil }}
		_ = Answer(t.Context(), n, asked)
		if len(n.orders) > 1 {
			t.Errorf("applied %q", n.orders)
		}
	})
}
