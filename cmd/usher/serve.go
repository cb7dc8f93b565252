package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"usher/cluster/redisclient"
	"usher/cmd/usher/config"
	"usher/cmd/usher/systemd"
	"usher/gateway/memory"
)

type serveCommand struct{ fileFlag }

// Run runs a node until a signal ends it.
func (c serveCommand) Run(r runtime) error { return c.run(r, nil) }

// run runs a node until r ends. It calls started, if not nil, once the node listens.
func (c serveCommand) run(r runtime, started func(*node, net.Addr)) error {
	s, source, err := c.load()
	if err != nil {
		return err
	}
	logger, level := s.Log.newLogger(r.err)
	redisclient.LogTo(logger)
	logRisks(logger, source)
	limitMemory(logger, s)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	err = serve(r.ctx, s, logger, func(n *node, at net.Addr) {
		n.logLevel, n.reloads.load, n.reloads.signals = level, c.load, hangups
		n.reloads.tried.settings, n.reloads.applied = s, make(chan struct{}, 1)
		if started != nil {
			started(n, at)
		}
	})
	if unusable, ok := errors.AsType[unusableSettings](err); ok {
		return source.Explain(unusable.error)
	}
	return err
}

// limitMemory tells the collector how much memory there is.
func limitMemory(logger *slog.Logger, s *settings) {
	limit, err := memory.SetLimit()
	if err != nil {
		logger.Warn("memory limit unknown, new sessions are not shed when memory is short; set GOMEMLIMIT", slog.Any("error", err))
		return
	}
	logger.Info("memory limit", slog.Int64("limit_bytes", limit), slog.Int("memory_high_water_percent", s.Gateway.Limits.Memory.HighWater))
	if cache := int64(s.Cache.MaxSize); limit > 0 && cache > limit/2 {
		logger.Warn("cache.max_size is more than half of the memory limit, which leaves little for sessions; lower it or add memory",
			slog.Int64("cache_max_size", cache), slog.Int64("limit_bytes", limit))
	}
}

// logRisks logs the warnings about settings.
func logRisks(logger *slog.Logger, source *config.Source) {
	for _, warning := range source.Warnings() {
		logger.Warn("setting is risky", slog.String("setting", warning.Path), slog.String("at", warning.Position()),
			slog.String("risk", warning.Message))
	}
}

// unusableSettings is what the machine says against the settings. Each message begins with the setting.
type unusableSettings struct{ error }

// Unwrap returns the messages.
func (u unusableSettings) Unwrap() error { return u.error }

// prepare builds a node that can listen at once, and a function that ends it. It checks whatever of the settings can be
// checked only on the machine, such as files. All errors begin with the setting, whose file the caller names.
func prepare(ctx context.Context, s *settings, logger *slog.Logger) (*node, func(), error) {
	// The certificates are read before a load balancer can send the first viewer.
	errs := []error{s.checkCertificates(), s.Admin.Audit.Check(), s.canListen(ctx)}
	tracer, dropped, flush, traceErr := s.Tracing.tracer(ctx, logger, s.Cluster.NodeName)
	n, err := newNode(s, logger, tracer) //nolint:contextcheck // its parts run until close
	end := func() {                      //nolint:contextcheck // what is left is delivered after the context has ended
		if n != nil {
			n.close()
		}
		flush()
	}
	if err := errors.Join(append(errs, traceErr, err)...); err != nil {
		end()
		return nil, nil, unusableSettings{err}
	}
	n.droppedSpans = dropped
	return n, end, nil
}

// checkCertificates returns why the listeners' certificates cannot be used, or nil.
func (s *settings) checkCertificates() error {
	err := s.ExtAuthz.TLS.Check()
	if err != nil {
		err = fmt.Errorf("ext_authz.%w", err)
	}
	return errors.Join(s.Gateway.TLS.Check(), err)
}

// serve runs a node until ctx ends. It calls started, if not nil, once the node listens.
func serve(ctx context.Context, s *settings, logger *slog.Logger, started func(*node, net.Addr)) error {
	n, end, err := prepare(ctx, s, logger)
	if err != nil {
		return err
	}
	defer end()
	on, err := listen(ctx, s)
	if err != nil {
		return err
	}
	logger.Info("node started", slog.String("listen", on.public.Addr().String()), slog.String("admin", s.Admin.Listen),
		slog.String("ext_authz", s.ExtAuthz.Listen), slog.String("version", version()))
	if started != nil {
		started(n, on.public.Addr())
	}
	n.notifier = systemd.NewNotifier(logger)
	defer n.tellSystemd(ctx)()
	if err := n.run(ctx, on); err != nil {
		return err
	}
	logger.Info("node stopped")
	return nil
}

// drainMargin is what the end of a node takes besides the drain: the last records, reports to Redis, and traces.
const drainMargin = 15 * time.Second

// tellSystemd tells systemd when the node serves, that it lives, and when it drains. The caller calls the returned function when
// the node has ended.
func (n *node) tellSystemd(ctx context.Context) (end func()) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	all.Go(func() { n.notifier.RunWatchdog(life, func() { n.viewerCount("") }) }) // which takes the registry's locks
	all.Go(func() {
		select {
		case <-n.server.Serving():
			n.notifier.Ready(n.status())
		case <-life.Done():
			return
		}
		select {
		case <-ctx.Done():
			drain := n.current.Load().settings.Gateway.Drain
			n.notifier.Stopping(drain.ReadinessDelay + drain.Timeout + drainMargin)
		case <-life.Done():
		}
	})
	return func() {
		stop()
		all.Wait()
	}
}

// status is what systemctl shows of the node.
func (n *node) status() string {
	return fmt.Sprintf("serving at %s, version %s", n.current.Load().settings.Gateway.Listen, version())
}

// listeners are the open listeners of a node. A listener without an address in the settings is nil.
type listeners struct{ public, admin, extAuthz net.Listener }

// listenerSetting is the setting of one listener.
type listenerSetting struct {
	key, address string
	// socket is what systemd calls the listener, if it holds that.
	socket   string
	listener *net.Listener
}

// listeners returns those that have an address, and where they are kept.
func (s *settings) listeners(on *listeners) []listenerSetting {
	return slices.DeleteFunc([]listenerSetting{
		{"listen", s.Gateway.Listen, "public", &on.public},
		{"admin.listen", s.Admin.Listen, "admin", &on.admin},
		{"ext_authz.listen", s.ExtAuthz.Listen, "ext_authz", &on.extAuthz},
	}, func(l listenerSetting) bool { return l.address == "" })
}

// validateListeners finds two listeners that want one port of one address.
func (s *settings) validateListeners() error {
	var errs []error
	all := s.listeners(&listeners{})
	for i, l := range all {
		for _, other := range all[:i] {
			if overlaps(l.address, other.address) {
				errs = append(errs, fmt.Errorf("%s: %q is taken by %s: %q; want another port", l.key, l.address, other.key, other.address))
			}
		}
	}
	return errors.Join(errs...)
}

// overlaps reports whether two listeners want one port of one address. An address that cannot be read was reported.
func overlaps(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portNumber(portA) != portNumber(portB) || portNumber(portA) == 0 {
		return false
	}
	ipA, ipB := listenAddress(hostA), listenAddress(hostB)
	switch {
	case ipA.IsUnspecified() && ipB.IsUnspecified(), ipA == netip.IPv6Unspecified(), ipB == netip.IPv6Unspecified():
		return true // the IPv6 one takes IPv4 too
	case !ipA.IsValid() || !ipB.IsValid(): // a host name, which the network alone can tell
		return strings.EqualFold(hostA, hostB)
	case ipA.IsUnspecified(), ipB.IsUnspecified():
		return ipA.Is4() == ipB.Is4()
	}
	return ipA == ipB
}

// portNumber returns the number of a port, which may be a service's name, or 0.
func portNumber(port string) int {
	n, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port)
	if err != nil {
		return 0
	}
	return n
}

// listenAddress returns the address of a listener's host: all of the machine for none, invalid for a name.
func listenAddress(host string) netip.Addr {
	switch host {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}

// canListen finds names that have no address, and addresses that are not this machine's, by a free port of theirs. The
// port itself may be a running node's, and the caller may lack the node's right to it.
func (s *settings) canListen(ctx context.Context) error {
	var errs []error
	for _, l := range s.listeners(&listeners{}) {
		host, _, _ := net.SplitHostPort(l.address)
		var c net.ListenConfig
		free, err := c.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: %w", l.key, l.address, err))
			continue
		}
		_ = free.Close()
	}
	return errors.Join(errs...)
}

// listen opens all listeners of the settings, or none. It takes those that systemd holds.
func listen(ctx context.Context, s *settings) (on listeners, err error) {
	defer func() {
		if err != nil {
			on.close()
		}
	}()
	inherited, err := systemd.Inherited()
	if err != nil {
		return on, err
	}
	defer inherited.Close()
	all := s.listeners(&on)
	for _, l := range all {
		if *l.listener, err = inherited.Take(ctx, l.socket, l.key, l.address); err != nil {
			return on, err
		}
	}
	if err := inherited.Unused(); err != nil { // which may keep others from listening
		return on, err
	}
	var c net.ListenConfig
	for _, l := range all {
		if *l.listener != nil {
			continue
		}
		if *l.listener, err = c.Listen(ctx, "tcp", l.address); err != nil {
			return on, fmt.Errorf("%s=%s: %w", l.key, l.address, err)
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
