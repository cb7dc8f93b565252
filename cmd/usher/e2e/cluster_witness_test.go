package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness sees every answer that the balancer gives viewers.
type witness struct {
	mu       sync.Mutex
	requests int
	slowest  time.Duration
	late     string // what the slowest asked for
	refused  []string
	broken   []string // of the balancer's own: no node was left
}

// of is a transport that the witness looks at.
func (w *witness) of(next http.RoundTripper) http.RoundTripper { return witnessed{w, next} }

type witnessed struct {
	*witness
	next http.RoundTripper
}

// RoundTrip passes the request on and notes how it fared.
func (w witnessed) RoundTrip(r *http.Request) (*http.Response, error) {
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

// said is what the witness has to say.
func (w *witness) said() (requests int, slowest time.Duration, refused, broken []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests, w.slowest, append([]string(nil), w.refused...), append([]string(nil), w.broken...)
}

// wantNoRefusal fails the test if a node ever refused anything, or if no node was left for a request.
func (w *witness) wantNoRefusal(t *testing.T) {
	t.Helper()
	requests, slowest, refused, broken := w.said()
	t.Logf("cluster: %d requests, none slower than %s (%s)", requests, slowest.Round(time.Millisecond), w.late)
	if len(refused) > 0 {
		t.Errorf("%d of %d requests were refused by a node, want none:\n%s", len(refused), requests, some(refused))
	}
	if len(broken) > 0 {
		t.Errorf("%d of %d requests met no node, want none:\n%s", len(broken), requests, some(broken))
	}
}

// wantUndisturbed wants that no viewer had any trouble whatever.
func (w *witness) wantUndisturbed(t *testing.T, viewers []*viewer) {
	t.Helper()
	w.wantNoRefusal(t)
	wantNoProblems(t, viewers)
}

// some are the first of many lines.
func some(lines []string) string {
	const most = 20
	if len(lines) > most {
		lines = append(lines[:most:most], "…")
	}
	return strings.Join(lines, "\n")
}

// percentile is the smallest value that p of all are not above, for p from 0 to 1. It sorts.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}
