package front

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"usher/gateway"
)

func TestResetCounter_Count(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answered, resets int
		every            time.Duration
		isTooMany        bool
	}{
		"a viewer who seeks":                  {10, 100, time.Millisecond, false},
		"as many as are allowed":              {0, maxResets, time.Millisecond, false},
		"one more":                            {0, maxResets + 1, time.Millisecond, true},
		"a proxy of viewers who stay":         {maxResets + 1, maxResets + 1, time.Millisecond, false},
		"a proxy of viewers who do not stay":  {maxResets, maxResets + 1, time.Millisecond, true},
		"as many as are allowed in each time": {0, 5 * maxResets, resetWindow / maxResets, false},
	} {
		var c resetCounter
		now, isTooMany := time.Unix(1_800_000_000, 0), false
		for range test.answered {
			isTooMany = c.count(now, false)
		}
		for range test.resets {
			isTooMany = isTooMany || c.count(now, true)
			now = now.Add(test.every)
		}
		if isTooMany != test.isTooMany {
			t.Errorf("%s: too many: %t, want %t", name, isTooMany, test.isTooMany)
		}
	}
}

// TestServer_ServeHTTP2_Reset answers no stream that was reset, and ends the connection of a client that does nothing else.
func TestServer_ServeHTTP2_Reset(t *testing.T) {
	t.Parallel()
	answered, reached := 0, []string(nil)
	s := &Server{
		handlers:   Handlers{HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered++ })},
		onOverload: func(setting string) { reached = append(reached, setting) },
	}
	near, far := net.Pipe()
	defer closeNow(near)
	ctx, reset := context.WithCancel(withResetCounter(t.Context(), far))
	ask := func() {
		s.serveHTTP2(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	}
	ask()
	reset()
	for range maxResets {
		ask()
	}
	if reached != nil {
		t.Fatalf("closed after %d resets", maxResets)
	}
	ask()
	ask()
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	if want := []string{"HTTP/2 stream resets of a connection"}; answered != 1 || !slices.Equal(reached, want) {
		t.Errorf("%d answered, and %q reached; want 1 and %q", answered, reached, want)
	}
}

// TestServer_ServeHTTP2_Draining answers the streams that the end of a drain has cancelled, however many there are.
func TestServer_ServeHTTP2_Draining(t *testing.T) {
	t.Parallel()
	answered := 0
	s := &Server{
		handlers:   Handlers{HTTP: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered++ })},
		onOverload: func(setting string) { t.Errorf("the connection was closed: %s", setting) },
	}
	near, far := net.Pipe()
	defer closeNow(near)
	defer closeNow(far)
	requests, cancel := context.WithCancelCause(t.Context())
	cancel(gateway.ErrDraining)
	ctx, end := context.WithCancel(withResetCounter(requests, far))
	defer end()
	for range 2 * maxResets {
		s.serveHTTP2(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	}
	if answered != 2*maxResets {
		t.Errorf("%d of %d requests were answered", answered, 2*maxResets)
	}
}
