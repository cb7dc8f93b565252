package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"usher/backends/backendtest"
)

// prometheusServer is a running Prometheus.
type prometheusServer struct {
	*process
	url    string
	client *http.Client
}

// startPrometheus runs a Prometheus that scrapes a node each second and evaluates the rules that operators load.
func startPrometheus(t *testing.T, admin string) *prometheusServer {
	t.Helper()
	rules, err := filepath.Abs(filepath.Join(deployPrometheus, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf(`
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ %q ]
scrape_configs: [ { job_name: usher, static_configs: [ { targets: [ %q ] } ] } ]
`, rules, strings.TrimPrefix(admin, "http://"))
	folder := t.TempDir()
	file := filepath.Join(folder, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	p := &prometheusServer{url: "http://" + address, client: newClient(t, "")}
	p.process = start(t, tool(t, "prometheus", "prometheus"), "--config.file="+file, "--web.listen-address="+address,
		"--storage.tsdb.path="+filepath.Join(folder, "data"), "--log.level=warn")
	eventually(t, waitTimeout, "Prometheus is ready", func() error {
		if p.ended() {
			t.Fatalf("Prometheus ended by itself:\n%s", p.errs)
		}
		status, _, err := fetch(p.client, p.url+"/-/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	return p
}

// get decodes the data of a response of the API. Prometheus' own message is the error.
func (p *prometheusServer) get(path string, into any) error {
	status, body, err := fetch(p.client, p.url+"/api/v1/"+path)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		return fmt.Errorf("%s: %d %s: %w", path, status, answer.Error, err)
	}
	return json.Unmarshal(answer.Data, into)
}

// query requires an expression to return a series with a number.
func (p *prometheusServer) query(expr string) error {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.get("query?query="+url.QueryEscape(expr), &data); err != nil {
		return err
	}
	for _, series := range data.Result {
		text, _ := series.Value[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) {
			return nil
		}
	}
	return fmt.Errorf("%s: %d series, want one with a number", expr, len(data.Result))
}

// wantRulesHealthy requires every rule to have been evaluated without an error.
func (p *prometheusServer) wantRulesHealthy(t *testing.T, rules []prometheusRule) {
	t.Helper()
	eventually(t, waitTimeout, "all rules are evaluated", func() error {
		var data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := p.get("rules", &data); err != nil {
			return err
		}
		healthy := 0
		for _, group := range data.Groups {
			for _, r := range group.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
				}
				healthy++
			}
		}
		if healthy != len(rules) {
			return fmt.Errorf("%d rules, want %d", healthy, len(rules))
		}
		return nil
	})
}

// dashboardExpressions returns every expression of the dashboard, with its variables as Grafana replaces them.
func dashboardExpressions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/grafana/usher.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "usher", "$namespace", "", "$__rate_interval", "1m")
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for key, e := range v {
				if expr, isText := e.(string); isText && key == "expr" {
					all = append(all, variables.Replace(expr))
				}
				walk(e)
			}
		}
	}
	walk(dashboard)
	slices.Sort(all)
	return slices.Compact(all)
}

// scrapedNode is a node, and the viewers that give each of its metrics a value.
type scrapedNode struct {
	*clusterNode
	middleware *backendtest.Server
	viewers    int
}

// startScrapedNode runs a node with Redis, a receiver of traces that is down, and room for few sessions.
func startScrapedNode(t *testing.T) *scrapedNode {
	t.Helper()
	m := startMiddleware(t)
	origin := startStage(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/gone/") {
				http.NotFound(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	return &scrapedNode{middleware: m, clusterNode: startClusterNode(t, clusterSetup{
		origin: origin, middleware: m.URL(), redis: startRedis(t).standalone(),
		backend: "breaker: { open_duration: 1s }", sessions: "max: 30",
		more: `tracing: { endpoint: "http://127.0.0.1:9", protocol: http, sample: 1 }`,
	}, "a")}
}

// load lets viewers come who are allowed, denied, refused for their tickets, failed by the origin, and too many.
func (n *scrapedNode) load(t *testing.T) {
	t.Helper()
	n.viewers++
	for _, path := range []string{
		fmt.Sprintf("a1/index.m3u8?token=good%d", n.viewers), fmt.Sprintf("a1/index.m3u8?token=bad%d", n.viewers),
		"gone/index.m3u8?token=good", "a1/1.ts", "a1/1.ts?ticket=forged",
	} {
		if _, _, err := fetch(n.client, n.public+"/play/"+path); err != nil {
			t.Fatal(err)
		}
	}
}

// outage lets free riders in while the middleware is down, and waits until it has denied them.
func (n *scrapedNode) outage(t *testing.T, p *prometheusServer) {
	t.Helper()
	setMode(t, n.middleware, backendtest.Refuse())
	for i := range 8 {
		if status, body, err := fetch(n.client, fmt.Sprintf("%s/play/a1/index.m3u8?token=rider%d", n.public, i)); err != nil || status != http.StatusOK {
			t.Fatalf("a free rider: %d %s, %v", status, body, err)
		}
	}
	n.awaitBreaker(t, "open")
	setMode(t, n.middleware, backendtest.Healthy())
	eventually(t, waitTimeout, "the free riders are denied", func() error { return p.query(`usher_free_rides_total > 0`) })
}

// TestPrometheus_ScrapesNode runs every expression of the rules and of the dashboard in a real Prometheus. Each of the dashboard
// must return a number.
func TestPrometheus_ScrapesNode(t *testing.T) {
	t.Parallel()
	expressions, rules := dashboardExpressions(t), readRules(t)
	if len(expressions) < 30 {
		t.Fatalf("%d expressions in the dashboard, want more", len(expressions))
	}
	n := startScrapedNode(t)
	p := startPrometheus(t, n.admin)
	// Prometheus sees no increase in what happened before its first scrape.
	eventually(t, waitTimeout, "the node is scraped", func() error { return p.query(`usher_ready`) })
	n.load(t)
	n.outage(t, p)
	p.wantRulesHealthy(t, rules)
	for _, r := range rules {
		if r.Record != "" {
			expressions = append(expressions, r.Record)
		}
	}
	eventually(t, 2*waitTimeout, "every expression returns a number", func() error {
		n.load(t)
		for len(expressions) > 0 {
			if err := p.query(expressions[0]); err != nil {
				return err
			}
			expressions = expressions[1:]
		}
		return nil
	})
}
