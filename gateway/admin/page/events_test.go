package page_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"usher/gateway/admin/access"
	"usher/gateway/admin/page"
)

// events is the stream of a page.
type events struct {
	*http.Response
	lines *bufio.Reader
}

// openEvents opens a stream, which closes with the test.
func openEvents(t *testing.T, s *site, cookie string) *events {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/ui/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &events{resp, bufio.NewReader(resp.Body)}
}

// next returns the data of the next event.
func (e *events) next(t *testing.T) string {
	t.Helper()
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("read the stream: %v", err)
		}
		var data string
		if n, _ := fmt.Sscanf(line, "data: %s", &data); n == 1 {
			return data
		}
	}
}

// awaitEnd waits until the server ends the stream.
func (e *events) awaitEnd(t *testing.T) {
	t.Helper()
	if _, err := io.Copy(io.Discard, e.lines); err != nil {
		t.Errorf("the stream was broken off: %v", err)
	}
}

func TestPage_Events_OverviewAsItChanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cookie, _ := s.login(t, readToken)
	first := openEvents(t, s, cookie)
	if first.StatusCode != http.StatusOK || first.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %d, %v", first.StatusCode, first.Header)
	}
	if got := first.next(t); got != `{"number":1}` {
		t.Errorf("got %s", got)
	}
	second := openEvents(t, s, cookie) // one overview serves both
	got := second.next(t)
	if got != `{"number":1}` && got != `{"number":2}` {
		t.Errorf("got %s", got)
	}
	if got := first.next(t); got != `{"number":2}` {
		t.Errorf("got %s", got)
	}
}

// TestPage_Events_OutlivesWriteTimeout reads more than a server's WriteTimeout lets others write.
func TestPage_Events_OutlivesWriteTimeout(t *testing.T) {
	t.Parallel()
	cookie, _ := newSite(t).login(t, readToken)
	s := newSite(t, func(server *http.Server) { server.WriteTimeout = 100 * time.Millisecond })
	e := openEvents(t, s, cookie)
	for i := range 3 {
		if got, want := e.next(t), fmt.Sprintf(`{"number":%d}`, i+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPage_Events_TooMany(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cookie, _ := s.login(t, readToken)
	var all []*events
	for range 64 {
		all = append(all, openEvents(t, s, cookie))
	}
	if resp := openEvents(t, s, cookie); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d", resp.StatusCode)
	}
	for _, e := range all {
		if e.StatusCode != http.StatusOK {
			t.Errorf("got %d", e.StatusCode)
		}
	}
}

func TestPage_Events_EndsWithLogin(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *site){
		"its life": func(s *site) { s.pass(page.Lifetime) },
		"its token": func(s *site) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.tokens = []access.Token{{Name: "admin", Token: "another token", Role: access.Write}}
		},
		"its page":     func(s *site) { close(s.replaced) },
		"the listener": func(s *site) { _ = s.Config.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			cookie, _ := s.login(t, adminToken)
			e := openEvents(t, s, cookie)
			e.next(t)
			end(s)
			_, _ = io.Copy(io.Discard, e.lines) // it ends
		})
	}
}

func TestPage_Events_NoLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, header := range map[string][]string{
		"no cookie":      nil,
		"a bearer token": {"Authorization", "Bearer " + adminToken},
	} {
		if resp, _ := s.send(t, http.MethodGet, "/ui/events", "", header...); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: got %d", name, resp.StatusCode)
		}
	}
}
