package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"go.opentelemetry.io/otel/trace"

	"usher/cluster/redisclient"
)

type serveCommand struct{ fileFlag }

// Run runs a node until a signal ends it.
func (c serveCommand) Run(r runtime) error {
	s, _, err := c.load(r.err)
	if err != nil {
		return err
	}
	logger := s.Log.newLogger(r.err)
	redisclient.LogTo(logger)
	return serve(r.ctx, s, logger, nil)
}

// prepare builds a node that can listen at once. It checks whatever of the settings can be checked only on the machine,
// such as files. Its error begins with the setting.
func prepare(s *settings, logger *slog.Logger, tracer trace.Tracer) (*node, error) {
	// The certificates are read before a load balancer can send the first viewer.
	if err := s.Gateway.TLS.Check(); err != nil {
		return nil, err
	}
	if err := s.ExtAuthz.TLS.Check(); err != nil {
		return nil, fmt.Errorf("ext_authz.%w", err)
	}
	return newNode(s, logger, tracer)
}

// serve runs a node until ctx ends. It calls started, if not nil, once the node listens.
func serve(ctx context.Context, s *settings, logger *slog.Logger, started func(*node, net.Addr)) error {
	tracer, flush, err := s.Tracing.tracer(ctx, logger)
	if err != nil {
		return err
	}
	defer flush()
	n, err := prepare(s, logger, tracer) //nolint:contextcheck // its parts run until close
	if err != nil {
		return err
	}
	defer n.close()
	on, err := listen(ctx, s)
	if err != nil {
		return err
	}
	logger.Info("node started", slog.String("listen", on.public.Addr().String()), slog.String("admin", s.Admin.Listen),
		slog.String("ext_authz", s.ExtAuthz.Listen), slog.String("version", version()))
	if started != nil {
		started(n, on.public.Addr())
	}
	if err := n.run(ctx, on); err != nil {
		return err
	}
	logger.Info("node stopped")
	return nil
}

// listeners are the open listeners of a node. A listener without an address in the settings is nil.
type listeners struct{ public, admin, extAuthz net.Listener }

// listen opens all listeners of the settings, or none.
func listen(ctx context.Context, s *settings) (on listeners, err error) {
	var c net.ListenConfig
	for _, l := range []struct {
		key, address string
		listener     *net.Listener
	}{
		{"listen", s.Gateway.Listen, &on.public},
		{"admin.listen", s.Admin.Listen, &on.admin},
		{"ext_authz.listen", s.ExtAuthz.Listen, &on.extAuthz},
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
	for _, l := range []net.Listener{on.public, on.admin, on.extAuthz} {
		if l != nil {
			_ = l.Close()
		}
	}
}
