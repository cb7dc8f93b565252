package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// The times of a node in an outage test are seconds where production has minutes.
const (
	answerDeadline    = 3 * time.Second
	recheckRate       = 5
	shortBackendTimes = "timeout: 3500ms, answer_deadline: 3s, validity: 4s, recheck_rate: 5, breaker: { open_duration: 2s, interval: 20s }"
	shortSessionTimes = "recheck: { min: 2s }, denial_ttl: 1m, retry_after: 1s"
)

// outage is a node with playing viewers, whose middleware will fail.
type outage struct {
	*node
	middleware *backendtest.Server
	rec        *recorder
	viewers    []*viewer
	ffmpeg     frames
	arrived    int
}

// startOutage starts the node, and lets twenty viewers and ffmpeg play.
func startOutage(t *testing.T) *outage {
	t.Helper()
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), backend: shortBackendTimes, sessions: shortSessionTimes})
	o := &outage{node: n, middleware: m, rec: startRecorder(t, n.public)}
	for i := range 20 {
		kind := []string{"play", "single"}[i%2]
		o.viewers = append(o.viewers, newViewer(t, i, fmt.Sprintf("%s/%s/a%d/index.m3u8?token=good%d", o.rec.url, kind, i%4, i)))
	}
	startWatching(t, o.viewers)
	o.ffmpeg = startFrames(t, o.rec.url+"/play/a001/index.m3u8?token=good-ffmpeg")
	eventually(t, waitTimeout, "ffmpeg plays", o.ffmpeg.hasBegun)
	awaitSegments(t, o.viewers, 5)
	return o
}

// arrive sends the first request of another viewer, bounded by ctx.
func (o *outage) arrive(t *testing.T, ctx context.Context, token string) error { //nolint:revive // t is first in tests
	t.Helper()
	o.arrived++
	v := newViewer(t, 100+o.arrived, fmt.Sprintf("%s/single/a%d/index.m3u8?token=%s", o.public, o.arrived%4, token))
	_, err := v.get(ctx, v.source)
	v.client.CloseIdleConnections()
	return err
}

// wantNoBareSegment requests an existing segment without credentials, and with credentials but without a ticket.
func (o *outage) wantNoBareSegment(t *testing.T) {
	t.Helper()
	for _, query := range []string{"", "?token=good0"} {
		address := fmt.Sprintf("%s/single/a0/high-%d.ts%s", o.public, time.Now().Unix()-3, query)
		if status, _, err := fetch(o.client, address); err != nil || status != http.StatusForbidden {
			t.Errorf("%s: %d, %v; want 403", address, status, err)
		}
	}
}

// wantUndisturbed fails the test if a playing viewer or ffmpeg had a problem.
func (o *outage) wantUndisturbed(t *testing.T) {
	t.Helper()
	wantNoProblems(t, o.viewers)
	if o.ffmpeg.ended() || o.ffmpeg.errs.String() != "" {
		t.Errorf("ffmpeg was disturbed: %s", o.ffmpeg.errs)
	}
	for _, e := range o.rec.list(nil) {
		if !e.served() || !e.whole {
			t.Errorf("disturbed: %s", e)
		}
	}
}

// TestNode_MiddlewareUnavailable_ViewersContinue stops the middleware for fifteen seconds, and starts it again.
func TestNode_MiddlewareUnavailable_ViewersContinue(t *testing.T) {
	t.Parallel()
	o := startOutage(t)
	setMode(t, o.middleware, backendtest.Refuse())
	freeRider := newViewer(t, 99, o.public+"/single/a1/index.m3u8?token=badrider")
	startWatching(t, []*viewer{freeRider})
	tokens := o.newTokens(20)
	arrivals := time.NewTicker(15 * time.Second / time.Duration(len(tokens)))
	defer arrivals.Stop()
	for _, token := range tokens {
		ctx, cancel := context.WithTimeout(t.Context(), answerDeadline)
		if err := o.arrive(t, ctx, token); err != nil {
			t.Errorf("viewer %s was not admitted: %v", token, err)
		}
		cancel()
		o.wantNoBareSegment(t)
		<-arrivals.C
	}
	o.wantUndisturbed(t)
	if got, want := len(o.sessions(t, "source=fail-open")), len(tokens)+1; got != want {
		t.Errorf("%d sessions by fail-open, want the %d opened meanwhile", got, want)
	}
	awaitSegments(t, []*viewer{freeRider}, 1)
	wantNoProblems(t, []*viewer{freeRider})
	o.restoreMiddleware(t, tokens)
	wantCutOff(t, freeRider)
}

// wantCutOff waits until an unpaid viewer is refused, and requires every problem to be a 403.
func wantCutOff(t *testing.T, v *viewer) {
	t.Helper()
	eventually(t, waitTimeout, "the unpaid viewer is refused", func() error {
		if _, problems := v.progress(); len(problems) == 0 {
			return errors.New("still playing")
		}
		return nil
	})
	_, problems := v.progress()
	for _, p := range problems {
		if !strings.Contains(p, ": 403: ") {
			t.Errorf("the unpaid viewer got %s, want 403", p)
		}
	}
}

// newTokens returns the tokens of as many good viewers as bad ones.
func (o *outage) newTokens(each int) (tokens []string) {
	for i := range each {
		tokens = append(tokens, fmt.Sprintf("bad%d", i), fmt.Sprintf("good-late%d", i))
	}
	return tokens
}

// restoreMiddleware starts the middleware again, and requires that unpaid viewers are denied, that other viewers have no
// problem, and that the middleware gets no more re-checks than recheck_rate allows.
func (o *outage) restoreMiddleware(t *testing.T, arrived []string) {
	t.Helper()
	revived := time.Now()
	setMode(t, o.middleware, backendtest.Healthy())
	o.awaitBreaker(t, "closed")
	// Sessions admitted in the outage are checked before the others, at about recheck_rate.
	rechecks := time.Duration(len(arrived)) * time.Second / recheckRate
	eventually(t, 2*rechecks+10*time.Second, "no session is admitted by fail-open alone", func() error {
		var left []string
		for _, s := range o.sessions(t, "source=fail-open") {
			left = append(left, s.ID)
		}
		if len(left) > 0 {
			return fmt.Errorf("%d are not checked yet", len(left))
		}
		return nil
	})
	if got, most := o.callsSince(revived), len(arrived)+4*recheckRate; len(got) > most {
		t.Errorf("%d calls until all sessions of the outage were checked, want %d at most", len(got), most)
	}
	for i, token := range arrived {
		want := http.StatusOK
		if strings.HasPrefix(token, "bad") {
			want = http.StatusForbidden
		}
		status, _, err := fetch(o.client, fmt.Sprintf("%s/single/a%d/index.m3u8?token=%s", o.public, (i+1)%4, token))
		if err != nil || status != want {
			t.Errorf("viewer %s: %d, %v; want %d", token, status, err, want)
		}
	}
	awaitSegments(t, o.viewers, 3)
	o.wantUndisturbed(t)
	o.wantPaced(t, revived)
}

// callsSince returns the middleware's calls since then.
func (o *outage) callsSince(since time.Time) (calls []backendtest.Request) {
	for _, r := range o.middleware.Requests() {
		if r.At.After(since) {
			calls = append(calls, r)
		}
	}
	return calls
}

// wantPaced checks the rate of the re-checks: at no time have more come than the rate allows since the middleware is back, and those of a second.
// On a busy machine they may come late, and none comes early. How even they are package actors tests in fake time.
func (o *outage) wantPaced(t *testing.T, since time.Time) {
	t.Helper()
	// The test's own client has an address of its own, and so sessions of its own, whose openings are not paced.
	calls := slices.DeleteFunc(o.callsSince(since), func(r backendtest.Request) bool { return r.Header.Get("X-Real-IP") == "127.0.0.1" })
	if len(calls) < 40 {
		t.Errorf("%d calls since the middleware recovered, want at least 40", len(calls))
	}
	for i, call := range calls {
		passed := call.At.Sub(since)
		if most := recheckRate*(passed.Seconds()+1) + 1; float64(i+1) > most {
			t.Fatalf("%d re-checks within %v, want %.0f at most with recheck_rate=%d", i+1, passed, most, recheckRate)
		}
	}
}

// TestNode_MiddlewareHangs_FirstViewersWaitForDeadline lets the middleware accept every call and answer none.
func TestNode_MiddlewareHangs_FirstViewersWaitForDeadline(t *testing.T) {
	t.Parallel()
	o := startOutage(t)
	setMode(t, o.middleware, backendtest.Hang())
	const slack = 2 * time.Second // less than another deadline
	var first sync.WaitGroup
	for i := range 8 {
		v := newViewer(t, 300+i, fmt.Sprintf("%s/single/a1/index.m3u8?token=good-first%d", o.public, i))
		first.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), answerDeadline+slack)
			defer cancel()
			if _, err := v.get(ctx, v.source); err != nil {
				t.Errorf("one of the first viewers: %v", err)
			}
		})
	}
	first.Wait()
	o.awaitBreaker(t, "open")
	opened := time.NewTicker(250 * time.Millisecond)
	defer opened.Stop()
	for i := range 40 { // ten seconds, in which several probes hang
		ctx, cancel := context.WithTimeout(t.Context(), answerDeadline*5/6)
		if err := o.arrive(t, ctx, fmt.Sprintf("good-next%d", i)); err != nil {
			t.Errorf("a viewer while the breaker is %s: %v", o.breaker(t), err)
		}
		cancel()
		<-opened.C
	}
	o.wantNoBareSegment(t)
	o.wantUndisturbed(t)
	setMode(t, o.middleware, backendtest.Healthy())
	o.awaitBreaker(t, "closed")
	awaitSegments(t, o.viewers, 3)
	o.wantUndisturbed(t)
}

// TestNode_ViewersLeaveEarly_BreakerStaysClosed lets hundreds of viewers disconnect while a slow middleware checks them.
func TestNode_ViewersLeaveEarly_BreakerStaysClosed(t *testing.T) {
	t.Parallel()
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), backend: "timeout: 2s, answer_deadline: 2s"})
	setMode(t, m, backendtest.Slow(500*time.Millisecond))
	const total, atOnce = 400, 40
	var waiting sync.WaitGroup
	client := newClient(t, "")
	for i := range total / atOnce {
		calls := m.Calls()
		ctx, hangUp := context.WithCancel(t.Context())
		for j := range atOnce {
			waiting.Go(func() {
				v := &viewer{client: client}
				_, err := v.get(ctx, fmt.Sprintf("%s/single/a1/index.m3u8?token=impatient%d-%d", n.public, i, j))
				if !errors.Is(err, context.Canceled) && statusOf(err) != http.StatusForbidden {
					t.Errorf("an impatient viewer: %v", err)
				}
			})
		}
		// The viewers leave when the middleware has received a call for each.
		err := m.Wait(t.Context(), calls+atOnce)
		hangUp()
		waiting.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if got := n.breaker(t); got != "closed" {
			t.Fatalf("the breaker is %s after %d viewers hung up", got, (i+1)*atOnce)
		}
	}
	if strings.Contains(n.errs.String(), "backend unavailable") {
		t.Error("the breaker opened meanwhile")
	}
	if status, body, err := fetch(client, n.public+"/single/a1/index.m3u8?token=good"); err != nil || status != http.StatusOK {
		t.Errorf("a patient viewer: %d %s, %v", status, body, err)
	}
}
