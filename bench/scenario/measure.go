package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"usher/bench/result"
)

// value is a measured or written value with its unit.
type value struct {
	n    float64
	unit string
}

// String returns the value as people read it.
func (v value) String() string {
	switch v.unit {
	case "s":
		return time.Duration(v.n * float64(time.Second)).Round(10 * time.Microsecond).String()
	case "B":
		const small = 100e3
		if v.n < small {
			return fmt.Sprintf("%.4g kB", v.n/1e3)
		}
		return fmt.Sprintf("%.4g MB", v.n/1e6)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.5g %s", v.n, v.unit), " ")
}

// errNotMeasured is wrapped by an error for a value that the measurement does not have.
var errNotMeasured = errors.New("not measured")

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

// joinUnits returns the unit of what an operator makes of two values.
func joinUnits(operator, left, right string) string {
	switch {
	case operator != "/":
		return cmp.Or(left, right)
	case left == right:
		return ""
	case left == "" && right == "s":
		return "1/s"
	}
	return left
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
		return func(m *measured, _ []bool) (value, error) { return get(&m.Arrivals), nil }
	}
	return map[string]func(*measured, []bool) (value, error){
		"errors":   func(m *measured, in []bool) (value, error) { return m.overOps("errors.", in) },
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
		"errors":   func(m *measured, in []bool, op string) (value, error) { return m.total("errors."+op, in) },
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
	elapsed, last, from, isKnown := 0.0, 0.0, 0.0, isCounted(name)
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
	return slices.Contains([]string{"free_rides", "denials", "zaps", "pauses", "roams", "hops", "leaves", "returns", "segments.missed"}, name)
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
		if isCounted(name) && (in == nil || slices.Contains(in, true)) {
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

func (m *measured) failures(_ []bool, what string) (value, error) {
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
	if m.Operations[name] != nil {
		name = "latency.max." + name
	}
	return overLine(func(v, _ []float64) float64 { return slices.Max(v) })(m, in, name)
}
