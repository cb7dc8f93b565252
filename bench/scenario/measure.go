package scenario

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"usher/bench/result"
	"usher/bench/rig"
	"usher/bench/viewer"
)

// errNotMeasured is wrapped by an error for a value that the measurement does not have, and errNotTold by that for one that the operator's
// servers do not tell the harness.
var (
	errNotMeasured = errors.New("not measured")
	errNotTold     = fmt.Errorf("%w: servers that the harness does not run tell it", errNotMeasured)
)

// phase is a part of a measurement.
type phase struct {
	// spans are from and to, in seconds.
	spans [][2]float64
	// isWhole leaves out a second that is not wholly in it: a fault has all seconds that it touches, and the others have none
	// that a fault touches.
	isWhole bool
}

func (p phase) has(from, to float64) bool {
	return slices.ContainsFunc(p.spans, func(s [2]float64) bool {
		if p.isWhole {
			return from >= s[0] && to <= s[1]
		}
		return to > s[0] && from < s[1]
	})
}

// measured is a measurement as expectations see it.
type measured struct {
	*result.Measurement
	knobs  map[string]Knob
	phases map[string]phase
	// external are the servers if the operator runs them; else nil.
	external *rig.External
}

// evaluate returns the expectation's outcome. An error means that it cannot be told.
func (m *measured) evaluate(e *Expectation) (result.Assertion, error) {
	a := result.Assertion{Text: e.Text}
	left, err := m.term(e.left)
	if err != nil {
		a.Got = err.Error()
		return a, err
	}
	right, err := m.term(e.right)
	if err != nil {
		a.Got = err.Error()
		return a, err
	}
	if !isFinite(left.n) || !isFinite(right.n) {
		a.Got = fmt.Sprintf("%g, want %s %g: a division by zero has no value", left.n, e.operator, right.n)
		return a, nil
	}
	if right.unit == "" {
		right.unit = left.unit
	}
	a.Kept = compare(left.n, e.operator, right.n)
	a.Got = left.String()
	if !e.right.isNumber() {
		a.Got += fmt.Sprintf(", want %s %s", e.operator, right)
	}
	return a, nil
}

func isFinite(n float64) bool { return !math.IsInf(n, 0) && !math.IsNaN(n) }

func (t *term) isNumber() bool { return t.operator == "" && t.name == "" }

func compare(a float64, operator string, b float64) bool {
	switch operator {
	case "==":
		return a == b
	case "!=":
		return a != b
	case "<=":
		return a <= b
	case ">=":
		return a >= b
	case "<":
		return a < b
	default:
		return a > b
	}
}

func (m *measured) term(t *term) (value, error) {
	switch {
	case t.operator != "":
		return m.join(t)
	case t.isNumber():
		return value{t.number, t.unit}, nil
	case t.isCall:
		return m.named(t, func() (value, error) { return oneArgument(t.name)(m, m.during(t.phase), t.argument) })
	}
	if k, isKnob := m.knobs[t.name]; isKnob && t.phase == "" {
		return value{k.number(), k.unit}, nil
	}
	return m.named(t, func() (value, error) { return noArgument(t.name)(m, m.during(t.phase)) })
}

// named adds the term to an error.
func (m *measured) named(t *term, get func() (value, error)) (value, error) {
	v, err := get()
	if err != nil && m.external != nil && t.isCall && rig.IsLine(t.argument) && !m.external.Tells(t.argument) {
		err = errNotTold
	}
	if err != nil {
		return v, fmt.Errorf("%s: %w", strings.TrimPrefix(t.phase+"."+t.name+"("+t.argument+")", "."), err)
	}
	return v, nil
}

func (m *measured) join(t *term) (value, error) {
	left, err := m.term(t.left)
	if err != nil {
		return left, err
	}
	right, err := m.term(t.right)
	if err != nil {
		return right, err
	}
	unit := joinUnits(t.operator, left.unit, right.unit)
	switch t.operator {
	case "+":
		return value{left.n + right.n, unit}, nil
	case "-":
		return value{left.n - right.n, unit}, nil
	case "*":
		return value{left.n * right.n, unit}, nil
	}
	return value{left.n / right.n, unit}, nil
}

// during returns which seconds of the series are in a phase; nil: all.
func (m *measured) during(name string) []bool {
	if name == "" {
		return nil
	}
	in := make([]bool, len(m.Series.Seconds))
	from := 0.0
	for i, to := range m.Series.Seconds {
		in[i] = m.phases[name].has(from, to)
		from = to
	}
	return in
}

// values returns the known values of a line in a phase, and how many seconds each is of.
func (m *measured) values(name string, in []bool) (values, lengths []float64, unit string) {
	for _, l := range m.Series.Lines {
		if l.Name != name {
			continue
		}
		from := 0.0
		for i, v := range l.Values {
			if v != nil && (in == nil || in[i]) {
				values, lengths = append(values, *v), append(lengths, m.Series.Seconds[i]-from)
			}
			from = m.Series.Seconds[i]
		}
		return values, lengths, l.Unit
	}
	return nil, nil, ""
}

// isOfWholeRun reports whether no phase has a function.
func isOfWholeRun(name string) bool {
	return slices.Contains([]string{"failures", "dropped", "planned", "started", "lateness"}, name)
}

// noArgument returns the function of that name; nil: there is none.
func noArgument(name string) func(m *measured, in []bool) (value, error) {
	whole := func(get func(a *result.Arrivals) value) func(*measured, []bool) (value, error) {
		return func(m *measured, _ []bool) (value, error) {
			if !m.hasRequests() {
				return value{}, errNotMeasured
			}
			return get(&m.Arrivals), nil
		}
	}
	return map[string]func(*measured, []bool) (value, error){
		"errors":   (*measured).errors,
		"requests": func(m *measured, in []bool) (value, error) { return m.overOps("requests.", in) },
		"dropped":  whole(func(a *result.Arrivals) value { return value{float64(a.Dropped), ""} }),
		"planned":  whole(func(a *result.Arrivals) value { return value{float64(a.Planned), ""} }),
		"started":  whole(func(a *result.Arrivals) value { return value{float64(a.Started), ""} }),
		"lateness": whole(func(a *result.Arrivals) value { return value{a.Lateness.Quantile(0.99).Seconds(), "s"} }),
	}[name]
}

// oneArgument returns the function of that name; nil: there is none.
func oneArgument(name string) func(m *measured, in []bool, argument string) (value, error) {
	return map[string]func(*measured, []bool, string) (value, error){
		"errors":   (*measured).errorsOf,
		"requests": func(m *measured, in []bool, op string) (value, error) { return m.total("requests."+op, in) },
		"failures": (*measured).failures,
		"count":    func(m *measured, in []bool, name string) (value, error) { return m.total(name, in) },
		"sum":      func(m *measured, in []bool, name string) (value, error) { return m.total(name, in) },
		"p50":      func(m *measured, in []bool, op string) (value, error) { return m.latency("p50", 0.5, op, in) },
		"p99":      func(m *measured, in []bool, op string) (value, error) { return m.latency("p99", 0.99, op, in) },
		"max":      (*measured).largest,
		"min":      overLine(func(v, _ []float64) float64 { return slices.Min(v) }),
		"mean":     overLine(mean),
		"last":     overLine(func(v, _ []float64) float64 { return v[len(v)-1] }),
		"until":    (*measured).until,
	}[name]
}

func mean(values, lengths []float64) float64 {
	sum, time := 0.0, 0.0
	for i, v := range values {
		sum, time = sum+v*lengths[i], time+lengths[i]
	}
	return sum / time
}

func overLine(reduce func(values, lengths []float64) float64) func(*measured, []bool, string) (value, error) {
	return func(m *measured, in []bool, name string) (value, error) {
		values, lengths, unit := m.values(name, in)
		if len(values) == 0 {
			return value{}, errNotMeasured
		}
		return value{reduce(values, lengths), unit}, nil
	}
}

// until returns how long it took until a line was above zero for the last time.
func (m *measured) until(in []bool, name string) (value, error) {
	var values []*float64
	for _, l := range m.Series.Lines {
		if l.Name == name {
			values = l.Values
		}
	}
	elapsed, last, from, isKnown := 0.0, 0.0, 0.0, isCounted(name) && m.hasRequests()
	for i, to := range m.Series.Seconds {
		if in == nil || in[i] {
			elapsed += to - from // time passes in a second without a value too
			if i < len(values) && values[i] != nil {
				isKnown = true
				if *values[i] > 0 {
					last = elapsed
				}
			}
		}
		from = to
	}
	if elapsed == 0 || !isKnown {
		return value{}, errNotMeasured
	}
	return value{last, "s"}, nil
}

// isCounted reports whether a measurement has a count only if it is not zero.
func isCounted(name string) bool {
	return slices.Contains(viewer.Counts(), name)
}

// total returns how much a count grew.
func (m *measured) total(name string, in []bool) (value, error) {
	if in == nil {
		if kind, op, _ := strings.Cut(name, "."); m.Operations[op] != nil {
			switch kind {
			case "errors":
				return value{float64(m.Operations[op].Failed()), ""}, nil
			case "requests":
				return value{float64(m.Operations[op].Requests), ""}, nil
			}
		}
		if n, isKnown := m.Counts[name]; isKnown {
			return value{n, ""}, nil
		}
	}
	values, lengths, _ := m.values(name, in)
	if len(values) == 0 {
		if isCounted(name) && m.hasRequests() && (in == nil || slices.Contains(in, true)) {
			return value{}, nil
		}
		return value{}, errNotMeasured
	}
	sum := 0.0
	for i, v := range values {
		sum += v * lengths[i]
	}
	return value{math.Round(sum), ""}, nil
}

func (m *measured) overOps(prefix string, in []bool) (value, error) {
	sum, isKnown := 0.0, false
	for op := range m.Operations {
		if v, err := m.total(prefix+op, in); err == nil {
			sum, isKnown = sum+v.n, true
		}
	}
	if !isKnown {
		return value{}, errNotMeasured
	}
	return value{sum, ""}, nil
}

// errors returns how many requests failed. Without a request there is nothing that could have failed.
func (m *measured) errors(in []bool) (value, error) {
	if requests, err := m.overOps("requests.", in); err != nil || requests.n == 0 {
		return value{}, errNotMeasured
	}
	return m.overOps("errors.", in)
}

// errorsOf returns how many requests of a kind failed.
func (m *measured) errorsOf(in []bool, op string) (value, error) {
	if requests, err := m.total("requests."+op, in); err != nil || requests.n == 0 {
		return value{}, errNotMeasured
	}
	return m.total("errors."+op, in)
}

// hasRequests reports whether any request was measured.
func (m *measured) hasRequests() bool {
	for _, o := range m.Operations {
		if o.Requests > 0 {
			return true
		}
	}
	return false
}

func (m *measured) failures(_ []bool, what string) (value, error) {
	if !m.hasRequests() {
		return value{}, errNotMeasured
	}
	sum := 0.0
	for _, o := range m.Operations {
		sum += float64(o.Errors[what])
	}
	return value{sum, ""}, nil
}

func (m *measured) latency(name string, q float64, op string, in []bool) (value, error) {
	if in == nil {
		if o := m.Operations[op]; o != nil && o.Latency.Count() > 0 {
			return value{o.Latency.Quantile(q).Seconds(), "s"}, nil
		}
		return value{}, errNotMeasured
	}
	values, _, _ := m.values("latency."+name+"."+op, in)
	if len(values) == 0 {
		return value{}, errNotMeasured
	}
	slices.Sort(values)
	return value{values[len(values)/2], "s"}, nil
}

// largest returns the longest latency of a kind of request, or the largest value of a line.
func (m *measured) largest(in []bool, name string) (value, error) {
	if o := m.Operations[name]; o != nil {
		if in == nil && o.Latency.Count() > 0 {
			return value{o.Latency.Max().Seconds(), "s"}, nil
		}
		name = "latency.max." + name
	}
	return overLine(func(v, _ []float64) float64 { return slices.Max(v) })(m, in, name)
}
