package admin

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"usher/backends"
)

func newNodeWithAlarms() *fakeNode {
	n := newFakeNode()
	n.ready = true
	n.backends = []Backend{
		{
			Name: "portal", Kind: "ministra", Breaker: "half-open", Forced: &Forced{State: "open"}, OnFailure: "allow", Address: "http://portal.example.com/",
			RechecksInFlight: 2, ChecksLimit: 256, RechecksLimit: 32, RechecksWaiting: 40,
			ContractViolations: map[string]AlarmState{
				backends.AlarmWrongAddress.String():     {Count: 12345678, Active: true},
				backends.AlarmUnexpectedStatus.String(): {Count: 3},
				"made_up":                               {Count: 9, Active: true},
			},
		},
		{Name: `a "quoted" one`, Kind: "rules", Breaker: "closed", OnFailure: "deny"},
	}
	return n
}

// ownSeries drops the series of the runtime's and the process's collectors.
func ownSeries(scrape string) string {
	var own []string
	for line := range strings.Lines(scrape) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "usher_") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "")
}

func TestMetrics_Scrape(t *testing.T) {
	t.Parallel()
	got := request(t, newNodeWithAlarms(), http.MethodGet, "/metrics", "")
	if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain; version=0.0.4") ||
		got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d and header %v", got.status, got.header)
	}
	want := `# HELP usher_active_bans Active bans.
# TYPE usher_active_bans gauge
usher_active_bans 0
# HELP usher_active_sessions Sessions on this node.
# TYPE usher_active_sessions gauge
usher_active_sessions 3
# HELP usher_backend_breaker_state State of the breaker: 1 for the current state, 0 for the others.
# TYPE usher_backend_breaker_state gauge
usher_backend_breaker_state{backend="a \"quoted\" one",state="closed"} 1
usher_backend_breaker_state{backend="a \"quoted\" one",state="half-open"} 0
usher_backend_breaker_state{backend="a \"quoted\" one",state="open"} 0
usher_backend_breaker_state{backend="portal",state="closed"} 0
usher_backend_breaker_state{backend="portal",state="half-open"} 1
usher_backend_breaker_state{backend="portal",state="open"} 0
# HELP usher_backend_calls_in_flight Calls of the backend without an answer yet.
# TYPE usher_backend_calls_in_flight gauge
usher_backend_calls_in_flight{backend="a \"quoted\" one",check="opening"} 0
usher_backend_calls_in_flight{backend="a \"quoted\" one",check="recheck"} 0
usher_backend_calls_in_flight{backend="portal",check="opening"} 0
usher_backend_calls_in_flight{backend="portal",check="recheck"} 2
# HELP usher_backend_calls_limit Calls of the backend that may be in flight now.
# TYPE usher_backend_calls_limit gauge
usher_backend_calls_limit{backend="portal",check="opening"} 256
usher_backend_calls_limit{backend="portal",check="recheck"} 32
# HELP usher_backend_contract_violation 1 while the backend violates its contract, else 0.
# TYPE usher_backend_contract_violation gauge
usher_backend_contract_violation{backend="portal",violation="address_moved"} 0
usher_backend_contract_violation{backend="portal",violation="bad_header"} 0
usher_backend_contract_violation{backend="portal",violation="broken_page"} 0
usher_backend_contract_violation{backend="portal",violation="constant_user"} 0
usher_backend_contract_violation{backend="portal",violation="denials_jumped"} 0
usher_backend_contract_violation{backend="portal",violation="redirect_to_itself"} 0
usher_backend_contract_violation{backend="portal",violation="unexpected_answer"} 0
usher_backend_contract_violation{backend="portal",violation="unexpected_status"} 0
usher_backend_contract_violation{backend="portal",violation="wrong_address"} 1
# HELP usher_backend_contract_violations_total Responses of the backend that violated its contract.
# TYPE usher_backend_contract_violations_total counter
usher_backend_contract_violations_total{backend="portal",violation="address_moved"} 0
usher_backend_contract_violations_total{backend="portal",violation="bad_header"} 0
usher_backend_contract_violations_total{backend="portal",violation="broken_page"} 0
usher_backend_contract_violations_total{backend="portal",violation="constant_user"} 0
usher_backend_contract_violations_total{backend="portal",violation="denials_jumped"} 0
usher_backend_contract_violations_total{backend="portal",violation="redirect_to_itself"} 0
usher_backend_contract_violations_total{backend="portal",violation="unexpected_answer"} 0
usher_backend_contract_violations_total{backend="portal",violation="unexpected_status"} 3
usher_backend_contract_violations_total{backend="portal",violation="wrong_address"} 1.2345678e+07
# HELP usher_backend_forced 1 while an operator forces the breaker to be in this state, else 0.
# TYPE usher_backend_forced gauge
usher_backend_forced{backend="a \"quoted\" one",state="closed"} 0
usher_backend_forced{backend="a \"quoted\" one",state="open"} 0
usher_backend_forced{backend="portal",state="closed"} 0
usher_backend_forced{backend="portal",state="open"} 1
# HELP usher_backend_rechecks_waiting Sessions that wait for a slot of recheck_rate.
# TYPE usher_backend_rechecks_waiting gauge
usher_backend_rechecks_waiting{backend="a \"quoted\" one"} 0
usher_backend_rechecks_waiting{backend="portal"} 40
# HELP usher_cluster_nodes Live nodes, this one included, as far as this one knows.
# TYPE usher_cluster_nodes gauge
usher_cluster_nodes 1
# HELP usher_ready 1 while load balancers may send viewers to this node, else 0.
# TYPE usher_ready gauge
usher_ready 1
# HELP usher_redis_round_trips_total Waits for Redis on behalf of sessions.
# TYPE usher_redis_round_trips_total counter
usher_redis_round_trips_total 0
# HELP usher_redis_up 1 while Redis is available, else 0. Always 1 without Redis.
# TYPE usher_redis_up gauge
usher_redis_up 1
`
	if diff := cmp.Diff(want, ownSeries(got.body)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	for _, other := range []string{"\ngo_goroutines ", "\nprocess_open_fds "} {
		if !strings.Contains(got.body, other) {
			t.Errorf("no series%s", other)
		}
	}
	for _, viewer := range []string{"Ann", "192.0.2.7", "MAG250", "a001", "made_up"} {
		if strings.Contains(got.body, viewer) {
			t.Errorf("it says %s", viewer)
		}
	}
}

func TestMetrics_AnyOrderOfBackends(t *testing.T) {
	t.Parallel()
	want := ownSeries(request(t, newNodeWithAlarms(), http.MethodGet, "/metrics", "").body)
	n := newNodeWithAlarms()
	slices.Reverse(n.backends)
	if diff := cmp.Diff(want, ownSeries(request(t, n, http.MethodGet, "/metrics", "").body)); diff != "" {
		t.Errorf("the one without alarms first (-want +got):\n%s", diff)
	}
}

func TestNodeCollector_PassesLint(t *testing.T) {
	t.Parallel()
	problems, err := promlint.New(strings.NewReader(request(t, newNodeWithAlarms(), http.MethodGet, "/metrics", "").body)).Lint()
	if err != nil {
		t.Fatalf("read the scrape: %v", err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	pedantic := prometheus.NewPedanticRegistry()
	pedantic.MustRegister(newNodeCollector(newNodeWithAlarms().options()))
	if families, err := pedantic.Gather(); err != nil || len(families) != 13 {
		t.Errorf("got %d families and error %v, want 13", len(families), err)
	}
}

func TestMetrics_ReadsCurrentState(t *testing.T) {
	t.Parallel()
	n := &fakeNode{}
	h := newHandler(t, Config{Token: token}, n.options())
	for _, step := range []struct {
		change func()
		want   []string
	}{
		{func() {}, []string{"usher_ready 0", "usher_active_sessions 0"}},
		{
			func() { n.ready, n.sessions = true, make([]Session, 2) },
			[]string{"usher_ready 1", "usher_active_sessions 2"},
		},
		{
			func() {
				n.backends = []Backend{{Name: "portal", Breaker: "open", ContractViolations: map[string]AlarmState{}}}
			},
			[]string{
				`usher_backend_breaker_state{backend="portal",state="open"} 1`,
				`usher_backend_contract_violation{backend="portal",violation="wrong_address"} 0`,
			},
		},
		{
			func() { n.backends[0].Breaker = "closed" },
			[]string{
				`usher_backend_breaker_state{backend="portal",state="closed"} 1`,
				`usher_backend_breaker_state{backend="portal",state="open"} 0`,
			},
		},
	} {
		step.change()
		got := scrape(t, h)
		for _, line := range step.want {
			if !strings.Contains(got.Body.String(), line+"\n") {
				t.Errorf("no line %s in\n%s", line, ownSeries(got.Body.String()))
			}
		}
	}
	n.backends = nil
	if got := ownSeries(scrape(t, h).Body.String()); strings.Contains(got, "portal") {
		t.Errorf("a backend that is gone is still there:\n%s", got)
	}
}

func scrape(t *testing.T, h http.Handler) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return w
}

func TestMetrics_InvalidLabel_FailsScrapeOnly(t *testing.T) {
	t.Parallel()
	n := newFakeNode()
	n.backends[0].Name = "portal\xff"
	h := newHandler(t, Config{Token: token}, n.options())
	if got := scrape(t, h); got.Code != http.StatusInternalServerError {
		t.Errorf("got %d, want 500: %s", got.Code, got.Body)
	}
	n.backends[0].Name = "portal"
	if got := scrape(t, h); got.Code != http.StatusOK {
		t.Errorf("afterwards: got %d, want 200: %s", got.Code, got.Body)
	}
}

// slowNode blocks scrapes until it is released.
type slowNode struct {
	fakeNode
	entered chan struct{}
	release chan struct{}
}

func (n *slowNode) Backends() []Backend {
	n.entered <- struct{}{}
	<-n.release
	return nil
}

func TestMetrics_ConcurrentScrapes_Bounded(t *testing.T) {
	t.Parallel()
	n := &slowNode{entered: make(chan struct{}), release: make(chan struct{})}
	o := n.options()
	o.Backends = n.Backends
	h := newHandler(t, Config{Token: token}, o)
	var group sync.WaitGroup
	for range maxScrapes {
		group.Go(func() {
			if got := scrape(t, h); got.Code != http.StatusOK {
				t.Errorf("got %d, want 200", got.Code)
			}
		})
		<-n.entered
	}
	if got := scrape(t, h); got.Code != http.StatusServiceUnavailable {
		t.Errorf("one more: got %d, want 503", got.Code)
	}
	close(n.release)
	group.Wait()
}

func TestHandler_Backends_ShowsAlarmsAndAddress(t *testing.T) {
	t.Parallel()
	got := get(t, newNodeWithAlarms(), "/api/v1/backends")
	want := `{"backends":[{"name":"portal","kind":"ministra","breaker":"half-open","on_failure":"allow",` +
		`"address":"http://portal.example.com/","rechecks_in_flight":2,"checks_limit":256,"rechecks_limit":32,"forced":{"state":"open","until":"0001-01-01T00:00:00Z"},"rechecks_waiting":40,"contract_violations":{"made_up":{"count":9,"active":true},` +
		`"unexpected_status":{"count":3,"active":false},"wrong_address":{"count":12345678,"active":true}}},` +
		`{"name":"a \"quoted\" one","kind":"rules","breaker":"closed","on_failure":"deny"}]}` + "\n"
	if diff := cmp.Diff(want, got.body); diff != "" || got.status != http.StatusOK {
		t.Errorf("status %d, body (-want +got):\n%s", got.status, diff)
	}
}

func BenchmarkHandler_Metrics(b *testing.B) {
	h := Handler(Config{Token: token}, newNodeWithAlarms().options())
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

// TestMetrics_Documented has every metric of the code, here and in the packages below, in the documentation, and none besides.
func TestMetrics_Documented(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	below, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	literal, word := regexp.MustCompile(`(?:Name: |NewDesc\(|newCounter\(|newHistogram\()"(usher_[a-z_]+)"`), regexp.MustCompile(`\b(usher_[a-z_]+)`)
	inCode, inDoc := map[string]bool{}, map[string]bool{}
	for _, file := range append(files, below...) {
		text, err := os.ReadFile(file)
		switch {
		case err != nil:
			t.Fatal(err)
		case file == "doc.go":
			for _, match := range word.FindAllSubmatch(text, -1) {
				inDoc[string(match[1])] = true
			}
		case !strings.HasSuffix(file, "_test.go"):
			for _, match := range literal.FindAllSubmatch(text, -1) {
				inCode[string(match[1])] = true
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(inDoc))); diff != "" || len(inCode) < 30 {
		t.Errorf("metrics of the code and of doc.go (-code +doc):\n%s", diff)
	}
}

func TestMetrics_StoreCalls(t *testing.T) {
	t.Parallel()
	o := newNodeWithAlarms().options()
	o.StoreCalls = func() map[string]int { return map[string]int{"opening": 3, "save": 0} }
	w := httptest.NewRecorder()
	newHandler(t, Config{}, o).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	got := w.Body.String()
	for _, want := range []string{`usher_redis_calls_in_flight{call="opening"} 3`, `usher_redis_calls_in_flight{call="save"} 0`} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("the scrape lacks %s:\n%s", want, got)
		}
	}
}
