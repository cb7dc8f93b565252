package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
)

type serveCommand struct{ fileFlag }

// Run runs a node until a signal.
func (c serveCommand) Run(r runtime) error {
	s, err := c.load(r.err)
	if err != nil {
		return err
	}
	return serve(r.ctx, s, s.Log.logger(r.err), nil)
}

// serve runs a node on the settings' listeners. started, if not nil, is called once it listens.
func serve(ctx context.Context, s *settings, logger *slog.Logger, started func(*node, net.Addr)) error {
	tracer, flush, err := s.Tracing.tracer(ctx, logger)
	if err != nil {
		return err
	}
	defer flush()
	n, err := newNode(s, logger, tracer)
	if err != nil {
		return err
	}
	defer n.close()
	// Whatever can fail does so before a balancer may send the first viewer.
	if err := s.Gateway.TLS.Check(); err != nil {
		return err
	}
	public, operator, err := listen(ctx, s)
	if err != nil {
		return err
	}
	logger.Info("serving", slog.String("listen", public.Addr().String()),
		slog.String("admin", s.Admin.Listen), slog.String("version", version()))
	if started != nil {
		started(n, public.Addr())
	}
	if err := n.run(ctx, public, operator); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// listen opens the public listener, and the operator's if there is to be one.
func listen(ctx context.Context, s *settings) (public, operator net.Listener, err error) {
	var c net.ListenConfig
	if public, err = c.Listen(ctx, "tcp", s.Gateway.Listen); err != nil {
		return nil, nil, fmt.Errorf("listen=%s: %w", s.Gateway.Listen, err)
	}
	if s.Admin.Listen == "" {
		return public, nil, nil
	}
	if operator, err = c.Listen(ctx, "tcp", s.Admin.Listen); err != nil {
		_ = public.Close()
		return nil, nil, fmt.Errorf("admin.listen=%s: %w", s.Admin.Listen, err)
	}
	return public, operator, nil
}
