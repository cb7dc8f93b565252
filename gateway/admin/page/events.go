package page

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// maxStreams bounds the open pages of one node.
	maxStreams = 64
	// pace is the shortest time between two overviews, and restFactor how much longer than an overview took the pause after it
	// is, so that open pages cost a node at most a tenth of a processor.
	pace       = time.Second
	restFactor = 10
	// heartbeat is the longest silence of a stream, so that no proxy takes it for dead.
	heartbeat = 15 * time.Second
	// writeTimeout ends the stream of a client that does not read.
	writeTimeout = 10 * time.Second
)

// OverviewFunc returns the overview in JSON, on one line.
type OverviewFunc func(ctx context.Context) []byte

// stream is one open page.
type stream struct {
	login loginID
	// next holds the newest overview until it is sent.
	next chan []byte
	stop context.CancelFunc
}

// streams are the open pages. One overview at a time is made for all of them, and none while there is no page.
type streams struct {
	overview OverviewFunc

	mu      sync.Mutex
	open    map[*stream]struct{}
	last    []byte             // the newest overview
	next    time.Time          // when the next one may be made
	endWork context.CancelFunc // ends the work for the open pages; nil: there are none
	done    chan struct{}      // closed when the newest work has ended; nil: there was none
}

// add adds a stream. It reports false if there are too many.
func (s *streams) add(opened *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= maxStreams {
		return false
	}
	if s.open == nil {
		s.open = map[*stream]struct{}{}
	}
	s.open[opened] = struct{}{}
	if s.endWork == nil {
		var ctx context.Context
		ctx, s.endWork = context.WithCancel(context.Background())
		before := s.done
		s.done = make(chan struct{})
		go s.work(ctx, before, s.done)
	}
	if s.last != nil && time.Now().Before(s.next) {
		opened.next <- s.last
	}
	return true
}

// remove removes a stream.
func (s *streams) remove(old *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, old)
	if len(s.open) == 0 && s.endWork != nil {
		s.endWork()
		s.endWork = nil
	}
}

// end ends the streams of a login.
func (s *streams) end(login loginID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for open := range s.open {
		if open.login == login {
			open.stop()
		}
	}
}

// work makes overviews until ctx ends, after the work before has ended; nil: there is none. The pause after an overview also holds
// for pages that are opened in it.
func (s *streams) work(ctx context.Context, before <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	if before != nil {
		<-before
	}
	for {
		s.mu.Lock()
		pause := time.Until(s.next)
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		began := time.Now()
		overview := s.overview(ctx)
		s.send(ctx, overview, time.Now().Add(max(pace, restFactor*time.Since(began))))
	}
}

// send gives every stream the newest overview, in place of one that it has not sent yet. There is no other before next.
func (s *streams) send(ctx context.Context, overview []byte, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
	if ctx.Err() != nil { // it may be incomplete
		s.last = nil
		return
	}
	s.last = overview
	for open := range s.open {
		select {
		case <-open.next:
		default:
		}
		open.next <- overview
	}
}

// events sends the overview whenever there is a new one, until the client, the login, the page or the node ends.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	_, l, err := p.authenticate(r)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	s := &stream{login: l.id, next: make(chan []byte, 1), stop: stop}
	if !p.streams.add(s) { //nolint:contextcheck // the work is for all streams, and outlives this request
		w.Header().Set("Retry-After", "10")
		writeText(w, http.StatusServiceUnavailable, fmt.Sprintf("this node serves %d open pages already; close one", maxStreams))
		return
	}
	defer p.streams.remove(s)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx holds back what it buffers
	send := sender(w)
	for text := "retry: 2000\n\n"; send(text); {
		select {
		case <-ctx.Done():
			return
		case <-p.Replaced:
			return
		case overview := <-s.next:
			text = "event: overview\ndata: " + string(bytes.TrimSpace(overview)) + "\n\n"
		case <-time.After(heartbeat):
			text = ": heartbeat\n\n"
		}
		if _, _, err := p.find(r); err != nil { // the login or its token has ended
			return
		}
	}
}

// sender returns a function that sends text at once. It reports false if the client does not read.
func sender(w http.ResponseWriter) func(text string) bool {
	controller := http.NewResponseController(w)
	return func(text string) bool {
		if err := controller.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return false
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return false
		}
		return controller.Flush() == nil
	}
}
