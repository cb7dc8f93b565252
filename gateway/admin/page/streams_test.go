package page

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/admin/access"
)

// TestStreams_Work_RestsAfterSlowOverview holds what open pages cost: at most a tenth of the time.
func TestStreams_Work_RestsAfterSlowOverview(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes time.Duration
		want  int64 // overviews in five minutes
	}{
		"a fast one": {0, 300},
		"a slow one": {3 * time.Second, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var made atomic.Int64
				s := &streams{overview: func(context.Context) []byte {
					<-time.After(test.takes)
					made.Add(1)
					return []byte("{}")
				}}
				pages := []*stream{{next: make(chan []byte, 1)}, {next: make(chan []byte, 1)}}
				for _, p := range pages {
					s.add(p)
				}
				<-time.After(5*time.Minute - time.Millisecond)
				if got := made.Load(); got < test.want-1 || got > test.want {
					t.Errorf("%d overviews, want %d", got, test.want)
				}
				for _, p := range pages {
					s.remove(p)
				}
				<-time.After(5 * time.Minute)
				before := made.Load()
				if before > test.want+1 { // one may have been under way
					t.Errorf("%d overviews without a page", before)
				}
				for range 100 { // reloading a page again and again costs no more
					s.add(pages[0])
					<-time.After(test.takes + 10*time.Millisecond)
					s.remove(pages[0])
					select {
					case <-pages[0].next:
					default:
					}
				}
				if got, most := made.Load()-before, 100*(test.takes+10*time.Millisecond)/max(pace, restFactor*test.takes)+2; got > int64(most) {
					t.Errorf("%d overviews for 100 reloads, want %d at most", got, most)
				}
				<-time.After(time.Minute)
				synctest.Wait()
			})
		})
	}
}

// syncWriter is a response that a test reads while it is written.
type syncWriter struct {
	mu   sync.Mutex
	text strings.Builder
}

func (w *syncWriter) Header() http.Header              { return http.Header{} }
func (w *syncWriter) WriteHeader(int)                  {}
func (w *syncWriter) FlushError() error                { return nil }
func (w *syncWriter) SetWriteDeadline(time.Time) error { return nil }
func (w *syncWriter) Write(text []byte) (n int, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(text)
}

func (w *syncWriter) written() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func TestPage_Events_HeartbeatWhileThereIsNoOverview(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		token := access.Token{Name: "admin", Token: "the token of admin", Role: access.Write}
		p := New(Options{
			Tokens:   func() []access.Token { return []access.Token{token} },
			Overview: func(ctx context.Context) []byte { <-ctx.Done(); return nil },
		})
		ctx, leave := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/ui/events", nil)
		r.AddCookie(&http.Cookie{Name: CookieName, Value: newLogin(time.Now().Add(Lifetime)).seal(token.Token)})
		w := new(syncWriter)
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.events(w, r)
		}()
		<-time.After(2*heartbeat + time.Second)
		leave()
		<-done
		synctest.Wait()
		if got, want := w.written(), "retry: 2000\n\n: heartbeat\n\n: heartbeat\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
