package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness records the responses that the balancer gives viewers.
type witness struct {
	mu       sync.Mutex
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
	w.requests++
	if took > w.slowest {
		w.slowest, w.late = took, r.URL.Path
	}
	switch {
	case err != nil:
		w.broken = append(w.broken, fmt.Sprintf("%s %s: %v", began.Format("05.000"), r.URL, err))
	case resp.StatusCode < http.StatusBadRequest:
	case resp.Header.Get(answeredBy) == "":
		w.broken = append(w.broken, fmt.Sprintf("%s %s: %d", began.Format("05.000"), r.URL, resp.StatusCode))
	default:
		w.refused = append(w.refused, fmt.Sprintf("%s %s: %d by %s", began.Format("05.000"), r.URL, resp.StatusCode, resp.Header.Get(answeredBy)))
	}
	return resp, err
}

// results returns the record so far.
func (w *witness) results() (requests int, slowest time.Duration, refused, broken []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests, w.slowest, append([]string(nil), w.refused...), append([]string(nil), w.broken...)
}

// wantNoRefusal fails the test if a node refused a request, or if no node answered one.
func (w *witness) wantNoRefusal(t *testing.T) {
	t.Helper()
	requests, slowest, refused, broken := w.results()
	t.Logf("cluster: %d requests, none slower than %s (%s)", requests, slowest.Round(time.Millisecond), w.late)
	if len(refused) > 0 {
		t.Errorf("%d of %d requests were refused by a node, want none:\n%s", len(refused), requests, firstLines(refused))
	}
	if len(broken) > 0 {
		t.Errorf("%d of %d requests reached no node, want none:\n%s", len(broken), requests, firstLines(broken))
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
