package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	s := New(cfg)
	if err := s.Start(); err != nil {
		t.Fatalf("start the middleware: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func withUser() Config {
	cfg := DefaultConfig()
	cfg.Users = map[string]User{
		"good": {ID: "42", Name: "alice", ValidFor: time.Minute, MaxSessions: 2, Unique: true},
	}
	return cfg
}

// get makes one request, on a connection of its own.
// get reads the answer to its end.
func get(ctx context.Context, url string) (*http.Response, error) {
	return getUntil(ctx, url, func(body io.Reader) { _, _ = io.Copy(io.Discard, body) })
}

func getUntil(ctx context.Context, url string, read func(body io.Reader)) (*http.Response, error) {
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: giantHeader / 2}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	read(resp.Body)
	return resp, nil
}

func TestServer_SetModeFor_LeavesOthersAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t, withUser())
	s.SetModeFor("token=evil", Status(500))
	for query, want := range map[string]int{"token=evil": 500, "a=b&token=evil7": 500, "token=good": 200, "token=bad": 403} {
		resp, err := get(t.Context(), s.URL()+"/?"+query)
		if err != nil || resp.StatusCode != want {
			t.Errorf("query %q: got %v and error %v, want status %d", query, resp, err, want)
		}
	}
	s.SetModeFor("", Healthy())
	if resp, err := get(t.Context(), s.URL()+"/?token=evil"); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("after its end: got %v and error %v, want status 403", resp, err)
	}
}

func TestServer_HealthyAnswersByItsUsers(t *testing.T) {
	t.Parallel()
	cfg := withUser()
	cfg.Lookup = func(token string) (User, bool) { return User{}, strings.HasPrefix(token, "viewer-") }
	s := startServer(t, cfg)
	s.SetUser("late", User{})
	s.SetUser("gone", User{})
	s.RemoveUser("gone")
	for token, want := range map[string]int{
		"good": 200, "late": 200, "viewer-7": 200, "gone": 403, "bad": 403, "": 403,
	} {
		resp, err := get(t.Context(), s.URL()+"/?token="+token)
		if err != nil || resp.StatusCode != want {
			t.Errorf("token %q: got %v and error %v, want status %d", token, resp, err, want)
		}
	}
	resp, err := get(t.Context(), s.URL()+"/?token=good")
	if err != nil {
		t.Fatalf("send the request: %v", err)
	}
	resp.Header.Del("Date")
	want := http.Header{
		"X-Session-Name": {"alice"}, "X-Userid": {"42"}, "X-Authduration": {"60"}, "X-Max-Sessions": {"2"},
		"X-Unique": {"true"}, "Content-Length": {"0"},
	}
	if diff := cmp.Diff(want, resp.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestServer_Modes(t *testing.T) {
	t.Parallel()
	status := func(want int, header, value string) func(*http.Response, error) error {
		return func(resp *http.Response, err error) error {
			if err != nil || resp.StatusCode != want || resp.Header.Get(header) != value {
				return fmt.Errorf("want status %d and %s: %s", want, header, value)
			}
			return nil
		}
	}
	failing := func(is func(error) bool, want string) func(*http.Response, error) error {
		return func(_ *http.Response, err error) error {
			if err == nil || !is(err) {
				return errors.New("want " + want)
			}
			return nil
		}
	}
	containing := func(text string) func(*http.Response, error) error {
		return failing(func(err error) bool { return strings.Contains(err.Error(), text) }, text)
	}
	tests := map[string]struct {
		mode Mode
		want func(*http.Response, error) error
	}{
		"healthy": {Healthy(), status(200, "X-Session-Name", "alice")},
		"slow":    {Slow(time.Millisecond), status(200, "X-Session-Name", "alice")},
		"status":  {Status(503), status(503, "X-Extra", "1")},
		"hang":    {Hang(), failing(func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }, "a deadline")},
		"refuse":  {Refuse(), failing(func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }, "a refused connection")},
		"reset": {Reset(), failing(func(err error) bool {
			return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrUnexpectedEOF)
		}, "a reset")},
		"giant headers":       {GiantHeaders(), containing("exceeded")},
		"garbage":             {Garbage(), containing("malformed")},
		"flap starts healthy": {Flap(time.Hour), status(200, "X-Session-Name", "alice")},
		"redirect":            {Redirect("http://promo.example.net/"), status(302, "Location", "http://promo.example.net/")},
		"the zero mode":       {Mode{}, status(200, "X-Extra", "1")},
		"a body without end":  {SlowBody(), status(200, "X-Session-Name", "alice")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, withUser())
			s.SetHeader("X-Extra", "1")
			if err := s.SetMode(tt.mode); err != nil {
				t.Fatalf("set the mode: %v", err)
			}
			limit := 10 * time.Second
			if tt.mode.Kind == KindHang {
				limit = 30 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			resp, err := getUntil(ctx, s.URL()+"/?token=good", func(io.Reader) {})
			if wrong := tt.want(resp, err); wrong != nil {
				t.Errorf("%v, got an answer: %t, error %v", wrong, resp != nil, err)
			}
			if s.Mode() != tt.mode {
				t.Errorf("got mode %s, want %s", s.Mode(), tt.mode)
			}
		})
	}
}

func TestServer_FlapTakesTurns(t *testing.T) {
	t.Parallel()
	s := startServer(t, withUser())
	if err := s.SetMode(Flap(time.Nanosecond)); err != nil { // some requests fall into healthy periods, others not
		t.Fatalf("set the mode: %v", err)
	}
	var good, bad bool
	for range 10_000 {
		if _, err := get(t.Context(), s.URL()+"/?token=good"); err == nil {
			good = true
		} else {
			bad = true
		}
		if good && bad {
			return
		}
	}
	t.Errorf("got good answers: %t, resets: %t, want both", good, bad)
}

func TestServer_RedirectSelf(t *testing.T) {
	t.Parallel()
	s := startServer(t, DefaultConfig())
	if err := s.SetMode(RedirectSelf()); err != nil {
		t.Fatalf("set the mode: %v", err)
	}
	resp, err := get(t.Context(), s.URL()+"/check")
	if err != nil || resp.Header.Get("Location") != s.URL()+"/login" {
		t.Errorf("got %v and error %v, want a redirect to %s/login", resp, err, s.URL())
	}
}

func TestServer_ReturnsOnTheSamePortAfterRefuse(t *testing.T) {
	t.Parallel()
	s := startServer(t, withUser())
	url := s.URL()
	for range 3 {
		for _, m := range []Mode{Refuse(), Refuse(), Healthy(), Healthy()} {
			if err := s.SetMode(m); err != nil {
				t.Fatalf("set the middleware to %s: %v", m, err)
			}
		}
		if _, err := get(t.Context(), url+"/?token=good"); err != nil || s.URL() != url {
			t.Fatalf("got error %v at %s, want an answer at %s", err, s.URL(), url)
		}
	}
}

func TestServer_Close_EndsHangingCalls(t *testing.T) {
	t.Parallel()
	s := New(DefaultConfig())
	if err := s.Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	for _, m := range []Mode{Hang(), Slow(time.Hour), SlowBody()} {
		if err := s.SetMode(m); err != nil {
			t.Fatalf("set the mode: %v", err)
		}
	}
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { _, _ = get(context.Background(), s.URL()) })
	}
	if err := s.Wait(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	if s.InFlight() != 10 || s.MaxInFlight() != 10 {
		t.Errorf("got %d calls in flight, %d at most, want 10", s.InFlight(), s.MaxInFlight())
	}
	s.Close()
	group.Wait()
	if s.InFlight() != 0 {
		t.Errorf("got %d calls in flight after Close, want none", s.InFlight())
	}
	if err := s.SetMode(Healthy()); err != nil {
		t.Errorf("set after Close: %v", err)
	}
	if _, err := get(t.Context(), s.URL()); err == nil {
		t.Error("got an answer after Close")
	}
}

func TestServer_Requests_KeepsTheLast(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Record = 3
	s := startServer(t, cfg)
	for i := range 5 {
		if _, err := get(t.Context(), fmt.Sprintf("%s/p%%2F/%d?q=%d", s.URL(), i, i)); err != nil {
			t.Fatalf("send the request: %v", err)
		}
	}
	var got []string
	for _, r := range s.Requests() {
		got = append(got, r.Method+" "+r.Path+"?"+r.RawQuery)
	}
	want := []string{"GET /p%2F/2?q=2", "GET /p%2F/3?q=3", "GET /p%2F/4?q=4"}
	if diff := cmp.Diff(want, got); diff != "" || s.Calls() != 5 {
		t.Errorf("%d calls, requests (-want +got):\n%s", s.Calls(), diff)
	}
}

func TestServer_Wait_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := startServer(t, DefaultConfig())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestServer_Start_PortInUse(t *testing.T) {
	t.Parallel()
	s := startServer(t, DefaultConfig())
	cfg := DefaultConfig()
	cfg.Address = strings.TrimPrefix(s.URL(), "http://")
	if err := New(cfg).Start(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want address already in use", err)
	}
}
