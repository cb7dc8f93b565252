package httpbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"

	"usher/backends"
)

// newPlainClient returns a client with the given settings that calls nobody.
func newPlainClient(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Address = "http://portal.example.com/check"
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient("portal", cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestClient_ClassifyError_ByCause has one cause at a time, in a call whose own time is not over.
func TestClient_ClassifyError_ByCause(t *testing.T) {
	t.Parallel()
	c := newPlainClient(t, nil)
	for name, test := range map[string]struct {
		err  error
		want backends.FailureKind
	}{
		"a deadline":             {context.DeadlineExceeded, backends.FailureTimeout},
		"a deadline of a socket": {os.ErrDeadlineExceeded, backends.FailureTimeout},
		"a deadline within an error that is no timeout": {
			&net.OpError{Op: "read", Err: fmt.Errorf("proxy: %w", context.DeadlineExceeded)}, backends.FailureTimeout,
		},
		"a timeout of the network":   {&net.DNSError{IsTimeout: true}, backends.FailureTimeout},
		"an error of the network":    {&net.OpError{Op: "read", Err: errors.New("x")}, backends.FailureTransport},
		"a name that is unknown":     {&net.DNSError{IsNotFound: true}, backends.FailureTransport},
		"a connection that is reset": {syscall.ECONNRESET, backends.FailureTransport},
		"an end too early":           {io.ErrUnexpectedEOF, backends.FailureTransport},
		"too many redirects":         {errTooManyRedirects, backends.FailureMalformed},
		"anything else":              {errors.New("malformed HTTP"), backends.FailureMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := backends.AsFailure(c.classifyError(t.Context(), fmt.Errorf("call: %w", test.err)))
			if f == nil || f.Kind != test.want {
				t.Errorf("got %v, want a failure of kind %s", f, test.want)
			}
		})
	}
}

// TestClient_ClassifyError_ByContext has an error that says nothing, in a call that ended.
func TestClient_ClassifyError_ByContext(t *testing.T) {
	t.Parallel()
	c, plain := newPlainClient(t, nil), errors.New("x")
	overdue, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if f := backends.AsFailure(c.classifyError(overdue, plain)); f == nil || f.Kind != backends.FailureTimeout {
		t.Errorf("an overdue call: got %v, want a timeout", f)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if err := c.classifyError(left, plain); backends.AsFailure(err) != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("a viewer who left: got %v, want no failure", err)
	}
}

// TestClient_WaitsForBody_EachReasonAlone looks at which answers need more than their header.
func TestClient_WaitsForBody_EachReasonAlone(t *testing.T) {
	t.Parallel()
	ignore := func(cfg *Config) { cfg.BrokenPage = BrokenPageIgnore }
	for name, test := range map[string]struct {
		change func(*Config)
		status int
		call   Call
		want   bool
	}{
		"no reason":               {ignore, 200, Call{}, false},
		"the call needs it":       {ignore, 200, Call{NeedsBody: true}, true},
		"the config needs it":     {func(cfg *Config) { ignore(cfg); cfg.RequireBody = "ok" }, 200, Call{}, true},
		"it may be a broken page": {nil, 200, Call{}, true},
		"a denial":                {nil, 403, Call{NeedsBody: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newPlainClient(t, test.change)
			if got := c.waitsForBody(Response{Status: test.status, Header: http.Header{}}, test.call); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

// TestClient_Do_PageWhereTheContractHasABody_IsNoBrokenPage reads a page whose meaning the caller knows, and one that it does
// not.
func TestClient_Do_PageWhereTheContractHasABody_IsNoBrokenPage(t *testing.T) {
	t.Parallel()
	const text = "<html><title>500 error</title>"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(s.Close)
	for needsBody, want := range map[bool]page{true: pageNone, false: pageError} {
		c := newPlainClient(t, func(cfg *Config) { cfg.Address, cfg.BrokenPage = s.URL, BrokenPageFailure })
		got, err := c.Do(t.Context(), Call{NeedsBody: needsBody})
		if err != nil || got.page != want || needsBody && string(got.Body) != text {
			t.Errorf("a call that needs the body: %t: got %s, body %q and error %v, want %s", needsBody, got.page, got.Body, err, want)
		}
	}
}
