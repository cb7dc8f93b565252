package scenario

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
	"usher/bench/result"
)

//go:embed scenarios/*.yaml
var embedded embed.FS

// Scenario is a plan of a run.
type Scenario struct {
	Name string
	// Shows is a sentence.
	Shows string
	Knobs
	Faults []Fault
	Expect []Expectation
	// Settings are merged into the settings of Usher's nodes.
	Settings map[string]any
}

// Fault is a fault's place in the run.
type Fault struct {
	// Name is its phase; empty: it has no phase of its own.
	Name string
	// What is the fault as rig has it.
	What    string
	At, For Span
}

// Names returns the names of the harness's own scenarios.
func Names() []string {
	files, _ := fs.Glob(embedded, "scenarios/*.yaml") // the pattern is right
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
	return names
}

// ErrUnknown is wrapped by Load's error for a name of no scenario.
var ErrUnknown = errors.New("unknown scenario")

// Load reads one of the harness's scenarios, or a file if the name has a slash or ends in .yaml.
func Load(name string) (*Scenario, error) {
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return Parse(name, text)
	}
	text, err := embedded.ReadFile("scenarios/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("%w %q%s", ErrUnknown, name, setting.Hint(name, Names()))
	}
	return Parse(name+".yaml", text)
}

// Parse reads a scenario. Every problem in the error begins with file, line and column.
func Parse(file string, text []byte) (*Scenario, error) {
	s := &Scenario{Name: strings.TrimSuffix(filepath.Base(file), ".yaml"), Knobs: defaultKnobs()}
	var document, another yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(text))
	switch err := documents.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: it is empty; want keys and values", file)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := documents.Decode(&another); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d:1: another document, or a text that is none; want one scenario a file", file, max(1, another.Line))
	}
	r := reader{file: file, scenario: s}
	r.mapping(document.Content[0], r.fields())
	if s.Shows == "" {
		r.report(document.Content[0], "shows: missing; say in a sentence what the scenario shows")
	}
	if len(r.problems) > 0 {
		return nil, errors.Join(r.problems...)
	}
	return s, nil
}

// reader reads a scenario's file, and collects what is wrong with it.
type reader struct {
	file     string
	scenario *Scenario
	problems []error
}

func (r *reader) report(at *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf("%s:%d:%d: %w", r.file, at.Line, at.Column, fmt.Errorf(format, args...)))
}

// mapping gives each value to the field of its key.
func (r *reader) mapping(n *yaml.Node, fields map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.report(n, "want keys and values")
		return
	}
	isRead := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if isRead[key.Value] {
			r.report(key, "%s: the key is there twice", key.Value)
			continue
		}
		isRead[key.Value] = true
		if read := fields[key.Value]; read != nil {
			read(value)
			continue
		}
		r.report(key, "%s: unknown key%s", key.Value, setting.Hint(key.Value, slices.Collect(maps.Keys(fields))))
	}
}

// scalar returns a function that gives a value's text to set.
func (r *reader) scalar(name string, set func(string) error) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			r.report(n, "%s: want a single value", name)
			return
		}
		if err := set(n.Value); err != nil {
			r.report(n, "%s: %q: %w", name, n.Value, err)
		}
	}
}

func (r *reader) text(name string, to *string) func(*yaml.Node) {
	return r.scalar(name, func(text string) error { *to = text; return nil })
}

func (r *reader) fields() map[string]func(*yaml.Node) {
	s := r.scenario
	fields := map[string]func(*yaml.Node){
		"shows":  r.text("shows", &s.Shows),
		"faults": r.list("faults", r.fault),
		"expect": r.list("expect", r.expectation),
		"settings": func(n *yaml.Node) {
			if err := n.Decode(&s.Settings); err != nil {
				r.report(n, "settings: %w", err)
			}
		},
	}
	for _, k := range s.knobs() {
		fields[k.Name] = r.scalar(k.Name, k.set)
	}
	return fields
}

func (r *reader) list(name string, read func(*yaml.Node)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			r.report(n, "%s: want a list", name)
			return
		}
		for _, one := range n.Content {
			read(one)
		}
	}
}

func (r *reader) fault(n *yaml.Node) {
	var f Fault
	span := func(name string, to *Span) func(*yaml.Node) {
		return r.scalar(name, func(text string) (err error) { *to, err = parseSpan(text); return err })
	}
	r.mapping(n, map[string]func(*yaml.Node){
		"name": r.text("name", &f.Name), "fault": r.text("fault", &f.What), "at": span("at", &f.At), "for": span("for", &f.For),
	})
	if f.What == "" {
		r.report(n, "fault: missing")
	}
	r.scenario.Faults = append(r.scenario.Faults, f)
}

func (r *reader) expectation(n *yaml.Node) {
	r.scalar("expect", func(text string) error {
		e, err := ParseExpectation(text)
		r.scenario.Expect = append(r.scenario.Expect, e)
		return err
	})(n)
}

// Set changes a knob: "viewers=5000".
func (s *Scenario) Set(assignment string) error {
	name, text, found := strings.Cut(assignment, "=")
	knobs := s.byName()
	k, isKnown := knobs[name]
	switch {
	case !found:
		return fmt.Errorf("--set=%s: want NAME=VALUE", assignment)
	case !isKnown:
		return fmt.Errorf("--set=%s: unknown knob%s", assignment, setting.Hint(name, slices.Collect(maps.Keys(knobs))))
	}
	if err := k.set(text); err != nil {
		return fmt.Errorf("--set=%s: %w", assignment, err)
	}
	return nil
}

// AllKnobs returns the knobs with their values.
func (s *Scenario) AllKnobs() []Knob { return s.knobs() }

// Value returns the knob's value as a scenario writes it.
func (k *Knob) Value() string { return k.get() }

func (s *Scenario) byName() map[string]Knob {
	all := map[string]Knob{}
	for _, k := range s.knobs() {
		all[k.Name] = k
	}
	return all
}

// Validate reports what is wrong with the values together, and what the servers that the harness starts cannot do.
func (s *Scenario) Validate() error { return errors.Join(s.validateValues(), s.checkServers()) }

// validateValues reports what is wrong with the values together, whatever the servers.
func (s *Scenario) validateValues() error {
	phases := map[string]bool{"quiet": true, "fault": true, "after": true}
	var errs []error
	for _, f := range s.Faults {
		phases[f.Name] = true
		switch {
		case f.At.Of(s.For) >= s.For:
			errs = append(errs, fmt.Errorf("fault %q: at %s is not before the end of the run (for: %s): it would never begin", f.What, f.At, s.For))
		case f.At.Of(s.For)+f.For.Of(s.For) > s.For:
			errs = append(errs, fmt.Errorf("fault %q: at %s for %s ends behind the run (for: %s)", f.What, f.At, f.For, s.For))
		}
		if f.For.Of(s.For) <= 0 && !f.endsByItself() {
			errs = append(errs, fmt.Errorf("fault %q: for: missing, or 0s: it would end as it begins", f.What))
		}
	}
	errs = append(errs, s.checkOverlaps())
	knobs := s.byName()
	for i := range s.Expect {
		if err := s.Expect[i].check(knobs, phases); err != nil {
			errs = append(errs, fmt.Errorf("expect: %q: %w", s.Expect[i].Text, err))
		}
	}
	if s.For < minFor {
		errs = append(errs, fmt.Errorf("for: %s is below %s", s.For, minFor))
	}
	_, err := s.viewers()
	return errors.Join(append(errs, err)...)
}

// minFor is the shortest run: a value a second needs some.
const minFor = 3 * time.Second

// phases returns the phases of a measurement with those faults, which are in the order of the plan.
func (s *Scenario) phases(faults []result.Fault) map[string]phase {
	end := s.For.Seconds()
	phases := map[string]phase{}
	add := func(name string, f result.Fault) {
		phases[name] = phase{spans: append(phases[name].spans, [2]float64{f.From, f.To})}
	}
	quietEnd, after := end+1, 0.0 // the last second may end a little later
	planned := s.inOrder()
	for i, f := range faults {
		add("fault", f)
		if name := planned[i].Name; name != "" {
			add(name, f)
		}
		quietEnd, after = min(quietEnd, f.From), max(after, f.To)
	}
	phases["quiet"] = phase{isWhole: true, spans: [][2]float64{{s.WarmUp.Of(s.For).Seconds(), quietEnd}}}
	phases["after"] = phase{isWhole: true, spans: [][2]float64{{after + s.Settle.Of(s.For).Seconds(), end + 1}}}
	return phases
}

// inOrder returns the faults in the order in which they begin.
func (s *Scenario) inOrder() []Fault {
	return slices.SortedStableFunc(slices.Values(s.Faults), func(a, b Fault) int { return cmp.Compare(a.At.Of(s.For), b.At.Of(s.For)) })
}
