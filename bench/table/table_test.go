package table_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/bench/peers"
	"usher/bench/result"
	"usher/bench/table"
)

// A node's settings name its addresses so.
var addressRE = regexp.MustCompile(`listen: "([^"]+)"`)

// beOpen is a program in Usher's place that serves anybody. It ends when it is killed.
func beOpen(args []string) {
	settings, err := os.ReadFile(args[len(args)-1])
	if err != nil {
		panic(err)
	}
	anybody := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "#EXTM3U\n") })
	for _, address := range addressRE.FindAllSubmatch(settings, -1) {
		go func() { panic(http.ListenAndServe(string(address[1]), anybody)) }()
	}
	select {}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		beOpen(os.Args)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// TestRun_EveryRow measures all rows for a moment, with real servers. Its figures mean nothing; that there are any does.
func TestRun_EveryRow(t *testing.T) {
	t.Parallel()
	o := table.DefaultOptions().Quick()
	o.Length, o.Warm, o.Sessions, o.Hold = 200*time.Millisecond, 50*time.Millisecond, 3000, 2*time.Second
	// The benchmark of the look-up has a test of its own: go test builds it anew here.
	o.Only = slices.DeleteFunc(table.Rows(), func(key string) bool { return key == "lookup" })
	var lines []string
	o.Progress = func(line string) { lines = append(lines, line) }
	var err error
	if o.Usher, err = table.FindUsher(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	got, err := table.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Lines) < len(o.Only)+4 { // the two rows on sessions make three lines each, and the generator makes two beside wrk
		t.Errorf("%d lines of %d rows", len(got.Lines), len(o.Only))
	}
	for _, l := range got.Lines {
		if l.Work == "" || l.Goal == "" || l.Peers == "" || l.Usher == "" || l.Ratio == "" {
			t.Errorf("a field is empty: %+v", l)
		}
		if strings.Contains(l.Usher, "failed") || strings.Contains(l.Usher, "NaN") {
			t.Errorf("%s: %s", l.Work, l.Usher)
		}
	}
	for _, key := range o.Only {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, key) }) && key != "generator" {
			t.Errorf("no progress on row %s", key)
		}
	}
	if notes := strings.Join(got.Notes, "\n"); strings.Count(notes, "█ ") != len([]string{"1,000", "3,000"}) {
		t.Errorf("want a bar for 1,000 and for 3,000 sessions:\n%s", notes)
	}
	if got.Host.CPUs == 0 || got.Host.Memory == 0 {
		t.Errorf("host %+v", got.Host)
	}
}

// TestRun_Interrupted_RowsSoFar interrupts a row behind another one.
func TestRun_Interrupted_RowsSoFar(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := table.DefaultOptions().Quick()
	o.Length, o.Warm, o.Only = 200*time.Millisecond, 50*time.Millisecond, []string{"auth", "calls"}
	o.Progress = func(line string) {
		if strings.HasPrefix(line, "calls") {
			cancel()
		}
	}
	var err error
	if o.Usher, err = table.FindUsher(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	got, err := table.Run(ctx, o)
	if !errors.Is(err, context.Canceled) || got == nil || len(got.Lines) == 0 || got.Lines[0].Usher == "" {
		t.Errorf("%+v, %v; want the row that was measured, and that the run was interrupted", got, err)
	}
}

func TestTable_WriteMarkdown(t *testing.T) {
	t.Parallel()
	tab := table.Table{
		Host: result.Host{CPUs: 2, CPU: "a CPU", Memory: 4 << 30, System: "linux 6", Go: "go1.26"},
		Lines: []table.Line{
			{Work: "playlists", Goal: "≥ 1.5", Peers: "nginx-auth 1", Usher: "2", Ratio: "**2.00**", Met: true},
			{Work: "idle", Goal: "≤ 6 kB", Peers: "–", Usher: "19 kB", Ratio: "–"},
		},
		Notes: []string{"The machine was shared."},
	}
	var text strings.Builder
	if err := tab.WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	const want = `| work, ratios in one run | goal | peers | Usher | Usher ÷ nginx-auth (range of rounds) | met |
|---|---|---|---|---|---|
| playlists | ≥ 1.5 | nginx-auth 1 | 2 | **2.00** | yes |
| idle | ≤ 6 kB | – | 19 kB | – | no |

Measured on 2 CPUs (a CPU), 4 GiB, linux 6, go1.26. Load, servers, origin and middleware share them, on loopback.
The machine was shared.
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}

func TestOptions_Validate(t *testing.T) {
	t.Parallel()
	if err := table.DefaultOptions().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	if err := table.DefaultOptions().Quick().Validate(); err != nil {
		t.Errorf("the quick form: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*table.Options)
		want   string
	}{
		"an unknown row":  {func(o *table.Options) { o.Only = []string{"segmnts"} }, `"segmnts", want one of playlists,`},
		"no rounds":       {func(o *table.Options) { o.Rounds = 0 }, "rounds: 0"},
		"no length":       {func(o *table.Options) { o.Length = 0 }, "length: 0s"},
		"no hold":         {func(o *table.Options) { o.Hold = 0 }, "hold: 0s"},
		"too few to tell": {func(o *table.Options) { o.Sessions = 10 }, "sessions: 10"},
	} {
		o := table.DefaultOptions()
		c.change(&o)
		if _, err := table.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestRows_Readme_ListsAll has the keys of --only in README.md as they are.
func TestRows_Readme_ListsAll(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := "`" + strings.Join(table.Rows(), "` `") + "`"; !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want+". ") {
		t.Errorf("README.md does not have %s", want)
	}
}

func TestRun_NoUsher_Error(t *testing.T) {
	t.Parallel()
	o := table.DefaultOptions().Quick()
	o.Usher, o.Only = "/nonexistent", []string{"calls"}
	if _, err := table.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("%v, want the program's name", err)
	}
}

func TestRun_ServerRefusesNobody_Error(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := table.DefaultOptions().Quick()
	o.Usher, o.Only = self, []string{"auth"}
	if _, err := table.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "serves a viewer whom the middleware refuses") {
		t.Errorf("%v, want that its figures would be of other work", err)
	}
}

func TestRun_NoYardstick_NamesPackage(t *testing.T) {
	t.Setenv("PATH", "")
	if _, err := table.Run(t.Context(), table.DefaultOptions()); !errors.Is(err, peers.ErrMissing) {
		t.Errorf("%v, want %v", err, peers.ErrMissing)
	}
}

func TestFindUsher_OutsideSource_Error(t *testing.T) {
	t.Chdir("/")
	t.Setenv("PATH", "")
	if _, err := table.FindUsher(t.Context(), t.TempDir()); !errors.Is(err, table.ErrNoUsher) {
		t.Errorf("%v, want %v", err, table.ErrNoUsher)
	}
}
