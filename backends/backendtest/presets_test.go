package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	if slices.Contains([]int{200, 401, 403}, a.Status) && (json.Unmarshal(a.Body, &says) != nil || says.Error == nil) {
		return backends.Decision{}, b.Malformed(errors.New("no code"))
	}
	d, err := b.Interpret(a)
	if err == nil && says.Error != nil && *says.Error != 0 {
		d.Verdict = backends.Denied
	}
	return d, err
}

func inJSON(w http.ResponseWriter, _ *http.Request, _ User, known bool) {
	verdict := 1
	if known {
		verdict = 0
	}
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
			WithRefusal(func(status int) Dialect {
				return func(w http.ResponseWriter, r *http.Request, u User, known bool) {
					w.WriteHeader(status)
					inJSON(w, r, u, known)
				}
			}),
			WithRows(httpbackend.PresetAuthProxy, `
302 to its own login page | malformed | | shut out | shut out | shut out
`),
			WithoutConditions("it never denies so", "403 with X-Location"),
		)
	})
	if want := 4 * (len(conditions()) - 1); len(seen) != want {
		t.Errorf("got %d cells, want %d", len(seen), want)
	}
	if !seen["alta/a_reset"] || seen["astra/403_with_X-Location"] {
		t.Errorf("got these cells: %v", seen)
	}
}

func TestParseRow_Invalid(t *testing.T) {
	t.Parallel()
	condition, c, err := parseRow(" 429 | status 429 | | come back | let in | kept ")
	want := cell{adapter: "status 429", newcomer: "come back", later: "let in", running: "kept"}
	if err != nil || condition != "429" || c != want {
		t.Errorf("got %q, %+v and error %v", condition, c, err)
	}
	for _, row := range []string{"", "429 | status 429", "429 | no | | no | no | no |"} {
		if _, _, err := parseRow(row); err == nil {
			t.Errorf("%q was read", row)
		}
	}
}

// A result without a word in the tables must not be printed as one of their words.
func TestScenario_UnexpectedAnswersPrintedInFull(t *testing.T) {
	t.Parallel()
	p := &scenario{redirectTarget: "http://localhost/elsewhere"}
	words := map[string]bool{"yes": true, "no": true, "no, sent on": true, "let in": true, "kept": true, "shut out": true}
	for name, d := range map[string]backends.Decision{
		"pending":                     {},
		"allowed without a source":    {Verdict: backends.Allowed},
		"a yes with a redirect":       {Verdict: backends.Allowed, Source: backends.FromBackend, Redirect: p.redirectTarget},
		"a no with another redirect":  {Verdict: backends.Denied, Source: backends.FromBackend, Redirect: "http://other/"},
		"pending by the backend":      {Source: backends.FromBackend},
		"kept without what was known": {Verdict: backends.Allowed, Source: backends.FromCached},
		"a no kept":                   {Verdict: backends.Denied, Source: backends.FromCached, User: "alice"},
		"a ticket's yes":              {Verdict: backends.Allowed, Source: backends.FromTicket},
	} {
		if got := p.chainColumn(d, nil); words[got] {
			t.Errorf("%s: a chain's is called %q", name, got)
		}
		if got := p.adapterColumn(d, nil); words[got] {
			t.Errorf("%s: an adapter's is called %q", name, got)
		}
	}
	if got := p.chainColumn(backends.Decision{}, context.Canceled); got == "come back" {
		t.Error("a viewer who left is printed as one who is asked to retry")
	}
	refused := &backends.Failure{Kind: backends.FailureTransport}
	if got := p.chainColumn(backends.Decision{Verdict: backends.Allowed}, refused); got == "come back" {
		t.Error("a failure beside an allowed decision is accepted")
	}
}
