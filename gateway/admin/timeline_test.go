package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/actors/session"
	"usher/backends"
)

// nodeWithChecks is a node that holds one session; none if it has no checks.
type nodeWithChecks struct {
	fakeNodeSessions
	checks []Check
}

var sessionChecked = backends.SessionID{15: 7}

func (n nodeWithChecks) Checks(id backends.SessionID) ([]Check, bool) {
	return n.checks, id == sessionChecked && n.checks != nil
}

// clusterWithChecks has nodes by their names. One without sessions is of an older version, which knows no timelines.
type clusterWithChecks struct {
	Cluster
	nodes  map[string]NodeSessions
	silent []string
}

func (c clusterWithChecks) Ask(ctx context.Context, request []byte) (replies map[string][]byte, silent []string) {
	replies = map[string][]byte{}
	for name, n := range c.nodes {
		replies[name] = nil
		if n != nil {
			replies[name] = AnswerSessionQuery(ctx, n, nil, request)
		}
	}
	return replies, c.silent
}

func (clusterWithChecks) Bans() []session.Ban { return nil }

func TestHandler_Timeline(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 20, 0, 0, 0, time.UTC)
	opening := Check{Time: at, Trigger: "opening", Backend: "portal", DurationMS: 12.3, Verdict: "allowed", Source: "backend"}
	merged := Check{
		Time: at.Add(time.Hour), Trigger: "recheck", Backend: "portal", DurationMS: 9, Verdict: "allowed", Source: "backend",
		Count: 17, Since: at.Add(time.Minute), Omitted: 2,
	}
	lookup := Check{Time: at.Add(time.Second), Trigger: "lookup", DurationMS: 0.4, Verdict: "allowed", Source: "backend"}
	outage := Check{Time: at.Add(2 * time.Hour), Trigger: "recheck", Backend: "portal", Verdict: "allowed", Source: "cached", Error: "timeout"}
	n1 := nodeWithChecks{checks: []Check{opening, merged}}
	n2 := nodeWithChecks{checks: []Check{lookup, outage}}
	on := func(node string, c Check) Check {
		c.Node = node
		return c
	}
	const traces = "http://jaeger:16686/search?tags=%7B%22session.id%22%3A%22{session}%22%7D"
	tests := map[string]struct {
		cluster  clusterWithChecks
		traceURL string
		id       string
		status   int
		want     Timeline
		text     string // of what is no timeline
	}{
		"of two nodes, and one that does not hold it": {
			cluster:  clusterWithChecks{nodes: map[string]NodeSessions{"n1": n1, "n2": n2, "n3": nodeWithChecks{}}},
			traceURL: traces, status: 200,
			want: Timeline{
				TraceURL: "http://jaeger:16686/search?tags=%7B%22session.id%22%3A%22" + sessionChecked.String() + "%22%7D",
				Checks:   []Check{on("n1", opening), on("n2", lookup), on("n1", merged), on("n2", outage)}, UnreachableNodes: []string{},
			},
		},
		"with nodes that do not answer, or not this": {
			cluster: clusterWithChecks{nodes: map[string]NodeSessions{"n1": n1, "n2": nil}, silent: []string{"n3", "m"}},
			status:  200,
			want:    Timeline{Checks: []Check{on("n1", opening), on("n1", merged)}, UnreachableNodes: []string{"m", "n2", "n3"}},
		},
		"of a session that is opening": {
			cluster: clusterWithChecks{nodes: map[string]NodeSessions{"n1": nodeWithChecks{checks: []Check{}}}},
			status:  200, want: Timeline{Checks: []Check{}, UnreachableNodes: []string{}},
		},
		"of a session that nobody holds": {
			cluster: clusterWithChecks{nodes: map[string]NodeSessions{"n1": nodeWithChecks{}}}, status: 404,
			text: "no live session has this id, and one that has closed has no timeline\n",
		},
		"of no session": {
			cluster: clusterWithChecks{nodes: map[string]NodeSessions{"n1": n1, "n2": nil}}, id: "none", status: 404,
			text: "no live session has this id, and one that has closed has no timeline; 1 nodes did not respond: [\"n2\"]\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.id == "" {
				test.id = sessionChecked.String()
			}
			h := newHandler(t, Config{Token: token, TraceURL: test.traceURL}, Options{Cluster: test.cluster, Sessions: nodeWithChecks{}})
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/sessions/"+test.id+"/timeline", nil)
			request.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, request)
			if w.Code != test.status {
				t.Fatalf("status %d %s, want %d", w.Code, w.Body, test.status)
			}
			if test.text != "" {
				if got := w.Body.String(); got != test.text {
					t.Errorf("got %q, want %q", got, test.text)
				}
				return
			}
			test.want.Session = test.id
			var got Timeline
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("timeline (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheck_JSON_SingleCheck shows neither a count nor what else a single check does not have.
func TestCheck_JSON_SingleCheck(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(Check{
		Time: time.Date(2026, 3, 1, 20, 0, 0, 0, time.UTC), Node: "n1", Trigger: "opening", DurationMS: 12.3,
		Verdict: "allowed", Source: "backend",
	})
	const want = `{"time":"2026-03-01T20:00:00Z","node":"n1","trigger":"opening","duration_ms":12.3,"verdict":"allowed","source":"backend"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s %v, want %s", got, err, want)
	}
}

func TestConfigValidate_TraceURL(t *testing.T) {
	t.Parallel()
	const example = "; want a URL such as http://jaeger:16686/search?service=usher&tags=%7B%22session.id%22%3A%22{session}%22%7D"
	for traceURL, want := range map[string]string{
		"": "",
		"http://jaeger:16686/search?service=usher&tags=%7B%22session.id%22%3A%22{session}%22%7D": "",
		"https://traces.example/sessions/{session}":                                              "",
		"http://jaeger:16686/search":                                                             `trace_url: "http://jaeger:16686/search" has no {session}, where the session's id goes` + example,
		"ftp://jaeger/{session}":                                                                 `trace_url: "ftp://jaeger/{session}" is no address of a trace UI` + example,
		"jaeger/{session}":                                                                       `trace_url: "jaeger/{session}" is no address of a trace UI` + example,
		"http:///{session}":                                                                      `trace_url: "http:///{session}" is no address of a trace UI` + example,
		"http://ann:s3cret@jaeger/{session}":                                                     "trace_url: has a user or a password, which every reader of a timeline would see" + example,
		"http://ann:s3cret%@jaeger/":                                                             "trace_url: is not a URL" + example,
	} {
		got := ""
		if err := (Config{Listen: ":8081", Token: token, TraceURL: traceURL}).Validate(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: error (-want +got):\n%s", traceURL, diff)
		}
	}
}

func FuzzMergeTimelines(f *testing.F) {
	f.Add([]byte(`{"found":true,"checks":[{"time":"2026-03-01T20:00:00Z","trigger":"opening","count":3}]}`))
	f.Add([]byte(`{"found":false,"checks":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, found := mergeTimelines(map[string][]byte{"n1": body, "n2": []byte(`{"found":true,"checks":[{}]}`)}, []string{"n3"})
		isSorted := slices.IsSortedFunc(got.Checks, func(a, b Check) int { return a.Time.Compare(b.Time) })
		if !found || len(got.Checks) == 0 || !isSorted || !slices.Contains(got.UnreachableNodes, "n3") {
			t.Errorf("found %t, %+v", found, got)
		}
	})
}
