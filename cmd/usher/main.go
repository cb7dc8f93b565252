package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"usher/cmd/usher/config"
)

// The exit codes.
const (
	exitDone  = 0
	exitNo    = 1
	exitCould = 2 // could not
)

// errNo is a command's word that it did what it should and that the answer is no.
var errNo = errors.New("no")

// commands is the command line.
type commands struct {
	Serve    serveCommand    `cmd:"" help:"Run a node."`
	Demo     demoCommand     `cmd:"" help:"Run origin, middleware and gateway in one process: nothing to install."`
	Check    checkCommand    `cmd:"" help:"Ask a configured backend about one viewer, and show what was asked and answered."`
	Validate validateCommand `cmd:"" help:"Check a settings file; name every problem with its line and column."`
	Sessions sessionsCommand `cmd:"" help:"List, kick and ban viewers on all nodes."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

// console is where a command writes, and the clock that it tells ages by.
type console struct {
	out, err io.Writer
	now      func() time.Time
}

func main() { os.Exit(run(os.Args[1:], console{out: os.Stdout, err: os.Stderr, now: time.Now})) }

// run is main with its surroundings given, so that tests can be those.
func run(args []string, c console) int {
	var cli commands
	parser, err := kong.New(&cli, kong.Name("usher"), kong.Description("An auth gateway for HLS."),
		kong.Writers(c.out, c.err))
	if err != nil {
		_, _ = fmt.Fprintln(c.err, "BUG:", err)
		return exitCould
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(c.err, "usher: %v\nTry: usher --help\n", err)
		return exitCould
	}
	ctx, stop := untilSignal()
	defer stop()
	return c.exit(parsed.Run(runtime{ctx, c}))
}

// exit says what went wrong, and which code that is.
func (c console) exit(err error) int {
	var problems config.Problems
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errNo):
		return exitNo
	case errors.As(err, &problems):
		_, _ = fmt.Fprintln(c.err, problems) // each line begins with its place, for editors to jump to
	default:
		_, _ = fmt.Fprintln(c.err, "usher:", err)
	}
	return exitCould
}

// runtime is what every command is given.
type runtime struct {
	ctx context.Context //nolint:containedctx // kong calls Run with values, and this is the one that lives as long
	console
}

// untilSignal gives a context that the first SIGTERM or interrupt ends. The second one ends the process at once.
func untilSignal() (context.Context, func()) {
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
		os.Exit(exitCould)
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel()
	}
}

type versionCommand struct{}

// Run prints the version that the build knows.
func (versionCommand) Run(r runtime) error {
	_, err := fmt.Fprintln(r.out, "usher", version())
	return err
}

// version is the module's, or the commit's of a build from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
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
	if info.Main.Version != "" && info.Main.Version != "(devel)" || revision == "" {
		return info.Main.Version
	}
	return revision[:min(12, len(revision))] + modified
}
