package report

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"usher/bench/result"
)

//go:embed assets
var assets embed.FS

// page is what the page's template gets.
type page struct {
	Run      *result.Run
	Host     string
	Failed   int
	Kept     int
	Ratios   []Ratio
	Settings []setting
	Parts    []part
	// isJoined: the measurements are of several runs, and are not compared.
	isJoined bool
	// IsShort: there are so few measurements that all are shown opened.
	IsShort bool
	// Before is the run that this one is compared with; nil: none.
	Before   *result.Run
	Changes  []Change
	Warnings []string

	Style, Library, Script, License string
	Data                            template.JS
}

type setting struct{ Name, Value string }

// part is the tables of one measurement.
type part struct {
	*result.Measurement
	Name       string
	Operations []operation
	IsOnTime   bool
	// SeenFaults are the faults of which is known what viewers saw.
	SeenFaults []result.Fault
}

type operation struct {
	Name     string
	Requests uint64
	Rate     string
	Latency  [4]string // p50, p99, p99.9, longest
	Errors   string
}

// plotted is the JSON of one measurement for the page's script.
type plotted struct {
	Name    string         `json:"name"`
	Seconds []float64      `json:"seconds"`
	Lines   []plottedLine  `json:"lines"`
	Faults  []result.Fault `json:"faults"`
	// Curves are latencies by quantile, in ms, of each operation.
	Curves []curve `json:"curves"`
}

type plottedLine struct {
	Name   string     `json:"name"`
	Unit   string     `json:"unit"`
	Values []*float64 `json:"values"`
}

type curve struct {
	Name   string    `json:"name"`
	Values []float64 `json:"values"` // at curveQuantiles
}

// curveQuantiles are the quantiles of a percentile curve.
func curveQuantiles() []float64 {
	return []float64{0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999}
}

// HTML writes a run as one page.
func HTML(w io.Writer, run *result.Run) error { return writePage(w, &page{Run: run}) }

// CompareHTML writes the second of two runs as one page, with what changed since the first.
func CompareHTML(w io.Writer, before, after *result.Run) error {
	p := &page{Run: after, Before: before}
	p.Changes, p.Warnings = Compare(before, after)
	return writePage(w, p)
}

// JoinedHTML writes several runs as one page, with the scenarios in place of the targets.
func JoinedHTML(w io.Writer, runs ...*result.Run) error {
	joined := &result.Run{Version: result.Version, Scenario: "scenarios", Settings: map[string]string{}}
	for i, run := range runs {
		if i == 0 {
			joined.Started, joined.Host = run.Started, run.Host
		}
		for _, m := range run.Measurements {
			if m.Notes = append([]string{run.Description}, m.Notes...); len(run.Measurements) > 1 {
				m.Target = run.Scenario + ", " + m.Target
			} else {
				m.Target = run.Scenario
			}
			joined.Measurements = append(joined.Measurements, m)
		}
	}
	joined.Description = fmt.Sprintf("%d scenarios, one after another.", len(runs))
	return writePage(w, &page{Run: joined, isJoined: true})
}

func writePage(w io.Writer, p *page) error {
	if err := p.fill(); err != nil {
		return err
	}
	t, err := template.New("page.html").Funcs(template.FuncMap{
		"safeCSS": func(text string) template.CSS { return template.CSS(text) },
		"safeJS":  func(text string) template.JS { return template.JS(text) },
		"number":  number, "mega": func(bytes uint64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) },
		"lateness": func(m *result.Measurement) string { return short(m.Arrivals.Lateness.Quantile(0.99)) },
		"percent":  percent,
	}).ParseFS(assets, "assets/page.html")
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// maxOpened is how many measurements are shown opened.
const maxOpened = 3

// fill adds what follows from the run.
func (p *page) fill() error {
	run := p.Run
	if p.Host = hostOf(&run.Host); !p.isJoined {
		p.Ratios = Ratios(run)
	}
	for _, name := range slices.Sorted(maps.Keys(run.Settings)) {
		p.Settings = append(p.Settings, setting{name, run.Settings[name]})
	}
	data := struct {
		Quantiles    []float64 `json:"quantiles"`
		Measurements []plotted `json:"measurements"`
	}{Quantiles: curveQuantiles()}
	for i := range run.Measurements {
		m := &run.Measurements[i]
		for _, a := range m.Assertions {
			if a.Kept {
				p.Kept++
			} else {
				p.Failed++
			}
		}
		one := newPart(m)
		if p.isJoined && m.Round == 1 {
			one.Name = m.Target
		}
		p.Parts = append(p.Parts, one)
		data.Measurements = append(data.Measurements, plot(one.Name, m))
	}
	p.IsShort = len(p.Parts) <= maxOpened
	text, err := json.Marshal(data) // which escapes <, > and &
	if err != nil {
		return fmt.Errorf("encode the series: %w", err)
	}
	p.Data = template.JS(text)
	for file, field := range map[string]*string{
		"page.css": &p.Style, "page.js": &p.Script, "uplot.js": &p.Library, "uplot-license.txt": &p.License,
	} {
		content, err := assets.ReadFile("assets/" + file)
		if err != nil {
			return err
		}
		*field = string(content)
	}
	css, err := assets.ReadFile("assets/uplot.css")
	p.Style = string(css) + p.Style
	return err
}

func newPart(m *result.Measurement) part {
	out := part{Measurement: m, Name: fmt.Sprintf("%s, round %d", m.Target, m.Round), IsOnTime: m.Arrivals.Dropped == 0}
	for _, f := range m.Faults {
		if f.Seen != nil {
			out.SeenFaults = append(out.SeenFaults, f)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Operations)) {
		o := m.Operations[name]
		var errs []string
		for _, what := range slices.Sorted(maps.Keys(o.Errors)) {
			errs = append(errs, fmt.Sprintf("%s: %d", what, o.Errors[what]))
		}
		out.Operations = append(out.Operations, operation{
			Name: name, Requests: o.Requests, Rate: number(float64(o.Requests) / m.Seconds), Errors: strings.Join(errs, ", "),
			Latency: [4]string{short(o.Latency.Quantile(.5)), short(o.Latency.Quantile(.99)), short(o.Latency.Quantile(.999)), short(o.Latency.Max())},
		})
	}
	return out
}

func plot(name string, m *result.Measurement) plotted {
	out := plotted{Name: name, Faults: m.Faults}
	for _, s := range m.Series.Seconds {
		out.Seconds = append(out.Seconds, rounded(s))
	}
	for _, l := range m.Series.Lines {
		values := make([]*float64, len(l.Values))
		for i, v := range l.Values {
			if v != nil {
				values[i] = new(rounded(*v))
			}
		}
		out.Lines = append(out.Lines, plottedLine{l.Name, l.Unit, values})
	}
	for _, op := range slices.Sorted(maps.Keys(m.Operations)) {
		c := curve{Name: op}
		for _, q := range curveQuantiles() {
			c.Values = append(c.Values, rounded(milliseconds(m.Operations[op].Latency.Quantile(q))))
		}
		out.Curves = append(out.Curves, c)
	}
	return out
}

// maxPlotted bounds what is plotted: no measure comes near it, and axes of larger numbers are beyond the precision of scripts.
const maxPlotted = 1e15

// rounded returns the value with four digits, which keeps the page small.
func rounded(v float64) float64 {
	if v == 0 || math.IsNaN(v) {
		return 0
	}
	v = min(max(v, -maxPlotted), maxPlotted)
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	if r := math.Round(v*scale) / scale; !math.IsInf(r, 0) && !math.IsNaN(r) {
		return r
	}
	return 0 // too small for four digits
}

// short writes a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", milliseconds(d))
	default:
		return fmt.Sprintf("%.3g s", d.Seconds())
	}
}

// number writes a number with at most three digits behind the point, and spaces between the thousands.
func number(v float64) string {
	if math.Abs(v) < 100 {
		return fmt.Sprintf("%.3g", v)
	}
	text := fmt.Sprintf("%.0f", v)
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return sign + text
}

func percent(v float64) string {
	if math.IsInf(v, 0) {
		return "from none"
	}
	return fmt.Sprintf("%+.1f %%", v)
}
