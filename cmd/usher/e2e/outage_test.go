package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends/backendtest"
)

// The times of a node on which an outage is tried: what takes minutes in production takes seconds.
const (
	answerDeadline = 3 * time.Second
	recheckRate    = 5
	shortTimes     = "timeout: 3500ms, answer_deadline: 3s, validity: 4s, recheck_rate: 5, breaker: { open_duration: 2s, interval: 20s }"
	shortOnes      = "recheck: { min: 2s }, denial_ttl: 1m, retry_after: 1s"
)

// outage is a node with viewers and a middleware that is about to fail.
type outage struct {
	*node
	middleware *backendtest.Server
	rec        *recorder
	viewers    []*viewer
	ffmpeg     frames
	arrived    int
}

// startOutage lets twenty viewers and ffmpeg watch.
func startOutage(t *testing.T) *outage {
	t.Helper()
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), backend: shortTimes, sessions: shortOnes})
	o := &outage{node: n, middleware: m, rec: startRecorder(t, n.public)}
	for i := range 20 {
		kind := []string{"play", "single"}[i%2]
		o.viewers = append(o.viewers, newViewer(t, i, fmt.Sprintf("%s/%s/a%d/index.m3u8?token=good%d", o.rec.url, kind, i%4, i)))
	}
	audience(t, o.viewers)
	o.ffmpeg = startFrames(t, o.rec.url+"/play/a001/index.m3u8?token=good-ffmpeg")
	eventually(t, patience, "ffmpeg plays", o.ffmpeg.hasBegun)
	awaitSegments(t, o.viewers, 5)
	return o
}

// arrive sends the first request of one more viewer, bounded by ctx.
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

// wantUndisturbed fails the test if a running viewer noticed anything.
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
	set(t, o.middleware, backendtest.Refuse())
	rider := newViewer(t, 99, o.public+"/single/a1/index.m3u8?token=badrider")
	audience(t, []*viewer{rider})
	tokens := o.crowdOf(20)
	arrivals := time.NewTicker(15 * time.Second / time.Duration(len(tokens)))
	defer arrivals.Stop()
	for _, token := range tokens {
		ctx, cancel := context.WithTimeout(t.Context(), answerDeadline)
		if err := o.arrive(t, ctx, token); err != nil {
			t.Errorf("viewer %s was not let in: %v", token, err)
		}
		cancel()
		o.wantNoBareSegment(t)
		<-arrivals.C
	}
	o.wantUndisturbed(t)
	if got, want := len(o.sessions(t, "source=fail-open")), len(tokens)+1; got != want {
		t.Errorf("%d sessions by fail-open, want the %d that arrived", got, want)
	}
	awaitSegments(t, []*viewer{rider}, 1)
	wantNoProblems(t, []*viewer{rider})
	o.revive(t, tokens)
	wantCutOff(t, rider)
}

// wantCutOff wants a viewer to have met nothing but refusals in the end.
func wantCutOff(t *testing.T, v *viewer) {
	t.Helper()
	eventually(t, patience, "a viewer who rode free is refused", func() error {
		if _, problems := v.progress(); len(problems) == 0 {
			return errors.New("he still watches")
		}
		return nil
	})
	_, problems := v.progress()
	for _, p := range problems {
		if !strings.Contains(p, ": 403: ") {
			t.Errorf("a viewer who rode free met %s, want 403", p)
		}
	}
}

// crowdOf are the tokens of as many good viewers as bad ones.
func (o *outage) crowdOf(each int) (tokens []string) {
	for i := range each {
		tokens = append(tokens, fmt.Sprintf("bad%d", i), fmt.Sprintf("good-late%d", i))
	}
	return tokens
}

// revive starts the middleware again. Viewers without access are denied, and no other viewer notices anything. The
// middleware gets no more re-checks than recheck_rate allows.
func (o *outage) revive(t *testing.T, arrived []string) {
	t.Helper()
	revived := time.Now()
	set(t, o.middleware, backendtest.Healthy())
	o.awaitBreaker(t, "closed")
	// Sessions admitted in the outage are checked first, at about that rate, before the other sessions.
	turns := time.Duration(len(arrived)) * time.Second / recheckRate
	eventually(t, 2*turns+10*time.Second, "those who got in by the outage alone have to go", func() error {
		var left []string
		for _, s := range o.sessions(t, "source=fail-open") {
			left = append(left, s.ID)
		}
		if len(left) > 0 {
			return fmt.Errorf("%d are not asked about yet", len(left))
		}
		return nil
	})
	if got, most := o.callsSince(revived), len(arrived)+4*recheckRate; len(got) > most {
		t.Errorf("%d calls until all who got in by the outage were asked about, want %d at most", len(got), most)
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

// callsSince are the calls that the middleware got since then.
func (o *outage) callsSince(since time.Time) (calls []backendtest.Request) {
	for _, r := range o.middleware.Requests() {
		if r.At.After(since) {
			calls = append(calls, r)
		}
	}
	return calls
}

// wantPaced looks at when the re-checks came. They are sent evenly, but on a busy machine each may arrive late by up to a
// second, as those before it did not: so six seconds' worth may come within five, and twice as many within one. That they
// are sent to the rate is package actors' test, where time is exact.
func (o *outage) wantPaced(t *testing.T, since time.Time) {
	t.Helper()
	calls := o.callsSince(since)
	if len(calls) < 40 {
		t.Errorf("%d calls since the middleware is back, want one for each of the 40 at least", len(calls))
	}
	one, five := mostWithin(calls, time.Second), mostWithin(calls, 5*time.Second)
	t.Logf("%d calls, at most %d within a second and %d within five", len(calls), one, five)
	if one > 2*recheckRate || five > 6*recheckRate+1 { // the calls at both ends count
		t.Errorf("%d re-checks within a second and %d within five, want recheck_rate=%d", one, five, recheckRate)
	}
}

// mostWithin is the most calls that came within any while of that length.
func mostWithin(calls []backendtest.Request, d time.Duration) (most int) {
	from := 0
	for to := range calls {
		for calls[to].At.Sub(calls[from].At) >= d {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// TestNode_MiddlewareHangs_FirstViewersWaitForDeadline lets the middleware take every call and answer none.
func TestNode_MiddlewareHangs_FirstViewersWaitForDeadline(t *testing.T) {
	t.Parallel()
	o := startOutage(t)
	set(t, o.middleware, backendtest.Hang())
	const slack = 2 * time.Second // less than another deadline
	var first sync.WaitGroup
	for i := range 8 {
		v := newViewer(t, 300+i, fmt.Sprintf("%s/single/a1/index.m3u8?token=good-first%d", o.public, i))
		first.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), answerDeadline+slack)
			defer cancel()
			if _, err := v.get(ctx, v.source); err != nil {
				t.Errorf("a viewer whom the hanging middleware met first: %v", err)
			}
		})
	}
	first.Wait()
	o.awaitBreaker(t, "open")
	opened := time.NewTicker(250 * time.Millisecond)
	defer opened.Stop()
	for i := range 40 { // ten seconds: several tries of the middleware are among them, all of which hang
		ctx, cancel := context.WithTimeout(t.Context(), answerDeadline*5/6)
		if err := o.arrive(t, ctx, fmt.Sprintf("good-next%d", i)); err != nil {
			t.Errorf("a viewer while the breaker is %s: %v", o.breaker(t), err)
		}
		cancel()
		<-opened.C
	}
	o.wantNoBareSegment(t)
	o.wantUndisturbed(t)
	set(t, o.middleware, backendtest.Healthy())
	o.awaitBreaker(t, "closed")
	awaitSegments(t, o.viewers, 3)
	o.wantUndisturbed(t)
}

// TestNode_ViewersLeaveEarly_BreakerStaysClosed lets a crowd hang up during openings of a slow middleware.
func TestNode_ViewersLeaveEarly_BreakerStaysClosed(t *testing.T) {
	t.Parallel()
	m := startMiddleware(t)
	n := startNode(t, setup{origin: startStage(t, nil), middleware: m.URL(), backend: "timeout: 2s, answer_deadline: 2s"})
	set(t, m, backendtest.Slow(500*time.Millisecond))
	const crowd, atOnce = 400, 40
	var waiting sync.WaitGroup
	client := newClient(t, "")
	for i := range crowd / atOnce {
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
		// They leave when the middleware has been asked about each of them.
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
