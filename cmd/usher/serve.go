package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"usher/cluster/redisclient"
)

type serveCommand struct{ fileFlag }

// Run runs a node until a signal.
func (c serveCommand) Run(r runtime) error {
	s, err := c.load(r.err)
	if err != nil {
		return err
	}
	logger := s.Log.logger(r.err)
	redisclient.LogTo(logger)
	return serve(r.ctx, s, logger, nil)
}

// serve runs a node on the settings' listeners. started, if not nil, is called once it listens.
func serve(ctx context.Context, s *settings, logger *slog.Logger, started func(*node, net.Addr)) error {
	tracer, flush, err := s.Tracing.tracer(ctx, logger)
	if err != nil {
		return err
	}
	defer flush()
	n, err := newNode(s, logger, tracer) //nolint:contextcheck // its parts live until it is closed
	if err != nil {
		return err
	}
	defer n.close()
	// Whatever can fail does so before a balancer may send the first viewer.
	if err := s.Gateway.TLS.Check(); err != nil {
		return err
	}
	if err := s.ExtAuthz.TLS.Check(); err != nil {
		return fmt.Errorf("ext_authz.%w", err)
	}
	on, err := listen(ctx, s)
	if err != nil {
		return err
	}
	logger.Info("serving", slog.String("listen", on.public.Addr().String()), slog.String("admin", s.Admin.Listen),
		slog.String("ext_authz", s.ExtAuthz.Listen), slog.String("version", version()))
	if started != nil {
		started(n, on.public.Addr())
	}
	if err := n.run(ctx, on); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// listeners are where a node is asked. Those that the settings do not name are nil.
type listeners struct{ public, operator, envoy net.Listener }

// listen opens what the settings name, or nothing.
func listen(ctx context.Context, s *settings) (on listeners, err error) {
	var c net.ListenConfig
	for _, l := range []struct {
		key, address string
		listener     *net.Listener
	}{
		{"listen", s.Gateway.Listen, &on.public},
		{"admin.listen", s.Admin.Listen, &on.operator},
		{"ext_authz.listen", s.ExtAuthz.Listen, &on.envoy},
	} {
		if l.address == "" {
			continue
		}
		if *l.listener, err = c.Listen(ctx, "tcp", l.address); err != nil {
			on.close()
			return listeners{}, fmt.Errorf("%s=%s: %w", l.key, l.address, err)
		}
	}
	return on, nil
}

func (on listeners) close() {
	for _, l := range []net.Listener{on.public, on.operator, on.envoy} {
		if l != nil {
			_ = l.Close()
		}
	}
}
