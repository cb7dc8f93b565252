package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"usher/backends"
	"usher/cmd/usher/config"
	"usher/cmd/usher/sessions"
)

// The exit codes.
const (
	exitOK       = 0
	exitNegative = 1
	exitFailed   = 2
)

// commands is the command line.
type commands struct {
	Serve    serveCommand     `cmd:"" help:"Run a node."`
	Demo     demoCommand      `cmd:"" help:"Run an origin, a middleware and a gateway in one process."`
	Check    checkCommand     `cmd:"" help:"Call a configured backend for one viewer, and show request, response and decision."`
	Validate validateCommand  `cmd:"" help:"Check a settings file, and print every problem with its line and column."`
	Sessions sessions.Command `cmd:"" help:"List, kick and ban viewers on all nodes."`
	Health   healthCommand    `cmd:"" help:"Ask a running node whether it is alive, for health checks in a container without a shell."`
	Version  versionCommand   `cmd:"" help:"Print the version and the commit."`
}

// console is where a command writes, and the clock that ages are computed from.
type console struct {
	out, err io.Writer
	now      func() time.Time
}

func main() { os.Exit(run(os.Args[1:], console{out: os.Stdout, err: os.Stderr, now: time.Now})) }

// run parses and runs the command line, and returns the exit code. Tests call it with a console of their own.
func run(args []string, c console) int {
	var cli commands
	parser, err := kong.New(&cli, kong.Name("usher"), kong.Description("An auth gateway for HLS."),
		kong.Writers(c.out, c.err), kong.KindMapper(reflect.String, kong.MapperFunc(decodeText)))
	if err != nil {
		_, _ = fmt.Fprintln(c.err, "BUG:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(markIDs(args))
	if err != nil {
		_, _ = fmt.Fprintf(c.err, "usher: %v\nTry: usher --help\n", err)
		return exitFailed
	}
	ctx, stop := notifyContext()
	defer stop()
	return c.exit(parsed.Run(runtime{ctx, c}, sessions.Runtime{Context: ctx, Out: c.out, Err: c.err, Now: c.now}))
}

// idMark is put before an id of a session that begins with "-", as one in 64 does: kong would take it for flags.
const idMark = " "

// isHyphenID reports whether the text is such an id.
func isHyphenID(text string) bool {
	_, err := backends.ParseSessionID(text)
	return err == nil && strings.HasPrefix(text, "-")
}

// markIDs marks such ids, up to "--", behind which there are no flags.
func markIDs(args []string) []string {
	marked := slices.Clone(args)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if isHyphenID(arg) {
			marked[i] = idMark + arg
		}
	}
	return marked
}

// decodeText decodes an argument, or the value of a flag, without the mark.
func decodeText(c *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := c.Scan.PopValueInto("string", &text); err != nil {
		return err
	}
	if id, isMarked := strings.CutPrefix(text, idMark); isMarked && isHyphenID(id) {
		text = id
	}
	target.SetString(text)
	return nil
}

// exit prints the error and returns the exit code.
func (c console) exit(err error) int {
	var problems config.Problems
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, sessions.ErrNegative):
		return exitNegative
	case errors.As(err, &problems):
		_, _ = fmt.Fprintln(c.err, problems) // each line begins with file:line:column, as editors expect
	default:
		_, _ = fmt.Fprintln(c.err, "usher:", err)
	}
	return exitFailed
}

// runtime is what every command gets.
type runtime struct {
	ctx context.Context //nolint:containedctx // kong passes values to Run, and this one lives as long as the command
	console
}

// notifyContext returns a context that the first SIGTERM or interrupt cancels. The second one ends the process at once.
func notifyContext() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-ctx.Done():
			return
		}
		<-signals
		os.Exit(exitFailed)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

// healthTimeout bounds the request. A node that is alive answers at once.
const healthTimeout = 5 * time.Second

type healthCommand struct {
	Admin string `help:"The URL of the node's admin listener." default:"http://127.0.0.1:8081"`
}

// Run requests /healthz, and fails unless the node says that it is alive.
func (c healthCommand) Run(r runtime) error {
	ctx, cancel := context.WithTimeout(r.ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Admin, "/")+"/healthz", http.NoBody)
	if err != nil {
		return fmt.Errorf("--admin=%s: %w", c.Admin, err)
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("--admin=%s: %w", c.Admin, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("--admin=%s: /healthz answers %s", c.Admin, resp.Status)
	}
	_, err = fmt.Fprintln(r.out, "alive")
	return err
}

// release and commit are what deploy/package.sh builds. They are empty in a build by go build, which stamps a checkout's commit.
var release, commit string //nolint:gochecknoglobals // the linker sets them

type versionCommand struct{}

// Run prints the version and the commit, and by what and for what the program was built.
func (versionCommand) Run(r runtime) error {
	_, err := fmt.Fprintf(r.out, "usher %s (commit %s, %s %s/%s)\n",
		version(), cmp.Or(commit, stampedCommit(), "unknown"), goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
	return err
}

// version returns the release, the module's version, or the commit of a build from a checkout.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return cmp.Or(stampedCommit(), info.Main.Version)
}

// stampedCommit returns the commit that go build stamped, with "+changes" if the checkout had any, or nothing.
func stampedCommit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	if revision == "" {
		return ""
	}
	return revision[:min(12, len(revision))] + modified
}
