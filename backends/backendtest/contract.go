package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/backends"
)

// The tokens of the suite's viewers. They resemble nothing else, so that one in an error text is found.
const (
	GoodToken = "t0ken-g00d-5ecret"
	BadToken  = "t0ken-b4d-5ecret"
)

// suiteTimeout is how long the suite waits for an event that must come.
const suiteTimeout = 10 * time.Second

// RunContract tests the contract of every backend over HTTP. newBackend returns a backend that calls s, with the default
// meaning of redirects, statuses and failures. It may set the product's dialect first ([Server.SetDialect]). A backend with
// a Close method is closed after use.
//
// Call it from a test that does not run in parallel, since it counts goroutines.
func RunContract(t *testing.T, newBackend func(t *testing.T, s *Server) backends.Backend) {
	c := contract{newBackend}
	for name, run := range map[string]func(*testing.T, *Server, backends.Backend){
		"a good token is allowed":                          c.allowed,
		"a bad token is denied":                            c.denied,
		"no token is denied":                               c.missing,
		"the call is a GET with the viewer's token once":   c.wire,
		"401 and 403 deny, whatever their body":            c.refusedByStatus,
		"the status decides before the body":               c.unfinishedBody,
		"the connection of an answer is reused":            c.reuse,
		"a status of 5xx is a failure":                     c.serverError,
		"a refused connection is a transport failure":      c.refused,
		"a connection reset in the answer is a failure":    c.reset,
		"bytes that are not HTTP are malformed":            c.garbage,
		"giant headers are malformed":                      c.giantHeaders,
		"a slow answer is an answer":                       c.slow,
		"a backend that flaps is accepted when it answers": c.flap,
		"a hang past the deadline is a timeout":            c.hang,
		"a viewer who leaves is no failure":                c.cancelled,
		"concurrent viewers each get their own answer":     c.concurrent,
		"nothing is left running":                          c.leak,
	} {
		t.Run(name, func(t *testing.T) {
			s, b := c.start(t)
			run(t, s, b)
		})
	}
}

type contract struct {
	newBackend func(t *testing.T, s *Server) backends.Backend
}

func (c contract) start(t *testing.T) (*Server, backends.Backend) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Users = map[string]User{GoodToken: goodUser()}
	for i := range concurrentViewers {
		if token, u := viewer(i); u != (User{}) {
			cfg.Users[token] = u
		}
	}
	s := New(cfg)
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(s.Close)
	b := c.newBackend(t, s)
	if closer, ok := b.(interface{ Close() }); ok {
		t.Cleanup(closer.Close)
	}
	return s, b
}

// NewRequest returns an opening check of a viewer with that token; empty: without a token.
func NewRequest(token string) *backends.Request {
	r := &backends.Request{
		Session:   backends.SessionID{1, 2, 3, 4, 5, 6, 7, 8, 9},
		Route:     "play",
		Channel:   "a001",
		Backend:   "middleware",
		Path:      "/play/a001/index.m3u8",
		Scheme:    "https",
		Host:      "live.example.com",
		UserAgent: "VLC/3.0.20 LibVLC/3.0.20",
		Address:   netip.MustParseAddr("192.0.2.7"),
		Opened:    time.Now(),
	}
	if token != "" {
		r.Query = "token=" + token
	}
	return r
}

func check(t *testing.T, b backends.Backend, token string) (backends.Decision, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), suiteTimeout)
	defer cancel()
	return b.Check(ctx, NewRequest(token))
}

func setMode(t *testing.T, s *Server, m Mode) {
	t.Helper()
	if err := s.SetMode(m); err != nil {
		t.Fatalf("set the middleware to %s: %v", m, err)
	}
}

// wantVerdict requires an answer of the backend.
func wantVerdict(t *testing.T, d backends.Decision, err error, want backends.Verdict) {
	t.Helper()
	if err != nil {
		t.Fatalf("got error %v, want %s", err, want)
	}
	if d.Verdict != want || d.Source != backends.FromBackend {
		t.Fatalf("got %s from %s, want %s from backend", d.Verdict, d.Source, want)
	}
}

// wantFailure requires a failure of that kind without a token in it.
func wantFailure(t *testing.T, err error, want backends.FailureKind) {
	t.Helper()
	f := backends.AsFailure(err)
	if f == nil {
		t.Fatalf("got error %v, want a failure", err)
	}
	if f.Kind != want {
		t.Fatalf("got a failure of kind %s (%v), want %s", f.Kind, f, want)
	}
	wantNoSecret(t, err)
}

// wantNoSecret checks the whole chain of causes, since each may be logged.
func wantNoSecret(t *testing.T, err error) {
	t.Helper()
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		if text := fmt.Sprintf("%v %+v", cause, cause); strings.Contains(text, "5ecret") {
			t.Fatalf("the error shows the viewer's token: %s", text)
		}
	}
}

func (c contract) allowed(t *testing.T, s *Server, b backends.Backend) {
	d, err := check(t, b, GoodToken)
	wantVerdict(t, d, err, backends.Allowed)
	if got := grantOf(d); !s.isDialectSet && got != goodUser() {
		t.Errorf("got %+v, want all that the answer says, %+v", got, goodUser())
	}
}

func (c contract) denied(t *testing.T, _ *Server, b backends.Backend) {
	d, err := check(t, b, BadToken)
	wantVerdict(t, d, err, backends.Denied)
	if strings.Contains(d.Reason, BadToken) {
		t.Fatalf("the reason shows the viewer's token: %s", d.Reason)
	}
}

func (c contract) missing(t *testing.T, _ *Server, b backends.Backend) {
	d, err := check(t, b, "")
	wantVerdict(t, d, err, backends.Denied)
}

func (c contract) wire(t *testing.T, s *Server, b backends.Backend) {
	d, err := check(t, b, GoodToken)
	wantVerdict(t, d, err, backends.Allowed)
	seen := s.Requests()
	if len(seen) != 1 {
		t.Fatalf("got %d requests, want 1", len(seen))
	}
	if seen[0].Method != http.MethodGet {
		t.Errorf("got method %s, want GET", seen[0].Method)
	}
	if n := strings.Count(seen[0].RawQuery, "token="+GoodToken); n != 1 {
		t.Errorf("got query %q, want the viewer's token once", seen[0].RawQuery)
	}
}

func (c contract) refusedByStatus(t *testing.T, s *Server, b backends.Backend) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for _, body := range []string{"", "no", `{"error": 0}`, "<html><title>403 Forbidden</title></html>"} {
			s.SetDialect(answering(status, "text/html", body))
			d, err := check(t, b, GoodToken)
			wantVerdict(t, d, err, backends.Denied)
		}
	}
}

// answering answers every viewer with that status and body.
func answering(status int, contentType, body string) Dialect {
	return func(w http.ResponseWriter, _ *http.Request, _ User, _ bool) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// unfinishedBody requires a decision on an answer whose body ends only after it.
func (c contract) unfinishedBody(t *testing.T, s *Server, b backends.Backend) {
	for status, want := range map[int]backends.Verdict{
		http.StatusUnauthorized:       backends.Denied,
		http.StatusForbidden:          backends.Denied,
		http.StatusServiceUnavailable: backends.Pending,
		http.StatusFound:              backends.Pending,
	} {
		decided := make(chan struct{})
		s.SetDialect(func(w http.ResponseWriter, r *http.Request, _ User, _ bool) {
			w.Header().Set("Location", "/login")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-decided:
			case <-r.Context().Done():
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		failed := time.AfterFunc(suiteTimeout, func() {
			t.Errorf("%d: no decision within %s", status, suiteTimeout)
			cancel()
		})
		d, err := b.Check(ctx, NewRequest(GoodToken))
		failed.Stop()
		cancel()
		close(decided)
		if d.Verdict != want || (err == nil) != (want != backends.Pending) {
			t.Errorf("%d: got %s and error %v, want %s", status, d.Verdict, err, want)
		}
	}
}

// reuse requires that a call with a body takes no connection for itself.
func (c contract) reuse(t *testing.T, s *Server, b backends.Backend) {
	s.SetDialect(answering(http.StatusForbidden, "text/plain", strings.Repeat("no ", 1000)))
	const calls = 64
	for range calls {
		d, err := check(t, b, BadToken)
		wantVerdict(t, d, err, backends.Denied)
	}
	remotes := map[string]bool{}
	for _, r := range s.Requests() {
		remotes[r.Remote] = true
	}
	if len(remotes) > calls/2 {
		t.Errorf("got %d connections for %d calls in a row, want them reused", len(remotes), calls)
	}
}

func (c contract) serverError(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Status(http.StatusServiceUnavailable))
	_, err := check(t, b, GoodToken)
	wantFailure(t, err, backends.FailureStatus)
	if status := backends.AsFailure(err).Status; status != http.StatusServiceUnavailable {
		t.Fatalf("got status %d in the failure, want 503", status)
	}
}

func (c contract) refused(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Refuse())
	_, err := check(t, b, GoodToken)
	wantFailure(t, err, backends.FailureTransport)
	setMode(t, s, Healthy())
	d, err := check(t, b, GoodToken)
	wantVerdict(t, d, err, backends.Allowed)
}

func (c contract) reset(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Reset())
	_, err := check(t, b, GoodToken)
	wantFailure(t, err, backends.FailureTransport)
}

func (c contract) garbage(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Garbage())
	_, err := check(t, b, GoodToken)
	wantFailure(t, err, backends.FailureMalformed)
}

func (c contract) giantHeaders(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, GiantHeaders())
	_, err := check(t, b, GoodToken)
	wantFailure(t, err, backends.FailureMalformed)
}

func (c contract) slow(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Slow(50*time.Millisecond))
	d, err := check(t, b, GoodToken)
	wantVerdict(t, d, err, backends.Allowed)
	d, err = check(t, b, BadToken)
	wantVerdict(t, d, err, backends.Denied)
}

// flap checks until the backend has failed and recovered twice. A failure is never a denial, nor an allowance.
func (c contract) flap(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Flap(20*time.Millisecond))
	answered, changes := false, 0
	for end := time.Now().Add(suiteTimeout); changes < 4; {
		if time.Now().After(end) {
			t.Fatalf("got %d changes between answers and failures within %v, want 4", changes, suiteTimeout)
		}
		d, err := check(t, b, GoodToken)
		if err == nil {
			wantVerdict(t, d, err, backends.Allowed)
		} else {
			wantFailure(t, err, backends.FailureTransport)
		}
		if answered != (err == nil) {
			answered = err == nil
			changes++
		}
	}
}

func (c contract) hang(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Check(ctx, NewRequest(GoodToken))
	wantFailure(t, err, backends.FailureTimeout)
}

func (c contract) cancelled(t *testing.T, s *Server, b backends.Backend) {
	setMode(t, s, Hang())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = s.Wait(t.Context(), 1)
		cancel()
	}()
	_, err := b.Check(ctx, NewRequest(GoodToken))
	if !errors.Is(err, context.Canceled) || backends.AsFailure(err) != nil {
		t.Fatalf("got %v, want context.Canceled and no failure", err)
	}
	wantNoSecret(t, err)
}

func (c contract) concurrent(t *testing.T, s *Server, b backends.Backend) {
	var group sync.WaitGroup
	for i := range concurrentViewers {
		group.Go(func() {
			token, user := viewer(i)
			want := backends.Allowed
			if user == (User{}) {
				want = backends.Denied
			}
			d, err := check(t, b, token)
			if err != nil || d.Verdict != want || !s.isDialectSet && want == backends.Allowed && grantOf(d) != user {
				t.Errorf("viewer %d: got %s of %+v and error %v, want %s of %+v", i, d.Verdict, grantOf(d), err, want, user)
			}
		})
	}
	group.Wait()
	if s.Calls() != concurrentViewers {
		t.Errorf("got %d calls, want %d", s.Calls(), concurrentViewers)
	}
}

// leak runs everything that may leak a goroutine, and requires that none is left.
func (c contract) leak(t *testing.T, _ *Server, _ backends.Backend) {
	before := runtime.NumGoroutine()
	s := New(DefaultConfig())
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	b := c.newBackend(t, s)
	for _, m := range []Mode{Healthy(), Reset(), Garbage(), GiantHeaders(), Hang(), Refuse()} {
		setMode(t, s, m)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, _ = b.Check(ctx, NewRequest(BadToken))
		cancel()
	}
	if closer, ok := b.(interface{ Close() }); ok {
		closer.Close()
	}
	s.Close()
	deadline := time.Now().Add(suiteTimeout)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s",
				before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}
