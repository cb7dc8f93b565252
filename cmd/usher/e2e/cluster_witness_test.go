package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness records the responses that the balancer gives viewers.
type witness struct {
	mu       sync.Mutex
	recorded responses
}

// responses are what viewers got.
type responses struct {
	requests int
	slowest  time.Duration
	late     string // the path of the slowest request
	refused  []string
	broken   []string // the balancer's own errors: no node answered
}

// wrap returns a transport whose responses the witness records.
func (w *witness) wrap(next http.RoundTripper) http.RoundTripper { return witnessTransport{w, next} }

type witnessTransport struct {
	*witness
	next http.RoundTripper
}

// RoundTrip passes the request on, and records its result.
func (w witnessTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := w.next.RoundTrip(r)
	took := time.Since(began)
	if r.Context().Err() != nil {
		return resp, err // the viewer left
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	all := &w.recorded
	all.requests++
	if took > all.slowest {
		all.slowest, all.late = took, r.URL.Path
	}
	switch {
	case err != nil:
		all.broken = append(all.broken, fmt.Sprintf("%s %s: %v", began.Format("05.000"), r.URL, err))
	case resp.StatusCode < http.StatusBadRequest:
	case resp.Header.Get(answeredBy) == "":
		all.broken = append(all.broken, fmt.Sprintf("%s %s: %d", began.Format("05.000"), r.URL, resp.StatusCode))
	default:
		all.refused = append(all.refused, fmt.Sprintf("%s %s: %d by %s", began.Format("05.000"), r.URL, resp.StatusCode, resp.Header.Get(answeredBy)))
	}
	return resp, err
}

// results returns the responses so far.
func (w *witness) results() responses {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.recorded
	all.refused, all.broken = slices.Clone(all.refused), slices.Clone(all.broken)
	return all
}

// wantNoRefusal fails the test if a node refused a request, or if no node answered one.
func (w *witness) wantNoRefusal(t *testing.T) {
	t.Helper()
	all := w.results()
	t.Logf("cluster: %d requests, none slower than %s (%s)", all.requests, all.slowest.Round(time.Millisecond), all.late)
	if len(all.refused) > 0 {
		t.Errorf("%d of %d requests were refused by a node, want none:\n%s", len(all.refused), all.requests, firstLines(all.refused))
	}
	if len(all.broken) > 0 {
		t.Errorf("%d of %d requests reached no node, want none:\n%s", len(all.broken), all.requests, firstLines(all.broken))
	}
}

// wantUndisturbed fails the test if a viewer had a refusal or another problem.
func (w *witness) wantUndisturbed(t *testing.T, viewers []*viewer) {
	t.Helper()
	w.wantNoRefusal(t)
	wantNoProblems(t, viewers)
}

// firstLines joins the first lines of many.
func firstLines(lines []string) string {
	const most = 20
	if len(lines) > most {
		lines = append(lines[:most:most], "…")
	}
	return strings.Join(lines, "\n")
}

// percentile returns the value at p, from 0 to 1, of sorted values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
