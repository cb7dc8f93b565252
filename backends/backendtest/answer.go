package backendtest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// giantHeader is more than any client reads of one.
const giantHeader = 1 << 20

// answer is how one request fares: what was set when it came.
type answer struct {
	server  *Server
	mode    Mode
	since   time.Time
	headers http.Header
	dialect Dialect
}

func (a answer) give(w http.ResponseWriter, r *http.Request) {
	switch a.mode.Kind {
	case KindSlow:
		if a.wait(r.Context(), a.mode.For) {
			a.healthy(w, r)
		}
	case KindHang:
		a.wait(r.Context(), 0)
	case KindReset:
		reset(w)
	case KindStatus:
		a.status(w, a.mode.Status)
	case KindGiantHeaders:
		raw(w, "HTTP/1.1 200 OK\r\nX-Filler: "+strings.Repeat("x", giantHeader)+"\r\nContent-Length: 0\r\n\r\n")
	case KindGarbage:
		raw(w, "\x16\x03\x01 HELO "+r.URL.RawQuery+"\r\n\r\n")
	case KindFlap:
		if time.Since(a.since)/a.mode.For%2 == 1 {
			reset(w)
			return
		}
		a.healthy(w, r)
	case KindRedirect:
		w.Header().Set("Location", a.mode.Location)
		a.status(w, http.StatusFound)
	case KindRedirectSelf:
		w.Header().Set("Location", "http://"+r.Host+"/login")
		a.status(w, http.StatusFound)
	case KindSlowBody:
		w.Header().Set("Content-Length", "1")
		a.healthy(w, r)
		_ = http.NewResponseController(w).Flush()
		a.wait(r.Context(), 0)
	default:
		a.healthy(w, r)
	}
}

// wait returns true after d, or false once the client or the server is gone; a d of zero never ends.
func (a answer) wait(ctx context.Context, d time.Duration) bool {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return true
	case <-ctx.Done():
	case <-a.server.life.Done():
	}
	panic(http.ErrAbortHandler) // no answer at all, instead of an empty 200
}

func (a answer) healthy(w http.ResponseWriter, r *http.Request) {
	u, known := a.server.lookup(r.URL.Query().Get("token"))
	if len(a.headers) > 0 {
		w = overriding{w, a.headers}
	}
	a.dialect(w, r, u, known)
}

func (a answer) status(w http.ResponseWriter, status int) {
	overriding{w, a.headers}.WriteHeader(status)
}

// overriding sets headers over those of whoever writes the answer.
type overriding struct {
	http.ResponseWriter
	headers http.Header
}

func (o overriding) WriteHeader(status int) {
	maps.Copy(o.Header(), o.headers)
	o.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (o overriding) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// Astra answers as middlewares written for Astra do, with Flussonic's headers for what the user has.
func Astra(w http.ResponseWriter, _ *http.Request, u User, known bool) {
	if !known {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	set := func(name, value string, present bool) {
		if present {
			w.Header().Set(name, value)
		}
	}
	set("X-Session-Name", u.Name, u.Name != "")
	set("X-UserId", u.ID, u.ID != "")
	set("X-AuthDuration", strconv.Itoa(int(u.ValidFor/time.Second)), u.ValidFor > 0)
	set("X-Max-Sessions", strconv.Itoa(u.MaxSessions), u.MaxSessions > 0)
	set("X-Unique", "true", u.Unique)
	w.WriteHeader(http.StatusOK)
}

// reset breaks the connection in the middle of a header.
func reset(w http.ResponseWriter) {
	hijack(w, func(conn net.Conn) {
		_, _ = fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nX-Session-Name: al")
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	})
}

// raw answers with text as it is.
func raw(w http.ResponseWriter, text string) {
	hijack(w, func(conn net.Conn) { _, _ = fmt.Fprint(conn, text) })
}

func hijack(w http.ResponseWriter, act func(net.Conn)) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // so that a client that does not read holds up no Close
	act(conn)
}
