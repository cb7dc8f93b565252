package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"usher/backends/backendtest"
	"usher/bench/load"
	"usher/bench/peers"
	"usher/bench/process"
	"usher/bench/stage"
)

// The origin's media: segments of a megabyte, and playlists of about a kilobyte.
const (
	segmentSize   = 1_000_000
	segmentWindow = 24
)

// tokens is how many viewers the rows on known sessions have.
const tokens = 1000

// bed has what all rows share: origin and middleware.
type bed struct {
	Options
	origin    *http.Server
	originURL string
	// folder has copies of media, for the peer that serves files.
	folder     string
	middleware *backendtest.Server
	notes      []string
	mostOthers float64
	serial     atomic.Uint64 // of new viewers
}

func newBed(ctx context.Context, o Options) (*bed, error) {
	b := &bed{Options: o}
	b.middleware = backendtest.New(backendtest.Config{
		Address: "127.0.0.1:0",
		Lookup:  userOf,
	})
	if err := b.middleware.Start(); err != nil {
		return nil, err
	}
	media := stage.NewOrigin(stage.Config{Window: segmentWindow, StuffTo: segmentSize})
	b.origin = &http.Server{Handler: media, ReadHeaderTimeout: time.Minute}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		b.middleware.Close()
		return nil, err
	}
	b.originURL = "http://" + listener.Addr().String()
	go func() { _ = b.origin.Serve(listener) }() // close ends it
	if err := b.copyMedia(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// fixedSegment is a segment in the folder of the peer that serves files.
const fixedSegment = "/single/ch1/segment.ts"

// copyMedia keeps the playlist as it is now, and a segment, in files.
func (b *bed) copyMedia(ctx context.Context) (err error) {
	if b.folder, err = os.MkdirTemp("", "usher-table-"); err != nil {
		return err
	}
	text, err := fetch(ctx, b.originURL+playlist)
	if err != nil {
		return err
	}
	lines := strings.Fields(string(text))
	segment, err := fetch(ctx, b.originURL+path.Dir(playlist)+"/"+lines[len(lines)-1])
	if err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(b.folder, filepath.FromSlash(name)) }
	return errors.Join(os.Chmod(b.folder, 0o755), os.MkdirAll(file(path.Dir(playlist)), 0o755),
		os.WriteFile(file(playlist), text, 0o644), os.WriteFile(file(fixedSegment), segment, 0o644))
}

func (b *bed) close() {
	_ = os.RemoveAll(b.folder)
	_ = b.origin.Close()
	b.middleware.Close()
}

// say reports progress.
func (b *bed) say(format string, args ...any) {
	if b.Progress != nil {
		b.Progress(fmt.Sprintf(format, args...))
	}
}

// note keeps what a reader has to know, once.
func (b *bed) note(text string) {
	if !slices.Contains(b.notes, text) {
		b.notes = append(b.notes, text)
	}
}

// quietEnough is how many cores other processes may take without a word.
const quietEnough = 0.15

func (b *bed) allNotes() []string {
	notes := []string{fmt.Sprintf("Medians of %d rounds of %s.", b.Rounds, b.Length)}
	if b.mostOthers > quietEnough {
		notes = append(notes, fmt.Sprintf("The machine was shared: other processes took up to %.1f cores while a round ran.", b.mostOthers))
	}
	return append(notes, b.notes...)
}

// setting is how a row's servers are set.
type setting struct {
	// validity is how long an answer of the middleware is kept; 0: 30 s.
	validity time.Duration
	// idle is how long a session of Usher lives that is not used; 0: 1 min, the default.
	idle time.Duration
	// recheckRate is how many sessions of Usher are re-checked a second at most; 0: 200, the default.
	recheckRate int
	// yaml has further settings of Usher.
	yaml string
}

// target is a server that runs.
type target struct {
	name    string
	address string // host:port
	pid     int
	// authPath is where edges ask; empty: they cannot.
	authPath string
	// isGuarded says that it asks the middleware.
	isGuarded bool
	// metricsURL is that of a node of Usher.
	metricsURL string
	// request returns the target of a viewer's request for a path.
	request func(path, token string) string
	// died returns an error once the server has ended by itself.
	died  func() error
	close func()
}

// start starts Usher or a peer, and requires it to refuse who is to be refused: else its figures are of other work.
func (b *bed) start(ctx context.Context, name string, s setting) (*target, error) {
	t, err := b.launch(ctx, name, s)
	if err != nil {
		return nil, err
	}
	if _, err := fetch(ctx, "http://"+t.address+t.request(playlist, "bad")); err == nil && t.isGuarded {
		t.close()
		return nil, fmt.Errorf("%s: %w", name, errOpen)
	}
	return t, nil
}

var errOpen = errors.New("it serves a viewer whom the middleware refuses")

func (b *bed) launch(ctx context.Context, name string, s setting) (*target, error) {
	if s.validity == 0 {
		s.validity = 30 * time.Second
	}
	const timeout = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if name == usherName {
		return b.startUsher(ctx, s)
	}
	p, err := peers.Start(ctx, name, peers.Options{
		Origin: b.originURL, Auth: b.middleware.URL() + "/auth", Folder: b.folder, AuthTTL: s.validity,
	})
	if err != nil {
		return nil, err
	}
	return &target{
		name: name, address: strings.TrimPrefix(p.URL, "http://"), pid: p.PID(), authPath: strings.TrimPrefix(p.AuthURL, p.URL),
		isGuarded: p.Asks != peers.Never,
		request:   func(path, token string) string { return strings.TrimPrefix(p.Request(path, token), p.URL) },
		died:      p.Died,
		close:     func() { _ = p.Close() },
	}, nil
}

// startAll starts those servers of a row that are installed.
func (b *bed) startAll(ctx context.Context, names []string, s setting) (all []*target, stop func(), err error) {
	stop = func() {
		for _, t := range all {
			t.close()
		}
	}
	for _, name := range names {
		if name != usherName {
			if _, err := peers.Find(name); err != nil {
				b.note("Left out: " + err.Error() + ".")
				continue
			}
		}
		t, err := b.start(ctx, name, s)
		if err != nil {
			stop()
			return nil, nil, err
		}
		all = append(all, t)
	}
	return all, stop, nil
}

// work returns the requests for a server, and gets it ready for them.
type work func(ctx context.Context, t *target) (func(connection, n int) load.Request, error)

// alternate measures the servers in alternation.
func (b *bed) alternate(ctx context.Context, key string, connections int, all []*target, w work) (*runs, error) {
	r := &runs{samples: make(map[string][]sample)}
	for _, t := range all {
		r.names = append(r.names, t.name)
	}
	for round := range b.Rounds {
		for _, t := range all {
			next, err := w(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			s, err := b.measure(ctx, t, load.Options{Connections: connections, Next: next, Warm: b.Warm, For: b.Length})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			r.samples[t.name] = append(r.samples[t.name], s)
			b.say("%s, round %d of %d, %s: %s/s, p50 %s, p99 %s, %.1f µs of CPU each; generator %.2f cores, others %.2f; failed: %v",
				key, round+1, b.Rounds, t.name, thousands(s.perSecond), milliseconds(s.p50.Seconds()), milliseconds(s.p99.Seconds()),
				s.cpu.Seconds()*1e6, s.generator, s.others, s.failures)
		}
	}
	return r, nil
}

// meter reads what the machine's processes have used.
type meter struct {
	at                       time.Time
	server, harness, machine time.Duration
}

func readMeter(t *target) (m meter, err error) {
	m.at = time.Now()
	if m.server, err = process.CPU(t.pid); err != nil {
		return m, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return m, err
	}
	m.harness = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	m.machine, err = process.Machine()
	return m, err
}

// measure runs a load against a server.
func (b *bed) measure(ctx context.Context, t *target, o load.Options) (sample, error) {
	o.Address = t.address
	var before meter
	var failed error
	r := load.Run(ctx, o, func() { before, failed = readMeter(t) })
	after, err := readMeter(t)
	if err := cmp.Or(failed, err, t.died(), ctx.Err()); err != nil {
		return sample{}, err
	}
	elapsed := after.at.Sub(before.at).Seconds()
	s := sample{
		perSecond: r.PerSecond(), p50: r.Latency.Quantile(0.5), p99: r.Latency.Quantile(0.99), failed: r.Failed(), failures: r.Failures,
		generator: (after.harness - before.harness).Seconds() / elapsed,
	}
	server := after.server - before.server
	s.others = max(0, (after.machine-before.machine-server-after.harness+before.harness).Seconds()/elapsed)
	b.mostOthers = max(b.mostOthers, s.others)
	if all := r.Served + r.Failed(); all > 0 {
		s.cpu = server / time.Duration(all)
	}
	return s, nil
}
