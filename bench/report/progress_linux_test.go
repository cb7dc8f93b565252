package report_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/bench/record"
	"usher/bench/report"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a text with that of a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", path, diff)
	}
}

// snapshots returns three seconds of a run: quiet, with faults, and when one has ended.
func snapshots() []record.Snapshot {
	quiet := record.Snapshot{Elapsed: 11 * time.Second, Values: map[string]float64{
		"viewers.alive": 1234, "openings.planned": 50, "openings.started": 49.5, "middleware.calls": 45,
		"requests.opening": 49.5, "latency.p50.opening": 0.0012, "latency.p99.opening": 0.0123, "latency.max.opening": 0.0345,
		"requests.playlist": 18500, "latency.p50.playlist": 0.000321, "latency.p99.playlist": 0.027, "latency.max.playlist": 1.234,
		"requests.multivariant": 0, "errors.playlist": 0, "decisions.backend": 40, "decisions.ticket": 5, "decisions.cached": 0,
		"sessions.allowed": 1200, "sessions.opened": 50, "sessions.node1": 600, "sessions.node2": 634,
		"cpu.node1": 0.4, "cpu.generator": 0.25, "memory.node1": 120e6, "memory.generator": 52e6,
	}}
	broken := quiet
	broken.Elapsed = 12 * time.Second
	broken.Failures = map[string]float64{"timeout": 1.25, "status 503": 12}
	broken.Faults = []string{"middleware hangs", "node 2 killed", "node 2 killed"}
	mended := quiet
	mended.Elapsed = 13 * time.Second
	mended.Failures = map[string]float64{"status 503": 0.5}
	mended.Faults = []string{"node 2 killed"}
	return []record.Snapshot{quiet, broken, mended}
}

// TestProgress_NoTerminal_Lines holds for a file, and for a terminal that cannot move its cursor.
func TestProgress_NoTerminal_Lines(t *testing.T) {
	show := func(out *os.File) {
		p := report.NewProgress(out, time.Minute)
		p.Begin("usher, round 1")
		for _, s := range snapshots() {
			p.Show(s)
		}
		p.End()
		_, _ = fmt.Fprintln(p, "report: outage.html")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	show(file)
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "progress-lines.txt", string(got))
	for _, terminal := range []string{"dumb", ""} {
		t.Setenv("TERM", terminal)
		if got := openTerminal(t, 80, 24).after(show); strings.ReplaceAll(got, "\r\n", "\n") != readGolden(t) {
			t.Errorf("TERM=%q: %q, want plain lines", terminal, got)
		}
	}
}

func readGolden(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/progress-lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestProgress_Terminal_OneBlock shows what three refreshes leave on terminals of several sizes.
func TestProgress_Terminal_OneBlock(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	for _, size := range []struct{ columns, rows int }{{100, 30}, {80, 24}, {40, 24}, {80, 6}, {2, 2}, {0, 0}} {
		t.Run(fmt.Sprintf("%d columns, %d rows", size.columns, size.rows), func(t *testing.T) {
			terminal := openTerminal(t, size.columns, size.rows)
			text := terminal.after(func(out *os.File) {
				p := report.NewProgress(out, time.Minute)
				p.Begin("usher, round 1")
				for i, s := range snapshots() {
					p.Show(s)
					_, _ = fmt.Fprintf(p, "note %d\n", i+1)
				}
				p.End()
				_, _ = fmt.Fprintln(p, "report: outage.html")
			})
			screen := terminal.screen(text)
			if screen.wraps > 0 && size.columns > 20 {
				t.Errorf("%d lines wrap", screen.wraps)
			}
			if size.columns >= 40 {
				golden(t, fmt.Sprintf("progress-%dx%d.txt", size.columns, size.rows), screen.String())
			}
		})
	}
}

// TestProgress_ConcurrentNotes_OneBlock writes notes while the block is refreshed.
func TestProgress_ConcurrentNotes_OneBlock(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal := openTerminal(t, 80, 100)
	const writers, each = 3, 20
	got := terminal.screen(terminal.after(func(out *os.File) {
		p := report.NewProgress(out, time.Minute)
		var writing sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				for range each {
					_, _ = fmt.Fprintf(p, "note of %d\n", i)
					p.Show(snapshots()[i])
				}
			})
		}
		writing.Wait()
	})).String()
	if notes, block, _ := strings.Cut(got, "of 1m0s"); strings.Count(notes, "note of ") != writers*each || strings.Count(block, "\n") > 13 {
		t.Errorf("want the notes, and a block below them; got\n%s", got)
	}
}

// TestProgress_NextMeasurement_ReplacesBlock keeps the titles of both.
func TestProgress_NextMeasurement_ReplacesBlock(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal := openTerminal(t, 80, 24)
	got := terminal.screen(terminal.after(func(out *os.File) {
		p := report.NewProgress(out, time.Minute)
		p.Begin("usher, round 1")
		p.Show(snapshots()[0])
		p.Begin("nginx-auth, round 1")
	})).String()
	if want := "usher, round 1\nnginx-auth, round 1\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestProgress_TerminalNarrowed_OneBlock makes a terminal narrower, which wraps the lines of the block.
func TestProgress_TerminalNarrowed_OneBlock(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal := openTerminal(t, 80, 40)
	parts := strings.SplitAfter(terminal.after(func(out *os.File) {
		p := report.NewProgress(out, time.Minute)
		p.Show(snapshots()[1])
		terminal.resize(t, 30, 40)
		_, _ = out.WriteString("\x00") // where it was
		p.Show(snapshots()[1])
	}), "\x00")
	screen := terminal.screen("")
	screen.columns = 80
	screen.write(strings.TrimSuffix(parts[0], "\x00"))
	screen.narrow(30)
	screen.write(parts[1])
	if got := screen.String(); strings.Count(got, "12s of 1m0s") != 1 || strings.Count(got, "memory MB") != 1 {
		t.Errorf("want one block, got\n%s", got)
	}
}

// TestProgress_Colours are there unless NO_COLOR is set.
func TestProgress_Colours(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, noColour := range []string{"", "1"} {
		t.Setenv("NO_COLOR", noColour)
		got := openTerminal(t, 80, 24).after(func(out *os.File) { report.NewProgress(out, time.Minute).Show(snapshots()[1]) })
		isColoured := strings.Contains(got, "\x1b[31merrors/s    status 503 12, timeout 1.3\x1b[0m\r\n")
		if hasControl := strings.Contains(got, "\x1b"); isColoured != (noColour == "") || hasControl != isColoured {
			t.Errorf("NO_COLOR=%q: %q", noColour, got)
		}
	}
}
