package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest"
	"usher/bench/stage"
	"usher/cmd/usher/bounds"
)

// scraper reads the metrics of a node.
type scraper struct {
	t *testing.T
	h http.Handler
}

// value returns the value of a series; ok is false if there is none.
func (s scraper) value(series string) (value string, ok bool) {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			return value, true
		}
	}
	return "", false
}

// want requires values of series.
func (s scraper) want(values map[string]string) {
	s.t.Helper()
	for series, want := range values {
		if got, _ := s.value(series); got != want {
			s.t.Errorf("%s: %q, want %q", series, got, want)
		}
	}
}

// TestNode_Metrics tells an operator of an outage: who was let in without an answer, and who of them had no right to.
func TestNode_Metrics(t *testing.T) {
	origin := httptest.NewServer(stage.NewOrigin(stage.Config{}))
	t.Cleanup(origin.Close)
	m := middleware(t)
	text := strings.Replace(settingsFor(m.URL()+"/check"), "http://127.0.0.1:9", origin.URL, 1)
	text = strings.Replace(text, "timeout: 300ms,", "timeout: 300ms, breaker: { open_duration: 1s },", 1)
	n, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
	metrics := scraper{t, n.adminHandler()}
	open := func(token string, want int) {
		t.Helper()
		if status, body := get(t, address+"/play/a001/index.m3u8?token="+token); status != want {
			t.Fatalf("%s: %d %s, want %d", token, status, body, want)
		}
	}
	open("good", http.StatusOK)
	open("good", http.StatusOK) // known: no new decision
	open("stranger", http.StatusForbidden)
	if status, _ := get(t, address+"/play/a001/index.m3u8"); status != http.StatusForbidden {
		t.Fatalf("without a token: %d, want 403", status)
	}
	metrics.want(map[string]string{
		`usher_decisions_total{backend="portal",route="/play/{channel}/*",source="backend",verdict="allowed"}`: "1",
		`usher_decisions_total{backend="portal",route="/play/{channel}/*",source="backend",verdict="denied"}`:  "1",
		`usher_sessions{backend="portal",route="/play/{channel}/*",state="allowed"}`:                           "1",
		`usher_sessions{backend="portal",route="/play/{channel}/*",state="denied"}`:                            "1",
		`usher_opening_duration_seconds_count{backend="portal",route="/play/{channel}/*",verdict="allowed"}`:   "1",
		`usher_backend_call_duration_seconds_count{backend="portal",outcome="allowed"}`:                        "1",
		`usher_refusals_total{reason="missing_credential",route="/play/{channel}/*"}`:                          "1",
		`usher_refusals_total{reason="backend",route="/play/{channel}/*"}`:                                     "1",
		`usher_backend_breaker_transitions_total{backend="portal",state="open"}`:                               "0",
	})

	if err := m.SetMode(backendtest.Refuse()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		open(fmt.Sprintf("mallory-%d", i), http.StatusOK)
	}
	eventually(t, "the breaker has opened", func() bool {
		got, _ := metrics.value(`usher_backend_breaker_transitions_total{backend="portal",state="open"}`)
		return got != "0"
	})
	metrics.want(map[string]string{
		`usher_sessions{backend="portal",route="/play/{channel}/*",state="unverified"}`:                          "5",
		`usher_decisions_total{backend="portal",route="/play/{channel}/*",source="fail-open",verdict="allowed"}`: "5",
		`usher_backend_call_duration_seconds_count{backend="portal",outcome="transport"}`:                        "5",
	})

	if err := m.SetMode(backendtest.Healthy()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the free rides have ended", func() bool {
		got, _ := metrics.value(`usher_free_rides_total{backend="portal",route="/play/{channel}/*"}`)
		return got == "5"
	})
	metrics.want(map[string]string{
		`usher_sessions{backend="portal",route="/play/{channel}/*",state="unverified"}`: "0",
		`usher_sessions{backend="portal",route="/play/{channel}/*",state="denied"}`:     "6",
	})
	if seconds, ok := metrics.value(`usher_free_ride_seconds_total{backend="portal",route="/play/{channel}/*"}`); !ok || seconds == "0" {
		t.Errorf("free rides lasted %q seconds, want some", seconds)
	}
}

// TestNodeBounds_NamesAll finds in the code each bound of a node that turns viewers away.
func TestNodeBounds_NamesAll(t *testing.T) {
	t.Parallel()
	literal := regexp.MustCompile(`(?:[oO]verload\(|max\w+ += |NewPrivate\(inner, )"([^"]*[^."])"`)
	var found []string
	for _, tree := range []string{"../../actors", "../../gateway", "node_admin.go"} {
		err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, match := range literal.FindAllSubmatch(text, -1) {
				found = append(found, string(match[1]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	if want := slices.Sorted(slices.Values(nodeBounds())); !slices.Equal(slices.Compact(found), want) {
		t.Errorf("the code has %q, want %q", found, want)
	}
}

// TestNode_Metrics_OverloadsBeginAtZero has a fresh node show the series of every bound that turns viewers away: Prometheus takes one that
// begins above zero for no increase.
func TestNode_Metrics_OverloadsBeginAtZero(t *testing.T) {
	t.Parallel()
	accounts := writeFile(t, "users: {}\n")
	text := strings.Replace(settingsFor("http://127.0.0.1:9/check"), "routes:", fmt.Sprintf(`  accounts: { kind: users, file: %q }
  tokens: { kind: jwt, algorithms: [ ES256 ], jwks_url: "https://127.0.0.1:9/keys" }
  all: { kind: any, backends: [ portal, accounts ] }
routes:`, accounts), 1)
	n, _, _ := launchNode(t, text, sdktrace.NewTracerProvider())
	w := httptest.NewRecorder()
	n.adminHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	const metric = "usher_overloads_total"
	want := []string{ // those of backends that call no middleware
		"backends.accounts.answer_deadline", "backends.accounts.max_waiting", "backends.accounts.max_concurrent_hashes",
		"backends.tokens.jwks_url: fetches for tokens without a known key", "backends.all.backends: unfinished calls to accounts",
	}
	for _, b := range bounds.All() {
		if b.Metric == metric {
			name := strings.NewReplacer("backends.*.backends", "backends.all.backends", "backends.*", "backends.portal", "to *", "to portal")
			want = append(want, name.Replace(cmp.Or(b.Label, b.Setting)))
		}
	}
	for _, setting := range want {
		if !strings.Contains(w.Body.String(), fmt.Sprintf("\n%s{setting=%q} 0\n", metric, setting)) {
			t.Errorf("no series of %s", setting)
		}
	}
}

// TestNode_Metrics_Overload names the bound that turned viewers away.
func TestNode_Metrics_Overload(t *testing.T) {
	m := middleware(t)
	text := settingsFor(m.URL()+"/check") + "sessions: { max: 1 }\n"
	n, address, _ := launchNode(t, text, sdktrace.NewTracerProvider())
	for i := range 3 {
		get(t, fmt.Sprintf("%s/play/a001/index.m3u8?token=viewer-%d", address, i))
	}
	scraper{t, n.adminHandler()}.want(map[string]string{
		`usher_overloads_total{setting="backends.portal.max_in_flight"}`:     "0",
		`usher_overloads_total{setting="sessions.max"}`:                      "2",
		`usher_refusals_total{reason="unchecked",route="/play/{channel}/*"}`: "2",
	})
}
