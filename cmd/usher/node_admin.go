package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"usher/actors"
	"usher/backends"
	"usher/backends/httpbackend"
	"usher/gateway/admin"
)

// This file is the node as its operator sees it.

// serveAdmin serves the admin listener until ctx ends: after the public one has drained, so that balancers can see it.
func (n *node) serveAdmin(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: admin.Handler(n.settings.Admin, admin.Options{
			Node: (*adminNode)(n), Cluster: (*adminCluster)(n), Logger: n.logger,
		}),
		ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(n.logger.Handler(), slog.LevelDebug),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin.listen=%s: %w", n.settings.Admin.Listen, err)
	}
	return nil
}

// adminNode is the node in the admin listener's words.
type adminNode node

// Ready reports whether balancers may send viewers here.
func (a *adminNode) Ready() bool { return a.server.Ready() }

// Len counts the live sessions.
func (a *adminNode) Len() int { return a.registry.Len() }

// EachSession shows the live sessions.
func (a *adminNode) EachSession(yield func(admin.Session) bool) {
	a.registry.Each(func(s *actors.Session) bool { return yield(shownSession(s)) })
}

func shownSession(s *actors.Session) admin.Session {
	f, since := s.Request(), s.Ticket().Opened
	shown := admin.Session{
		ID: s.ID().String(), Route: f.Route, Channel: f.Channel, Backend: f.Backend,
		Address: f.Address.String(), UserAgent: f.UserAgent, Verdict: "pending", Source: backends.SourceNone.String(),
		Since: since, LastSeen: s.LastSeen(), Requests: s.Requests(), Bytes: s.Bytes(),
	}
	if d := s.Decision(); d != nil {
		shown.Verdict, shown.Source, shown.Reason = d.Verdict.String(), d.Source.String(), d.Reason
		shown.User, shown.UserID = d.User, d.UserID
	}
	return shown
}

// Backends shows the backends.
func (a *adminNode) Backends() []admin.Backend {
	var all []admin.Backend
	for name, c := range a.chains {
		all = append(all, admin.Backend{
			Name: name, Kind: a.settings.Backends[name].Kind, URL: a.adapters[name].shown,
			Breaker: c.State().String(), OnFailure: c.FailOpen.Policy().String(), Alarms: shownAlarms(a.adapters[name].watch),
		})
	}
	return all
}

// shownAlarms are all alarms that a backend can raise; nil for one that asks nobody.
func shownAlarms(w *httpbackend.Alarms) map[string]admin.AlarmState {
	if w == nil {
		return nil
	}
	all := map[string]admin.AlarmState{}
	for _, alarm := range backends.AllAlarms() {
		all[alarm.String()] = admin.AlarmState{Count: w.Count(alarm), Active: w.Active().Has(alarm)}
	}
	return all
}
