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
	"usher/gateway"
	"usher/gateway/admin"
)

// serveAdmin serves the admin listener until ctx ends: after the public one has drained, so that load balancers see
// the readiness.
func (n *node) serveAdmin(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: admin.Handler(n.settings.Admin, admin.Options{
			Node: n.adminNode(), Cluster: n.adminCluster(), Logger: n.logger,
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

// adminNode implements admin.LocalNode: Ready of the server, Len of the registry, and the rest here.
type adminNode struct {
	*gateway.Server
	*actors.Registry
	node *node
}

func (n *node) adminNode() adminNode {
	return adminNode{Server: n.server, Registry: n.registry, node: n}
}

// EachSession calls yield for each session until yield returns false.
func (a adminNode) EachSession(yield func(admin.Session) bool) {
	a.Each(func(s *actors.Session) bool { return yield(sessionView(s)) })
}

func sessionView(s *actors.Session) admin.Session {
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

// Backends returns all backends.
func (a adminNode) Backends() []admin.Backend {
	var all []admin.Backend
	for name, c := range a.node.chains {
		all = append(all, admin.Backend{
			Name: name, Kind: a.node.settings.Backends[name].Kind, URL: a.node.adapters[name].url,
			Breaker: c.State().String(), OnFailure: c.FailOpen.Policy().String(), Alarms: violationsView(a.node.adapters[name].alarms),
		})
	}
	return all
}

// violationsView returns the state of every contract violation; nil for a backend that calls no middleware.
func violationsView(w *httpbackend.Alarms) map[string]admin.AlarmState {
	if w == nil {
		return nil
	}
	all := map[string]admin.AlarmState{}
	for _, alarm := range backends.AllAlarms() {
		all[alarm.String()] = admin.AlarmState{Count: w.Count(alarm), Active: w.Active().Has(alarm)}
	}
	return all
}
