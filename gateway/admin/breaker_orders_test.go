package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/admin/breakers"
)

// fakeBreakers are those of a node whose backend "portal" has a breaker.
type fakeBreakers struct{}

func (fakeBreakers) HasBreaker(backend string) error {
	return map[string]error{"own": errors.New("no breaker"), "nobody": breakers.ErrUnknownBackend}[backend]
}

func (fakeBreakers) ApplyForced(backends.ForcedBreaker) {}

func (fakeBreakers) Probe(context.Context, string) (backends.Decision, time.Duration, error) {
	return backends.Decision{Verdict: backends.Allowed}, time.Millisecond, nil
}

// breakerCluster is a node and another one, which replies with other, or does not if that is empty.
type breakerCluster struct {
	*fakeCluster
	fakeBreakers
	other  string
	isUp   bool
	orders []backends.ForcedBreaker
}

func (c *breakerCluster) RedisDown() bool { return !c.isUp }

func (c *breakerCluster) ApplyForced(o backends.ForcedBreaker) { c.orders = append(c.orders, o) }

func (c *breakerCluster) Ask(ctx context.Context, asked []byte) (map[string][]byte, []string) {
	replies := map[string][]byte{"n1": breakers.Answer(ctx, c, asked)}
	if c.other == "" {
		return replies, []string{"n2"}
	}
	replies["n2"] = []byte(c.other)
	return replies, nil
}

// TestHandler_ForceBreaker_NamesNodes says on which nodes an order holds, and on which it does not.
func TestHandler_ForceBreaker_NamesNodes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cluster breakerCluster
		path    string
		status  int
		want    string // in the body
	}{
		"all nodes":     {breakerCluster{isUp: true, other: "{}"}, "breaker", 200, `"nodes":["n1","n2"]}`},
		"a silent node": {breakerCluster{isUp: true}, "breaker", 200, `"nodes":["n1"],"not_forced":{"n2":"no answer within 4s"}}`},
		"a node without the backend": {
			breakerCluster{isUp: true, other: `{"error":"no backend of that name"}`},
			"breaker", 200,
			`"nodes":["n1"],"not_forced":{"n2":"no backend of that name"}}`,
		},
		"a lost node": {
			breakerCluster{isUp: true, other: "{}", fakeCluster: &fakeCluster{lost: []session.NodeInfo{{Name: "n3"}}}},
			"breaker", 200,
			`"nodes":["n1","n2"],"not_forced":{"n3":"no heartbeat for `,
		},
		"redis unavailable": {
			breakerCluster{fakeCluster: &fakeCluster{err: backends.ErrStoreUnavailable}},
			"breaker", 202,
			`"nodes":["n1"],"not_forced":{"n2":"redis unavailable"}}`,
		},
		"a probe of all": {
			breakerCluster{isUp: true, other: `{"outcome":"denied","duration_ms":2}`},
			"probe", 200,
			`{"probes":[{"node":"n1","outcome":"allowed","duration_ms":1},{"node":"n2","outcome":"denied","duration_ms":2}]}`,
		},
		"a probe without one": {breakerCluster{isUp: true}, "probe", 200, `"duration_ms":1}],"unreachable_nodes":["n2"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.cluster.fakeCluster == nil {
				test.cluster.fakeCluster = new(fakeCluster)
			}
			c := &test.cluster
			handler := newHandler(t, Config{Token: token}, Options{
				Sessions: newFakeNode(), Cluster: c, Breakers: c, Ready: newFakeNode().Ready, Backends: newFakeNode().Backends,
			})
			body := map[string]string{"breaker": `{"state":"open","duration":"1h","reason":"upgrade"}`}[test.path]
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/backends/portal/"+test.path, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) {
				t.Errorf("%d %s\nwant %d with %s", w.Code, w.Body, test.status, test.want)
			}
			if test.path == "breaker" && (len(c.orders) == 0 || c.orders[0].Reason != "upgrade" || !strings.Contains(w.Body.String(), `"state":"open"`)) {
				t.Errorf("applied %+v: %s", c.orders, w.Body)
			}
		})
	}
}
