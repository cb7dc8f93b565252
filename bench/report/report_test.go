package report_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"usher/backends/backendtest/testbrowser"
	"usher/bench/record"
	"usher/bench/report"
	"usher/bench/result"
)

// chromium is the browser of all tests.
var chromium testbrowser.Browser

func TestMain(m *testing.M) { os.Exit(chromium.Run(m)) }

// example returns a run with a measurement of each target in each round, each with as many seconds.
func example(rounds, seconds int, targets ...string) *result.Run {
	run := &result.Run{
		Version: result.Version, Scenario: "outage", Description: "The middleware refuses, hangs, is slow, and comes back.",
		Started: time.Date(2026, 6, 11, 20, 0, 0, 0, time.UTC), Command: "usher-bench run outage --demo",
		Host:     result.Host{CPUs: 2, CPU: "AMD EPYC", Memory: 24e9, System: "Linux 6.18", Go: "go1.26.8", Commit: "abc"},
		Settings: map[string]string{"viewers": "1000", "for": "1m"},
	}
	for round := 1; round <= rounds; round++ {
		for i, target := range targets {
			run.Measurements = append(run.Measurements, measurement(target, round, seconds, float64(i+1)))
		}
	}
	return run
}

func measurement(target string, round, seconds int, slow float64) result.Measurement {
	m := result.Measurement{
		Target: target, Round: round, Seconds: float64(max(seconds, 1)), Operations: map[string]*result.Operation{},
		Arrivals: result.Arrivals{Planned: 1000, Started: 1000},
		Counts:   map[string]float64{"middleware.calls": 1234, "free_rides": 7},
		Faults:   []result.Fault{{Name: "middleware refuses", From: float64(seconds) / 4, To: float64(seconds) / 2}},
		Processes: []result.Process{
			{Name: "generator", CPUSeconds: 10, Resident: 50e6}, {Name: "node1", CPUSeconds: 20 * slow, Resident: 120e6},
		},
		Assertions: []result.Assertion{{Text: "errors == 0", Got: "0", Kept: true}, {Text: "p99(playlist) <= 2 * quiet.p99(playlist)", Got: "31 ms, want 20 ms"}},
	}
	for _, name := range []string{result.Opening, result.Playlist, result.Segment} {
		o := &result.Operation{Requests: 1000, Bytes: 1e6, Errors: map[string]uint64{}}
		for i := range 1000 {
			o.Latency.Record(time.Duration(float64(i*i)*slow) * time.Microsecond)
		}
		if name == result.Segment {
			o.Errors["timeout"] = 3
		}
		m.Operations[name] = o
	}
	line := func(name, unit string, f func(t float64) float64) {
		l := result.Line{Name: name, Unit: unit}
		for i := range seconds {
			value := f(float64(i))
			if l.Values = append(l.Values, &value); i == 3 {
				l.Values[i] = nil
			}
		}
		m.Series.Lines = append(m.Series.Lines, l)
	}
	for i := range seconds {
		m.Series.Seconds = append(m.Series.Seconds, float64(i))
	}
	line("requests.playlist", "1/s", func(t float64) float64 { return 500 + 20*math.Sin(t) })
	line("requests.segment", "1/s", func(t float64) float64 { return 250 + 10*math.Cos(t) })
	line("errors.playlist", "1/s", func(float64) float64 { return 0 })
	for i, q := range []string{"p50", "p99", "max"} {
		for j, op := range []string{result.Opening, result.Playlist, result.Multivariant, result.Segment} {
			line("latency."+q+"."+op, "s", func(t float64) float64 { return slow * (0.002*float64(1+j+i*i*4) + 0.0005*math.Sin(t/3)) })
		}
	}
	line("openings.planned", "1/s", func(t float64) float64 { return t })
	line("openings.started", "1/s", func(t float64) float64 { return t * 0.98 })
	line("decisions.backend", "1/s", func(t float64) float64 { return 20 })
	line("decisions.fail-open", "1/s", func(t float64) float64 { return max(0, 10-t) })
	line("middleware.calls", "1/s", func(t float64) float64 { return 22 })
	line("memory.node1", "B", func(t float64) float64 { return 1e8 + 1e6*t })
	line("cpu.node1", "cores", func(t float64) float64 { return 0.4 })
	line("viewers.alive", "", func(t float64) float64 { return 10 * t })
	return m
}

func html(t *testing.T, run *result.Run) string {
	t.Helper()
	var out bytes.Buffer
	if err := report.HTML(&out, run); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestHTML_Browser opens pages of all shapes: each plots what its series hold, is legible in light and dark, and has no error.
func TestHTML_Browser(t *testing.T) {
	huge := example(1, 5, "usher")
	for _, l := range huge.Measurements[0].Series.Lines {
		for i := range l.Values {
			l.Values[i] = new(1e300)
		}
	}
	calm := example(1, 30, "usher")
	calm.Measurements[0].Faults = nil
	injected := example(1, 30, `</script><script>document.title="injected"</script>`)
	for name, test := range map[string]struct {
		run    *result.Run
		charts int
		faults string
	}{
		"an outage":                {example(1, 60, "usher"), 10, "middleware refuses: 15 s to 30 s"},
		"three targets, 5 rounds":  {example(5, 20, "usher", "nginx-auth", "caddy"), 10, "middleware refuses: 5 s to 10 s"},
		"no fault":                 {calm, 10, ""},
		"a second":                 {example(1, 1, "usher"), 10, "middleware refuses: 0.25 s to 0.5 s"},
		"no second":                {example(1, 0, "usher"), 0, ""},
		"huge values":              {huge, 10, "middleware refuses: 1.25 s to 2.5 s"},
		"a target that breaks out": {injected, 10, "middleware refuses: 7.5 s to 15 s"},
	} {
		t.Run(name, func(t *testing.T) {
			text := html(t, test.run)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				_, _ = w.Write([]byte(text))
			}))
			defer server.Close()
			for _, width := range []int64{1280, 390} {
				look(t, server.URL, width, seen{Charts: test.charts, Faults: test.faults, Title: "outage: usher-bench"}, strings.ReplaceAll(name, " ", "-"))
			}
		})
	}
}

// pictures is a folder for screenshots; empty: none are taken.
var pictures = os.Getenv("REPORT_PICTURES")

// look opens the page at that width, in light and in dark.
func look(t *testing.T, url string, width int64, want seen, name string) {
	t.Helper()
	tab := chromium.Tab(t, width, 900)
	var mu sync.Mutex
	var problems []string
	err := chromedp.Listen(tab, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			problems = append(problems, e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			problems = append(problems, string(e.Type))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(tab, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} { // the page follows while it is open
		feature := &emulation.MediaFeature{Name: "prefers-color-scheme", Value: scheme}
		err := chromedp.Do(tab, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{feature}})
			return err
		}))
		if err != nil {
			t.Fatal(err)
		}
		got, err := chromedp.Run(tab, chromedp.Evaluate[seen](seenScript, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		if want.Scheme = scheme; !cmp.Equal(got, want) {
			t.Errorf("%s, at %d pixels: %+v, want %+v", scheme, width, got, want)
		}
		takePicture(tab, t, fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(problems) > 0 {
		t.Errorf("at %d pixels the console has %q", width, problems)
	}
}

// takePicture takes a picture of the page, if one is wanted.
func takePicture(tab context.Context, t *testing.T, name string) {
	t.Helper()
	if pictures == "" {
		return
	}
	shot, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pictures, name), shot, 0o600); err != nil {
		t.Fatal(err)
	}
}

// seen is what a browser shows of a page.
type seen struct {
	Charts int    `json:"charts"`
	Faults string `json:"faults"`
	Title  string `json:"title"`
	IsWide bool   `json:"isWide"`
	// Scheme is light or dark, by the background.
	Scheme string `json:"scheme"`
	// Faint are texts and colours of lines that do not stand out from their background, by the bounds of WCAG 2.2 level AA.
	Faint []string `json:"faint"`
}

// seenScript looks at the page after its next frame, when plots are redrawn. Text in a plot is as dark or bright as no line is.
const seenScript = `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => {
	const rgb = text => text.match(/[\d.]+/g).map(Number);
	const luminance = c => [.2126, .7152, .0722].reduce((sum, part, i) => {
		const v = c[i] / 255;
		return sum + part * (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
	}, 0);
	const contrast = (a, b) => (Math.max(luminance(a), luminance(b)) + .05) / (Math.min(luminance(a), luminance(b)) + .05);
	const behind = e => {
		const c = e ? rgb(getComputedStyle(e).backgroundColor) : [255, 255, 255];
		return c[3] === 0 ? behind(e.parentElement) : c;
	};
	const faint = [], open = [...document.querySelectorAll("details:not([open])")];
	open.forEach(d => d.open = true);
	for (const e of document.querySelectorAll("body *")) {
		const hasText = [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim());
		if (e.checkVisibility() && hasText && contrast(rgb(getComputedStyle(e).color), behind(e)) < 4.5) faint.push(e.textContent);
	}
	for (const e of document.querySelectorAll(".u-series:not(:first-child) .u-marker")) {
		if (contrast(rgb(getComputedStyle(e).borderTopColor), behind(e)) < 3) faint.push(e.parentElement.textContent);
	}
	for (const c of document.querySelectorAll(".chart canvas")) {
		const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height), back = behind(c);
		let most = 1;
		for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 250) most = Math.max(most, contrast(data.subarray(i, i + 3), back));
		if (most < 7) faint.push(c.closest(".chart").querySelector("h3").textContent);
	}
	const isWide = document.documentElement.scrollWidth > innerWidth;
	open.forEach(d => d.open = false);
	return {
		charts: document.querySelectorAll(".chart canvas").length, faults: document.getElementById("faults").textContent,
		title: document.title, isWide,
		scheme: luminance(behind(document.body)) > .5 ? "light" : "dark", faint: faint.length ? faint : null,
	};
})`

// TestHTML_Tables are there without a script.
func TestHTML_Tables(t *testing.T) {
	got := html(t, example(2, 60, "usher", "nginx-auth"))
	for _, want := range []string{
		"4 of what was expected did not hold.", "<td>errors == 0</td><td>0</td>", "timeout: 3", "1000 of 1000 viewers started",
		"<td>node1</td><td>20 s</td><td>120 MB</td>", "usher-bench run outage --demo", "The plan was kept",
		"<td>playlist p99 (ms)</td><td>nginx-auth</td>", "<td>2.00</td><td>2.00 to 2.00</td>", "<td>viewers</td><td>1000</td>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if size := len(got); size > 300_000 {
		t.Errorf("the page has %d bytes", size)
	}
}

// TestHTML_Faults shows what viewers saw during faults, if that was counted.
func TestHTML_Faults(t *testing.T) {
	run := example(1, 60, "usher")
	const heading = "What viewers saw"
	if got := html(t, run); strings.Contains(got, heading) {
		t.Error("the page tells what viewers saw, which nobody counted")
	}
	run.Measurements[0].Faults[0].Seen = map[string]uint64{"served": 41, "timeout": 2}
	if got := html(t, run); !strings.Contains(got, heading) || !strings.Contains(got, "served: 41 timeout: 2") {
		t.Error("the page does not tell what viewers saw")
	}
}

// TestJoinedHTML has the runs of two scenarios on one page, which are not compared.
func TestJoinedHTML(t *testing.T) {
	t.Parallel()
	outage, steady := example(1, 5, "usher"), example(2, 5, "usher", "nginx-auth")
	steady.Scenario, steady.Description = "steady", "Viewers who stay."
	var out strings.Builder
	if err := report.JoinedHTML(&out, outage, steady); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{
		"2 scenarios, one after another", "<h2>outage</h2>", "<h2>steady, nginx-auth, round 2</h2>", outage.Description, steady.Description,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "Medians over the rounds") || outage.Measurements[0].Target != "usher" || len(outage.Measurements[0].Notes) != 0 {
		t.Error("scenarios are compared, or a run was changed")
	}
}

func TestRatios(t *testing.T) {
	var p99 []report.Ratio
	for _, r := range report.Ratios(example(5, 10, "usher", "nginx-auth")) {
		if r.Figure == "segment p99 (ms)" {
			p99 = append(p99, r)
		}
	}
	if len(p99) != 2 || p99[0].Ratio != 1 || p99[1].Target != "nginx-auth" || math.Abs(p99[1].Ratio-2) > 0.01 || p99[1].RatioMost < p99[1].RatioLeast {
		t.Errorf("%+v, want 1 for usher and 2 for nginx-auth", p99)
	}
	if got := report.Ratios(example(5, 10, "usher")); got != nil {
		t.Errorf("one target: %v, want none", got)
	}
}

// TestRatios_NotMeasured_NoFigure has a server of which nobody reads the processes and the calls of its middleware.
func TestRatios_NotMeasured_NoFigure(t *testing.T) {
	run := example(5, 10, "usher", "cdn")
	for i := range run.Measurements {
		if m := &run.Measurements[i]; m.Target == "cdn" {
			m.Counts, m.Processes = nil, []result.Process{{Name: "generator", CPUSeconds: 1}}
		}
	}
	got := map[string][]string{}
	for _, r := range report.Ratios(run) {
		got[r.Figure] = append(got[r.Figure], r.Target)
	}
	for figure, want := range map[string][]string{
		"segment p99 (ms)": {"usher", "cdn"}, "server CPU a request (µs)": {"usher"}, "middleware calls": {"usher"},
	} {
		if !slices.Equal(got[figure], want) {
			t.Errorf("%s: of %v, want %v", figure, got[figure], want)
		}
	}
}

func TestCompare(t *testing.T) {
	before, after := example(3, 10, "usher"), example(3, 10, "usher")
	for i := range after.Measurements {
		m := measurement("usher", i+1, 10, 0.5)
		m.Operations[result.Segment].Errors = map[string]uint64{"timeout": 30}
		after.Measurements[i] = m
	}
	after.Settings = map[string]string{"viewers": "2000", "for": "1m"}
	changes, warnings := report.Compare(before, after)
	got := map[string]string{}
	for _, c := range changes {
		got[c.Figure] = c.Verdict
	}
	for figure, want := range map[string]string{"playlist p99 (ms)": "better", "segment errors": "worse", "playlist (1/s)": "same", "server CPU a request (µs)": "better"} {
		if got[figure] != want {
			t.Errorf("%s: %q, want %q", figure, got[figure], want)
		}
	}
	if want := []string{"viewers: 1000 before, 2000 after"}; !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	var text, page bytes.Buffer
	if err := report.PrintCompare(&text, before, after); err != nil || !strings.Contains(text.String(), "mind: viewers: 1000 before, 2000 after") ||
		!strings.Contains(text.String(), "-50.0%  better") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := report.CompareHTML(&page, before, after); err != nil || !strings.Contains(page.String(), `<td>-50.0 %</td><td class="better">better</td>`) {
		t.Errorf("%v, want the changes in the page", err)
	}
}

// TestCompare_NotMeasured_Warns has a server whose processes, calls and segments the second run does not know, one that it does not have,
// and one that it alone has.
func TestCompare_NotMeasured_Warns(t *testing.T) {
	before, after := example(1, 10, "usher", "nginx"), example(1, 10, "usher", "cdn")
	m := &after.Measurements[0]
	m.Counts, m.Processes = nil, nil
	delete(m.Operations, result.Segment)
	changes, warnings := report.Compare(before, after)
	for _, c := range changes {
		if c.Target != "usher" || c.Verdict != "same" {
			t.Errorf("%+v, want figures of usher that are the same", c)
		}
	}
	var want []string
	for _, figure := range []string{"segment (1/s)", "segment p50 (ms)", "segment p99 (ms)", "segment errors", "server CPU a request (µs)", "middleware calls"} {
		want = append(want, figure+" of usher was measured in the first run alone")
	}
	want = append(want, "nginx was measured in the first run alone", "cdn was measured in the second run alone")
	slices.Sort(want)
	if slices.Sort(warnings); !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
}

// TestPrometheus scrapes a run while it goes on.
func TestPrometheus(t *testing.T) {
	snapshot := record.Snapshot{
		Values: map[string]float64{"latency.p99.playlist": 0.025}, Totals: map[string]float64{"requests.playlist": 41}, Faults: []string{"node 2 killed", "node 2 killed"},
	}
	w := httptest.NewRecorder()
	report.Prometheus(func() record.Snapshot { return snapshot }).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	got := w.Body.String()
	for _, want := range []string{
		`usher_bench_value{name="latency.p99.playlist"} 0.025`, `usher_bench_count_total{name="requests.playlist"} 41`, `usher_bench_fault{name="node 2 killed"} 1`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	problems, err := promlint.New(strings.NewReader(got)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, problems %v", err, problems)
	}
}
