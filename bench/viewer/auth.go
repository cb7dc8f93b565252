package viewer

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"usher/bench/record"
	"usher/bench/viewer/edge"
)

// Auth is an edge that asks about viewers. Config.Path is what its viewers want, and the targets are auth servers.
type Auth struct {
	Dialect edge.Dialect
	// Path is where the edge asks ("/auth/nginx"); Envoy has none.
	Path string
	// Every is the time between two questions about a viewer: that between requests, or for edges that keep sessions the
	// validity of a decision.
	Every time.Duration
	// Host is the name that viewers ask for.
	Host string
}

func (a *Auth) validate() error {
	errs := []error{a.Dialect.Validate()}
	if a.Dialect.IsHTTP() && !strings.HasPrefix(a.Path, "/") {
		errs = append(errs, fmt.Errorf("auth.path: %q does not begin with a slash", a.Path))
	}
	if a.Every <= 0 {
		errs = append(errs, fmt.Errorf("auth.every: %v is not positive", a.Every))
	}
	return errors.Join(errs...)
}

// dialEnvoys opens a client for each target, if the edge is Envoy.
func (e *engine) dialEnvoys() error {
	if e.config.Auth == nil || e.config.Auth.Dialect.IsHTTP() {
		return nil
	}
	for i := range e.config.Targets {
		origin := e.origins.at(uint16(i))
		var secure *tls.Config
		if origin.IsTLS {
			secure = cmp.Or(e.config.TLS, &tls.Config{MinVersion: tls.VersionTLS12})
		}
		client, err := edge.NewEnvoyClient(origin.Address, secure)
		if err != nil {
			return fmt.Errorf("targets: %w", err)
		}
		e.envoys = append(e.envoys, client)
	}
	return nil
}

func (e *engine) closeEnvoys() {
	for _, client := range e.envoys {
		_ = client.Close() // fails on a closed one only
	}
}

// ask asks about a viewer as an edge.
func (w *worker) ask(slot uint32, v *viewer) {
	e := w.engine
	a := e.config.Auth
	if v.phase == opening {
		v.reload, v.sequence = v.due, 0 // how many questions there were
	}
	q := edge.Question{
		Path: a.Path, URI: string(e.appendPath(nil, v)), Host: a.Host, Channel: e.config.Channels[v.channel],
		Address: addressIn(e.config.Forwarded, v.address), UserAgent: e.config.UserAgent,
		Session: mix(e.config.Seed ^ uint64(v.number) ^ uint64(v.channel)<<32), Number: v.sequence,
	}
	w.beginTrace()
	failed := w.send(slot, v, &q)
	w.record(record.AuthQuestion, v, v.due, failed)
	if failed != "" {
		w.failed(v, failed)
		return
	}
	v.phase, v.failures, v.period = playing, 0, a.Every
	v.sequence++
	v.advance()
}

// send sends a question.
func (w *worker) send(slot uint32, v *viewer, q *edge.Question) (failed string) {
	e, x := w.engine, w.x
	d := e.config.Auth.Dialect
	if !d.IsHTTP() {
		return w.sendEnvoy(v, q)
	}
	x.Target = d.AppendTarget(x.Target[:0], q)
	x.Header = w.appendTrace(d.AppendHeader(x.Header[:0], q))
	x.Host = d.Host(q)
	server := e.origins.at(v.node)
	conn := e.connections.take(slot, v, server)
	conn.Do(x)
	e.connections.give(server, conn)
	w.sent = x.Sent
	return x.FailureText()
}

func (w *worker) sendEnvoy(v *viewer, q *edge.Question) (failed string) {
	ctx, cancel := context.WithTimeout(w.engine.client.Context(), w.x.Timeout)
	defer cancel()
	w.sent, w.x.Sent = time.Now(), time.Now()
	w.x.Status, w.x.Failure = w.engine.envoys[v.node].Check(ctx, q, string(w.appendTraceparent(nil)))
	w.x.End, w.x.Bytes = time.Now(), 0
	w.x.FirstByte = time.Time{}
	if w.x.Failure == "" {
		w.x.FirstByte = w.x.End
	}
	return w.x.FailureText()
}
