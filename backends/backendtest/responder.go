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

// giantHeader is larger, in bytes, than any client's limit for headers.
const giantHeader = 1 << 20

// responder answers one request as the server was set when it arrived.
type responder struct {
	server  *Server
	mode    Mode
	since   time.Time
	headers http.Header
	dialect Dialect
}

func (a responder) serve(w http.ResponseWriter, r *http.Request) {
	switch a.mode.Kind {
	case KindSlow:
		if a.await(r.Context(), a.mode.For) {
			a.healthy(w, r)
		}
	case KindHang:
		a.await(r.Context(), 0)
	case KindReset:
		resetConnection(w)
	case KindStatus:
		a.status(w, a.mode.Status)
	case KindGiantHeaders:
		sendRaw(w, "HTTP/1.1 200 OK\r\nX-Filler: "+strings.Repeat("x", giantHeader)+"\r\nContent-Length: 0\r\n\r\n")
	case KindGarbage:
		sendRaw(w, "\x16\x03\x01 HELO "+r.URL.RawQuery+"\r\n\r\n")
	case KindFlap:
		a.flap(w, r)
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
		a.await(r.Context(), 0)
	default:
		a.healthy(w, r)
	}
}

// await returns true after d. It aborts the answer if the client or the server ends first; a d of zero never ends.
func (a responder) await(ctx context.Context, d time.Duration) bool {
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

// flap answers in even periods and resets the connection in odd ones.
func (a responder) flap(w http.ResponseWriter, r *http.Request) {
	if time.Since(a.since)/a.mode.For%2 == 1 {
		resetConnection(w)
		return
	}
	a.healthy(w, r)
}

func (a responder) healthy(w http.ResponseWriter, r *http.Request) {
	u, known := a.server.lookup(r.URL.Query().Get("token"))
	if len(a.headers) > 0 {
		w = headerOverride{w, a.headers}
	}
	a.dialect(w, r, u, known)
}

func (a responder) status(w http.ResponseWriter, status int) {
	headerOverride{w, a.headers}.WriteHeader(status)
}

// headerOverride replaces headers of the answer when its status is written.
type headerOverride struct {
	http.ResponseWriter
	headers http.Header
}

func (o headerOverride) WriteHeader(status int) {
	maps.Copy(o.Header(), o.headers)
	o.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (o headerOverride) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// Astra answers as middlewares for Astra do, with Flussonic's headers for the user's limits.
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

// resetConnection breaks the connection in the middle of a header.
func resetConnection(w http.ResponseWriter) {
	hijack(w, func(conn net.Conn) {
		_, _ = fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nX-Session-Name: al")
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	})
}

// sendRaw answers with text that need not be HTTP.
func sendRaw(w http.ResponseWriter, text string) {
	hijack(w, func(conn net.Conn) { _, _ = fmt.Fprint(conn, text) })
}

func hijack(w http.ResponseWriter, act func(net.Conn)) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // so that a client that does not read delays no Close
	act(conn)
}
