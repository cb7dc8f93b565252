package main

import (
	"context"
	"errors"
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

// serve runs a node on the settings' listener. started, if not nil, is called once it listens.
func serve(ctx context.Context, s *settings, logger *slog.Logger, started func(*node, net.Addr)) (err error) {
	tracer, flush, err := s.Tracing.tracer(ctx)
	if err != nil {
		return err
	}
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushPatience)
		defer cancel()
		err = errors.Join(err, flush(late))
	}()
	n, err := newNode(s, logger, tracer)
	if err != nil {
		return err
	}
	defer n.close()
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", s.Gateway.Listen)
	if err != nil {
		return fmt.Errorf("listen=%s: %w", s.Gateway.Listen, err)
	}
	logger.Info("serving", slog.String("listen", listener.Addr().String()),
		slog.String("admin", s.Admin.Listen), slog.String("version", version()))
	if started != nil {
		started(n, listener.Addr())
	}
	if err := n.run(ctx, listener); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}
