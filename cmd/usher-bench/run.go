package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"usher/bench/record"
	"usher/bench/report"
	"usher/bench/result"
	"usher/bench/rig"
	"usher/bench/scenario"
	"usher/bench/viewer/edge"
)

// runCmd runs a scenario.
type runCmd struct {
	Scenario string        `arg:"" help:"One of ${scenarios}; or the path of a file of yours."`
	Demo     bool          `help:"Start everything on this machine, as is done without --target: nodes, middleware, origin; one node without redis-server, where the scenario needs no more."`
	For      time.Duration `help:"The length of a measurement. Default: the scenario's." placeholder:"DURATION"`
	Set      []string      `help:"Change a knob; usher-bench list NAME shows them. May be repeated." placeholder:"NAME=VALUE" sep:"none"`
	Usher    string        `help:"The program usher. Empty: the one beside this program, in PATH, or built from the source." placeholder:"PATH"`

	Target     []string `help:"Servers of yours in place of the harness's: base URLs of nodes, of any other HLS server or a CDN." placeholder:"URL"`
	Metrics    []string `help:"Metrics of your nodes of Usher, such as http://node1:9090/metrics." placeholder:"URL"`
	Token      string   `help:"A bearer token for --metrics." env:"USHER_BENCH_METRICS_TOKEN" hidden:""`
	PID        []int    `name:"pid" help:"Processes of yours on this machine to measure." placeholder:"PID"`
	Auth       string   `help:"An auth server of yours, asked as an edge does." placeholder:"URL"`
	Dialect    string   `help:"The dialect for --auth: nginx, traefik, caddy, astra, alta, flussonic or envoy. Default: the scenario's, else nginx." placeholder:"NAME"`
	Middleware string   `help:"Run the harness's middleware on this address for your servers, so that it can fail." placeholder:"ADDRESS"`
	Origin     string   `help:"Run the harness's origin on this address for your servers." placeholder:"ADDRESS"`

	Against []string `help:"Servers to measure in alternation with the first, which is yours or usher: usher, peers such as nginx-auth, URLs of any HLS server such as cdn=https://cdn.example.com/live/{channel}/index.m3u8." placeholder:"[NAME=]URL"`
	Rounds  int      `help:"How often each is measured. Default: 5 with --against, else 1."`
	Out     string   `help:"The folder of the report." default:"." placeholder:"FOLDER"`

	Prometheus string `help:"Serve what is measured on this address while it runs, for Prometheus." placeholder:"ADDRESS"`
}

// errNotKept means that an expectation does not hold.
var errNotKept = errors.New("not all that the scenario expects holds")

// Run runs the scenario, prints what it found, and writes the report.
func (c *runCmd) Run(ctx context.Context) error {
	s, err := c.load()
	if err != nil {
		return err
	}
	o, err := c.options(s)
	if err != nil {
		return err
	}
	if err := checkOut(c.Out); err != nil {
		return err
	}
	if o.RunsUsher() {
		var remove func()
		o.Binary, remove, err = findUsher(ctx, c.Usher)
		defer remove()
		if err != nil {
			return err
		}
	}
	return c.run(ctx, s, o)
}

func (c *runCmd) run(ctx context.Context, s *scenario.Scenario, o scenario.Options) error {
	out := report.NewProgress(os.Stdout, s.For)
	_, _ = fmt.Fprintf(out, "%s: %s\n", s.Name, s.Shows)
	o.Begin = func(target string, round int) {
		out.Begin(fmt.Sprintf("%s, round %d", result.HideCredentials(target), round))
	}
	var latest atomic.Pointer[record.Snapshot]
	latest.Store(new(record.Snapshot))
	o.Show = func(snapshot record.Snapshot) {
		latest.Store(&snapshot)
		out.Show(snapshot)
	}
	stop, err := c.serveMetrics(ctx, func() record.Snapshot { return *latest.Load() })
	if err != nil {
		return err
	}
	defer stop()
	run, err := scenario.Run(ctx, s, o)
	out.End()
	run.Command = commandLine(os.Args)
	run.HideCredentials()
	if len(run.Measurements) > 0 {
		printSummary(out, run)
		err = errors.Join(err, report.PrintRatios(out, run), writeReport(out, c.Out, run))
	}
	if err == nil && len(run.Failed()) > 0 {
		err = errNotKept
	}
	return err
}

// load reads the scenario, and changes what the flags say.
func (c *runCmd) load() (*scenario.Scenario, error) {
	s, err := scenario.Load(c.Scenario)
	if err != nil {
		return nil, err
	}
	if c.For != 0 {
		s.For = c.For
	}
	for _, assignment := range c.Set {
		if err := s.Set(assignment); err != nil {
			return nil, err
		}
	}
	switch {
	case c.Auth != "":
		s.Dialect = cmp.Or(c.Dialect, s.Dialect, string(edge.Nginx))
	case c.Dialect != "":
		return nil, fmt.Errorf("--dialect=%s: is for --auth, which is missing", c.Dialect)
	}
	return s, nil
}

// errFlags is wrapped by an error for flags that exclude each other.
var errFlags = errors.New("does not go together with")

func (c *runCmd) options(s *scenario.Scenario) (o scenario.Options, err error) {
	o = scenario.Options{Binary: c.Usher, Attacker: attacker(), Against: c.Against, Rounds: c.Rounds}
	if len(c.Against) > 0 && c.Rounds == 0 {
		const rounds = 5
		o.Rounds = rounds
	}
	if err := c.checkFlags(); err != nil {
		return o, err
	}
	if c.isExternal() {
		if o.External, err = c.external(); err != nil {
			return o, err
		}
	}
	if !o.RunsUsher() {
		return o, nil
	}
	if err := s.Validate(); err != nil {
		return o, err
	}
	if s.Redis && !rig.HasRedis() {
		return o, c.useOneNode(s)
	}
	return o, nil
}

// useOneNode has the demo run one node where redis-server is missing, unless the scenario needs more.
func (c *runCmd) useOneNode(s *scenario.Scenario) error {
	if !c.Demo {
		return fmt.Errorf("redis: %w", rig.ErrNoRedis)
	}
	s.Redis, s.Nodes = false, 1
	if err := s.Validate(); err != nil {
		return fmt.Errorf("--demo: %w, and %s cannot be run on one node without it: %w", rig.ErrNoRedis, s.Name, err)
	}
	_, _ = fmt.Fprintf(os.Stdout, "%v: the demo runs one node with the memory store\n", rig.ErrNoRedis)
	return nil
}

// isExternal reports whether servers of the operator's are measured.
func (c *runCmd) isExternal() bool { return len(c.Target) > 0 || c.Auth != "" }

// checkFlags reports flags that exclude each other.
func (c *runCmd) checkFlags() error {
	ofExternal := len(c.Metrics) > 0 || len(c.PID) > 0 || c.Middleware != "" || c.Origin != ""
	switch {
	case c.Rounds < 0:
		return fmt.Errorf("--rounds=%d: want at least 1", c.Rounds)
	case !c.isExternal() && ofExternal:
		return errors.New("--metrics, --pid, --middleware and --origin are for servers of yours: give --target or --auth")
	case c.isExternal() && c.Demo:
		return fmt.Errorf("--demo %w --target and --auth", errFlags)
	case c.Auth != "" && len(c.Against) > 0:
		return fmt.Errorf("--against %w --auth", errFlags)
	}
	return nil
}

func (c *runCmd) external() (*rig.External, error) {
	e := &rig.External{
		URLs: c.Target, Metrics: c.Metrics, Token: c.Token, PIDs: c.PID, Middleware: c.Middleware, Origin: c.Origin,
	}
	if c.Auth == "" {
		return e, nil
	}
	if len(c.Target) > 0 {
		return nil, fmt.Errorf("--auth %w --target", errFlags)
	}
	scheme, rest, found := strings.Cut(c.Auth, "://")
	host, path, _ := strings.Cut(rest, "/")
	if !found || host == "" {
		return nil, fmt.Errorf("--auth=%s: want a URL such as http://127.0.0.1:8080/auth", c.Auth)
	}
	e.URLs, e.AuthPath = []string{scheme + "://" + host}, "/"+path
	return e, nil
}

// commandLine returns the command line that repeats the run, but for its credentials.
func commandLine(arguments []string) string {
	shown := []string{filepath.Base(arguments[0])}
	isSecret := false
	for _, argument := range arguments[1:] {
		flag, _, hasValue := strings.Cut(argument, "=")
		switch {
		case isSecret:
			argument = "[hidden]"
		case flag == "--token" && hasValue:
			argument = "--token=[hidden]"
		default:
			argument = result.HideCredentials(argument)
		}
		isSecret = argument == "--token"
		if strings.ContainsAny(argument, " \t'\"$&;|<>*?{}()`\\") {
			argument = "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
		}
		shown = append(shown, argument)
	}
	return strings.Join(shown, " ")
}

// serveMetrics serves what is measured, if an address is given, until stop is called.
func (c *runCmd) serveMetrics(ctx context.Context, latest func() record.Snapshot) (stop func(), err error) {
	if c.Prometheus == "" {
		return func() {}, nil
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", c.Prometheus)
	if err != nil {
		return nil, fmt.Errorf("--prometheus=%s: %w", c.Prometheus, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", report.Prometheus(latest))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return func() { _ = server.Close() }, nil
}

// checkOut makes the folder of the report, and reports one that cannot be written, before anything is measured for it.
func checkOut(folder string) error {
	err := os.MkdirAll(folder, 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(folder, ".usher-bench-*"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("--out=%s: %w", folder, err)
	}
	return nil
}

// writeReport writes the report's files to a folder.
func writeReport(out io.Writer, folder string, run *result.Run) error {
	name := filepath.Join(folder, run.Scenario)
	err := errors.Join(writeFile(name+".json", run.Write), writeFile(name+".html", func(w io.Writer) error { return report.HTML(w, run) }))
	if err != nil {
		return fmt.Errorf("--out=%s: %w", folder, err)
	}
	_, err = fmt.Fprintf(out, "report: %s.html, %s.json\n", name, name)
	return err
}

// writeFile writes a file, in place of one of that name.
func writeFile(name string, write func(w io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
