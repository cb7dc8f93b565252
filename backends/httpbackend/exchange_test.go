package httpbackend

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
	"usher/backends/httpbackend/plainhttp"
)

// pipeServer answers each request of a client over pipes in memory, so that a bubble's time can pass.
type pipeServer struct {
	dials, open atomic.Int64
	// answer writes to the connection, and returns whether another request is read.
	answer func(w io.Writer, token string) bool
}

// serve makes the client's connections the server's.
func (s *pipeServer) serve(c *Client) {
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		s.dials.Add(1)
		s.open.Add(1)
		go func() {
			defer s.open.Add(-1)
			defer func() { _ = ours.Close() }()
			reader := bufio.NewReader(ours)
			for {
				r, err := http.ReadRequest(reader)
				if err != nil || !s.answer(ours, r.URL.Query().Get("token")) {
					return
				}
			}
		}()
		return theirs, nil
	}
	cfg := DefaultConfig()
	open := func() *transport {
		return &transport{own: plainhttp.New(plainOptions(cfg, dial, defaultConnections)), other: new(http.Transport)}
	}
	c.pool = newConnectionPool(open, c.pool.maxAge, time.Now())
}

// endless sends a header and a body without end, until the client closes the connection.
func endless(w io.Writer, status string) bool {
	_, err := io.WriteString(w, "HTTP/1.1 "+status+"\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
	for err == nil {
		_, err = io.WriteString(w, "1\r\n \r\n")
		time.Sleep(10 * time.Millisecond) // in the bubble
	}
	return false
}

func TestClient_Do_BodyWithoutEnd_DecidedByHeader(t *testing.T) {
	t.Parallel()
	for status, longest := range map[string]time.Duration{
		"401 Unauthorized": 0, "403 Forbidden": 0, "503 Service Unavailable": 0, "302 Found": 0, "200 OK": maxPageWait,
	} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := mustClient(t, nil)
				s := &pipeServer{answer: func(w io.Writer, _ string) bool { return endless(w, status) }}
				s.serve(c)
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				a, err := c.Do(ctx, Call{})
				if err != nil || !strings.HasPrefix(status, strconv.Itoa(a.Status)) {
					t.Fatalf("got status %d and error %v", a.Status, err)
				}
				if waited := time.Since(start); waited > longest {
					t.Errorf("the viewer waited %s for the body, want at most %s", waited, longest)
				}
				cancel() // ends the call, and not what is left of its answer
				synctest.Wait()
				if s.open.Load() != 1 {
					t.Errorf("the connection ended with the call")
				}
				time.Sleep(drainTimeout + time.Second)
				if s.open.Load() != 0 || len(c.draining) != 0 {
					t.Errorf("%d connections and %d readers are left after %s", s.open.Load(), len(c.draining), drainTimeout)
				}
			})
		})
	}
}

// A client with two connections drains two bodies at most. Others are closed at once.
func TestClient_Do_BodiesWithoutEnd_Bounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := mustClient(t, nil)
		s := &pipeServer{answer: func(w io.Writer, _ string) bool { return endless(w, "403 Forbidden") }}
		s.serve(c)
		for range 10 {
			if d, err := c.Decide(t.Context(), Call{}); err != nil || d.Verdict != backends.Denied {
				t.Fatalf("got %s and error %v, want denied", d.Verdict, err)
			}
		}
		time.Sleep(50 * time.Millisecond)
		if s.open.Load() != 2 {
			t.Errorf("%d bodies are read, want as many as the client keeps connections: 2", s.open.Load())
		}
		c.Close()
		time.Sleep(50 * time.Millisecond)
		if s.open.Load() != 0 {
			t.Errorf("%d bodies are read after Close", s.open.Load())
		}
	})
}

// A yes waits for no page that is not read, because the client reads as many bodies as it may.
func TestClient_Do_PageNotRead_DecidedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := mustClient(t, nil)
		s := &pipeServer{answer: func(w io.Writer, token string) bool { return endless(w, token) }}
		s.serve(c)
		for range 2 {
			_, _ = c.Decide(t.Context(), Call{Query: "token=403+Forbidden"})
		}
		start := time.Now()
		d, err := c.Decide(t.Context(), Call{Query: "token=200+OK"})
		if err != nil || d.Verdict != backends.Allowed || time.Since(start) != 0 {
			t.Errorf("got %s and error %v after %s, want allowed at once", d.Verdict, err, time.Since(start))
		}
		time.Sleep(2 * drainTimeout) // until all is closed
	})
}

// However much of a body without end a decision needs, its connection ends soon after.
func TestClient_Do_BodyWithoutEnd_LeavesNoConnection(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		call   Call
	}{
		"all of it":       {func(cfg *Config) { cfg.MaxBodySize = 4 }, Call{Query: "token=200+OK", NeedsBody: true}},
		"its beginning":   {func(cfg *Config) { cfg.BrokenPage = BrokenPageFailure }, Call{Query: "token=200+OK"}},
		"a look":          {nil, Call{Query: "token=200+OK"}},
		"nothing":         {nil, Call{Query: "token=403+Forbidden"}},
		"of a redirect's": {func(cfg *Config) { cfg.Redirects = RedirectsFollow }, Call{Query: "token=302+Found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := mustClient(t, tt.change)
				s := &pipeServer{answer: func(w io.Writer, token string) bool {
					if token == "302 Found" {
						token += "\r\nLocation: /?token=403+Forbidden"
					}
					return endless(w, token)
				}}
				s.serve(c)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := c.Do(ctx, tt.call); (backends.AsFailure(err) != nil) != tt.call.NeedsBody {
					t.Errorf("got error %v, want a failure for a body that is too large alone", err)
				}
				time.Sleep(drainTimeout + time.Second)
				if s.open.Load() != 0 {
					t.Errorf("%d of %d connections are left", s.open.Load(), s.dials.Load())
				}
			})
		})
	}
}

// The rest of a body that comes late is read, and its connection serves the next call.
func TestClient_Do_LateBody_ConnectionReused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := mustClient(t, nil)
		s := &pipeServer{answer: func(w io.Writer, _ string) bool {
			_, _ = io.WriteString(w, "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\n")
			time.Sleep(drainTimeout / 2)
			_, _ = io.WriteString(w, "no no")
			return true
		}}
		s.serve(c)
		for range 5 {
			start := time.Now()
			if d, err := c.Decide(t.Context(), Call{}); err != nil || d.Verdict != backends.Denied || time.Since(start) != 0 {
				t.Fatalf("got %s and error %v after %s, want denied at once", d.Verdict, err, time.Since(start))
			}
			time.Sleep(drainTimeout)
		}
		if s.dials.Load() != 1 {
			t.Errorf("got %d connections for 5 calls, want 1", s.dials.Load())
		}
	})
}

// A page that comes after the decision raises the alarm still.
func TestClient_Do_LatePage_Alarm(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{"Fatal error: ": true, "<html><body>x": true, "no words here": false} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := mustClient(t, nil)
				s := &pipeServer{answer: func(w io.Writer, _ string) bool {
					_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
					time.Sleep(maxPageWait + 10*time.Millisecond)
					_, _ = io.WriteString(w, "d\r\n"+body+"\r\n0\r\n\r\n")
					return false
				}}
				s.serve(c)
				if d, err := c.Decide(t.Context(), Call{}); err != nil || d.Verdict != backends.Allowed || d.ValidFor != 0 {
					t.Fatalf("got %+v and error %v, want the yes of the header", d, err)
				}
				if raised := c.ContractAlarms().Active(); raised != 0 {
					t.Errorf("got alarms %b before the page", raised)
				}
				time.Sleep(drainTimeout)
				if got := c.ContractAlarms().Active().Has(backends.AlarmBrokenPage); got != want {
					t.Errorf("alarm %t, want %t", got, want)
				}
			})
		})
	}
}

func TestPageWait_ShareOfTheCallsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for left, want := range map[time.Duration]time.Duration{
			2 * time.Second: 200 * time.Millisecond, 5 * time.Second: maxPageWait, time.Minute: maxPageWait,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			if got := pageWait(ctx); got != want {
				t.Errorf("%s are left: got %s, want %s", left, got, want)
			}
			cancel()
		}
		if got := pageWait(t.Context()); got != maxPageWait {
			t.Errorf("without a deadline: got %s, want %s", got, maxPageWait)
		}
	})
}

// Where an error page is a failure, the yes waits for the body's end or first byte, as long as the call lasts.
func TestClient_Do_BrokenPageIsFailure_WaitsForFirstByte(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := map[string]struct {
		answer func(w io.Writer)
		want   string        // a failure; empty: allowed
		after  time.Duration // when the decision is there
	}{
		"no body":       {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") }, "", 0},
		"an empty body": {func(w io.Writer) { _, _ = io.WriteString(w, head+"0\r\n\r\n") }, "", 0},
		"an empty body later": {func(w io.Writer) {
			_, _ = io.WriteString(w, head)
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "0\r\n\r\n")
		}, "", time.Second},
		"an error at once": {func(w io.Writer) { _, _ = io.WriteString(w, head+"d\r\nFatal error: \r\n0\r\n\r\n") }, "malformed", 0},
		"an error later": {func(w io.Writer) {
			_, _ = io.WriteString(w, head)
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "d\r\nFatal error: \r\n0\r\n\r\n")
		}, "malformed", time.Second},
		"an error in pieces": {func(w io.Writer) {
			_, _ = io.WriteString(w, head+"5\r\nFatal\r\n")
			time.Sleep(maxPageWait / 2)
			_, _ = io.WriteString(w, "8\r\n error: \r\n0\r\n\r\n")
		}, "malformed", maxPageWait / 2},
		"a body without end": {func(w io.Writer) {
			_, _ = io.WriteString(w, head+"5\r\nFatal\r\n")
			time.Sleep(time.Hour)
		}, "", maxPageWait},
		"a full page without end": {func(w io.Writer) {
			_, _ = io.WriteString(w, head+"1000\r\n"+strings.Repeat(" ", maxPage)+"\r\n")
			time.Sleep(time.Hour)
		}, "", 0},
		"a body that never begins": {func(w io.Writer) {
			_, _ = io.WriteString(w, head)
			time.Sleep(time.Hour)
		}, "timeout", 10 * time.Second},
		"a body that breaks": {func(w io.Writer) { _, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n") }, "transport", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := mustClient(t, func(cfg *Config) { cfg.BrokenPage = BrokenPageFailure })
				s := &pipeServer{answer: func(w io.Writer, _ string) bool {
					tt.answer(w)
					return false
				}}
				s.serve(c)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				start := time.Now()
				d, err := c.Decide(ctx, Call{})
				got := ""
				if f := backends.AsFailure(err); f != nil {
					got = f.Kind.String()
				}
				if got != tt.want || (d.Verdict == backends.Allowed) != (tt.want == "") {
					t.Errorf("got %s and error %v, want failure %q", d.Verdict, err, tt.want)
				}
				if waited := time.Since(start); waited != tt.after {
					t.Errorf("decided after %s, want %s", waited, tt.after)
				}
				cancel()
				time.Sleep(2 * time.Hour) // until the server has ended
			})
		})
	}
}
