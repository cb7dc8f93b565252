package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// bodyReader is a backend that accepts a verdict only with its code in the body.
type bodyReader struct{ *httpbackend.Client }

func (b bodyReader) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	a, err := b.Do(ctx, httpbackend.Call{Query: r.Query, NeedsBody: true})
	if err != nil {
		return backends.Decision{}, err
	}
	var says struct{ Error *int }
	d, err := b.Interpret(a)
	if err != nil || d.Verdict != backends.Allowed {
		return d, err
	}
	if json.Unmarshal(a.Body, &says) != nil || says.Error == nil {
		return backends.Decision{}, b.Malformed(errors.New("no code"))
	}
	if *says.Error != 0 {
		d.Verdict = backends.Denied
	}
	return d, err
}

func inJSON(w http.ResponseWriter, _ *http.Request, _ User, known bool) {
	verdict := 1
	if known {
		verdict = 0
	}
	w.WriteHeader(http.StatusOK)
	_, _ = fmt.Fprintf(w, `{"error":%d}`, verdict)
}

func TestRunPresets_BackendThatReadsBodies(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		seen = make(map[string]bool)
	)
	t.Run("every cell", func(t *testing.T) {
		RunPresets(t, func(t *testing.T, address string, preset httpbackend.Preset) backends.Backend {
			mu.Lock()
			_, cell, _ := strings.Cut(t.Name(), "every_cell/")
			seen[cell] = true
			mu.Unlock()
			cfg := httpbackend.DefaultConfig()
			cfg.Address, cfg.Preset = address, preset
			cfg.DialTimeout, cfg.TLSTimeout = time.Minute, time.Minute
			client, err := httpbackend.NewClient("middleware", cfg, httpbackend.Deps{})
			if err != nil {
				t.Fatalf("make the client: %v", err)
			}
			return bodyReader{client}
		},
			WithDialect(inJSON),
		)
	})
	if want := 4 * len(conditions()); len(seen) != want {
		t.Errorf("got %d cells, want %d", len(seen), want)
	}
	if !seen["alta/a_reset"] || !seen["astra/403_with_X-Location"] {
		t.Errorf("got these cells: %v", seen)
	}
}

func TestParseRow_Invalid(t *testing.T) {
	t.Parallel()
	condition, c, err := parseRow(" 429 | status 429 | | retry | fail-open | cached ")
	want := cell{adapter: "status 429", unknown: "retry", later: "fail-open", running: "cached"}
	if err != nil || condition != "429" || c != want {
		t.Errorf("got %q, %+v and error %v", condition, c, err)
	}
	for _, row := range []string{"", "429 | status 429", "429 | denied | | denied | denied | denied |"} {
		if _, _, err := parseRow(row); err == nil {
			t.Errorf("%q was read", row)
		}
	}
}

// TestScenario_UnexpectedAnswersPrintedInFull requires a result without a word in the tables not to be printed as one of them.
func TestScenario_UnexpectedAnswersPrintedInFull(t *testing.T) {
	t.Parallel()
	p := &scenario{redirectTarget: "http://localhost/elsewhere"}
	words := map[string]bool{"allowed": true, "denied": true, "redirected": true, "fail-open": true, "cached": true, "policy denies": true}
	for name, d := range map[string]backends.Decision{
		"pending":                      {},
		"allowed without a source":     {Verdict: backends.Allowed},
		"allowed with a redirect":      {Verdict: backends.Allowed, Source: backends.FromBackend, Redirect: p.redirectTarget},
		"denied with another redirect": {Verdict: backends.Denied, Source: backends.FromBackend, Redirect: "http://other/"},
		"pending by the backend":       {Source: backends.FromBackend},
		"cached without the user":      {Verdict: backends.Allowed, Source: backends.FromCached},
		"denied and cached":            {Verdict: backends.Denied, Source: backends.FromCached, User: "alice"},
		"allowed by a ticket":          {Verdict: backends.Allowed, Source: backends.FromTicket},
	} {
		if got := p.chainColumn(d, nil); words[got] {
			t.Errorf("%s: the chain's column is %q", name, got)
		}
		if got := p.adapterColumn(d, nil); words[got] {
			t.Errorf("%s: the adapter's column is %q", name, got)
		}
	}
	if got := p.chainColumn(backends.Decision{}, context.Canceled); got == "retry" {
		t.Error("a cancelled check is printed as retry")
	}
	refused := &backends.Failure{Kind: backends.FailureTransport}
	if got := p.chainColumn(backends.Decision{Verdict: backends.Allowed}, refused); got == "retry" {
		t.Error("a failure beside an allowed decision is accepted")
	}
}
