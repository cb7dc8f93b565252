package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httprequest"
	"usher/backends/setting"
	"usher/bench/stage"
	"usher/gateway"
)

// demoCommand runs an origin, a middleware and a gateway in one process.
type demoCommand struct {
	Listen     string `help:"The address on which the gateway and the player page listen." default:"127.0.0.1:8080"`
	Middleware string `help:"The middleware's mode at the start: healthy, refuse, hang, error or any other mode of the scripted middleware." default:"healthy"`
	OnFailure  string `help:"The outage policy: what viewers get while the middleware does not answer." enum:"allow,keep,deny" default:"allow"`
	Verbose    bool   `help:"Print the gateway's log." short:"v"`
}

// The demo's times are short: what takes minutes in production takes seconds here.
const (
	demoValidity           = 6 * time.Second
	demoMinRecheckInterval = 2 * time.Second
	demoDenialTTL          = 5 * time.Second
	demoOpenDuration       = 2 * time.Second
	demoKickDuration       = 10 * time.Second
)

// Run runs the demo until a signal.
func (c demoCommand) Run(r runtime) error {
	d, err := newDemo(c)
	if err != nil {
		return err
	}
	defer d.close()
	logger := slog.New(slog.DiscardHandler)
	if c.Verbose {
		logger, _ = logSettings{Level: logLevel(slog.LevelDebug), Format: "text"}.newLogger(r.err)
	}
	return serve(r.ctx, d.settings, logger, func(n *node, at net.Addr) {
		d.mount(n)
		d.printUsage(r.out, at)
		go d.recordEvents(r.ctx)
		go d.readCommands(r.ctx, os.Stdin)
	})
}

// demo is what surrounds the demo's node: an origin, a middleware and the player page.
type demo struct {
	settings   *settings
	middleware *backendtest.Server
	origin     *http.Server
	node       *node
	events     eventLog
	names      sessionNames
}

// newDemo starts the origin and the middleware on ports of their own.
func newDemo(c demoCommand) (*demo, error) {
	d := &demo{middleware: backendtest.New(backendtest.Config{
		Address: "127.0.0.1:0",
		Users: map[string]backendtest.User{
			"alice": {ID: "1", Name: "alice"}, "bob": {ID: "2", Name: "bob"}, "carol": {ID: "3", Name: "carol"},
		},
	})}
	if err := d.middleware.Start(); err != nil {
		return nil, err
	}
	mode, err := demoMode(c.Middleware)
	if err == nil {
		err = d.middleware.SetMode(mode)
	}
	if err != nil {
		d.middleware.Close()
		return nil, fmt.Errorf("--middleware=%s: %w", c.Middleware, err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		d.middleware.Close()
		return nil, err
	}
	d.origin = &http.Server{Handler: stage.NewOrigin(stage.Config{}), ReadHeaderTimeout: time.Second}
	go func() { _ = d.origin.Serve(listener) }()
	d.settings, err = d.makeSettings(c, "http://"+listener.Addr().String())
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *demo) close() {
	_ = d.origin.Close()
	d.middleware.Close()
}

// makeSettings returns the settings of a node between origin and middleware, with random secrets.
func (d *demo) makeSettings(c demoCommand, origin string) (*settings, error) {
	s := defaultSettings()
	s.Gateway.Listen = c.Listen
	s.Gateway.Identity.Secret = randomSecret()
	s.Gateway.Tickets.Keys = []setting.Key{{ID: "demo", Secret: randomSecret()}}
	s.Gateway.Origins = map[string]*gateway.OriginConfig{"stage": {URL: origin}}
	for _, path := range []string{"/play/{channel}/*", "/single/{channel}/*", "/ll/{channel}/*"} {
		s.Gateway.Routes = append(s.Gateway.Routes, gateway.RouteConfig{Path: path, Origin: "stage", Backend: "middleware"})
	}
	s.Gateway.Drain.ReadinessDelay = 0
	s.Gateway.Drain.Timeout = time.Second
	s.Sessions.Recheck.Min = demoMinRecheckInterval
	s.Sessions.DenialTTL = demoDenialTTL
	s.Sessions.KickDuration = demoKickDuration
	s.Admin.Token = randomSecret() // without a listener: the page alone uses the API
	b := new(backendSettings)
	b.SetKind("httprequest", "")
	a := b.Settings.(*settingsOf[remoteSettings, httprequest.Config]) //nolint:forcetypeassert // SetKind made it
	a.Common.Base.Validity = demoValidity
	a.Common.Chain.Breaker.OpenDuration = demoOpenDuration
	if err := a.Common.Chain.OnFailure.UnmarshalText([]byte(c.OnFailure)); err != nil {
		return nil, fmt.Errorf("--on-failure=%s: %w", c.OnFailure, err)
	}
	a.Own.HTTP.Address = d.middleware.URL() + "/check"
	s.Backends = map[string]*backendSettings{"middleware": b}
	return s, nil
}

func randomSecret() setting.Secret {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	return setting.Secret(hex.EncodeToString(raw[:]))
}

// demoMode parses a mode of the middleware; "error" means status 500.
func demoMode(text string) (backendtest.Mode, error) {
	if text == "error" {
		return backendtest.Status(http.StatusInternalServerError), nil
	}
	return backendtest.ParseMode(text)
}

func (d *demo) modeName() string {
	if m := d.middleware.Mode(); m == backendtest.Status(http.StatusInternalServerError) {
		return "error"
	}
	return d.middleware.Mode().String()
}

func (d *demo) setMode(text string) error {
	mode, err := demoMode(text)
	if err != nil {
		return err
	}
	return d.middleware.SetMode(mode)
}

// printUsage prints what to try.
func (d *demo) printUsage(w io.Writer, at net.Addr) {
	base := "http://" + at.String()
	_, _ = fmt.Fprintf(w, `Usher demo: a live HLS origin, a middleware and a gateway in this process.

  watch     %[1]s/
  player    ffplay '%[1]s/play/a001/index.m3u8?token=alice'
  200       curl -i '%[1]s/play/a001/index.m3u8?token=alice'
  403       curl -i '%[1]s/play/a001/index.m3u8?token=mallory'

Stop the middleware and see that viewers keep playing; start it again and see which of them are denied:
  stop      curl -d '{"mode":"refuse"}'  %[1]s/middleware      or type k and Enter here
  hang      curl -d '{"mode":"hang"}'    %[1]s/middleware      or type h and Enter
  error     curl -d '{"mode":"error"}'   %[1]s/middleware      or type e and Enter
  start     curl -d '{"mode":"healthy"}' %[1]s/middleware      or type r and Enter
%[2]s
Ctrl-C ends the demo.
`, base, d.outageAdvice())
}

// outageAdvice says what the outage policy does to a viewer who may not watch.
func (d *demo) outageAdvice() string {
	switch d.node.current.Load().chains["middleware"].FailOpen.Policy() {
	case backends.PolicyAllow:
		return fmt.Sprintf("While it is stopped mallory is admitted, unverified; once it answers again mallory is denied within %v.", demoValidity)
	case backends.PolicyKeep:
		return "While it is stopped viewers keep watching, and new viewers get 503."
	default:
		return fmt.Sprintf("While it is stopped viewers are denied within %v, and new viewers at once.", demoValidity)
	}
}

// readCommands reads one-letter commands from a terminal.
func (d *demo) readCommands(ctx context.Context, in io.Reader) {
	modes := map[string]string{"k": "refuse", "h": "hang", "e": "error", "r": "healthy"}
	for lines := bufio.NewScanner(in); lines.Scan() && ctx.Err() == nil; {
		if mode, known := modes[strings.TrimSpace(lines.Text())]; known {
			if err := d.setMode(mode); err != nil {
				d.events.add("middleware mode not changed: " + err.Error())
			}
		}
	}
}

// pollInterval is how often the demo looks for changes.
const pollInterval = 200 * time.Millisecond

// recordEvents records changes of the middleware, the breaker and the sessions for the page.
func (d *demo) recordEvents(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var seen changes
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			seen.record(d.status(), &d.events)
		}
	}
}
