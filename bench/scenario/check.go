package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"usher/backends/setting"
	"usher/bench/result"
	"usher/bench/rig"
	"usher/bench/viewer"
)

// check reports what an expectation names that there is not, and units that do not fit. It could hold whatever is measured.
func (e *Expectation) check(knobs map[string]Knob, phases map[string]bool) error {
	if err := errors.Join(e.left.check(knobs, phases), e.right.check(knobs, phases)); err != nil {
		return err
	}
	return checkUnits(e.left, e.right, knobs)
}

// check reports a name that is neither a knob nor a function nor a phase, and a failure that no request can meet.
func (t *term) check(knobs map[string]Knob, phases map[string]bool) error {
	switch {
	case t.operator == "/" && t.right.isZero(knobs):
		return fmt.Errorf("%s: is 0, and divides nothing", t.right.text())
	case t.operator == "*" || t.operator == "/":
		return errors.Join(t.left.check(knobs, phases), t.right.check(knobs, phases))
	case t.operator != "":
		return (&Expectation{left: t.left, right: t.right}).check(knobs, phases) // a sum's units have to fit as those of a comparison
	case t.name == "":
		return nil
	}
	return t.checkName(knobs, phases)
}

// isZero reports whether the term is zero whatever is measured.
func (t *term) isZero(knobs map[string]Knob) bool {
	knob := knobs[t.name]
	switch {
	case t.operator == "*":
		return t.left.isZero(knobs) || t.right.isZero(knobs)
	case t.operator == "/":
		return t.left.isZero(knobs)
	case t.operator == "+":
		return t.left.isZero(knobs) && t.right.isZero(knobs)
	case t.isNumber():
		return t.number == 0
	}
	return t.operator == "" && !t.isCall && t.phase == "" && knob.number != nil && knob.number() == 0
}

// text returns the names and numbers of the term.
func (t *term) text() string {
	switch {
	case t.operator != "":
		return t.left.text() + " " + t.operator + " " + t.right.text()
	case t.isNumber():
		return value{t.number, t.unit}.String()
	}
	return t.name
}

func (t *term) checkName(knobs map[string]Knob, phases map[string]bool) error {
	if t.phase != "" && !phases[t.phase] {
		return fmt.Errorf("%s: no phase; want quiet, fault, after or the name of a fault", t.phase)
	}
	if knob, isKnob := knobs[t.name]; isKnob && knob.number != nil && !t.isCall && t.phase == "" {
		return nil
	}
	switch {
	case !t.isFunction():
		return fmt.Errorf("%s: neither a knob with a number nor a function", t.name)
	case t.phase != "" && isOfWholeRun(t.name):
		return fmt.Errorf("%s: known of the whole run alone, not of the phase %s", t.name, t.phase)
	case t.name == "failures":
		return checkFailure(t.argument)
	case t.isCall:
		return t.checkArgument()
	}
	return nil
}

// checkArgument reports an argument that is neither a kind of request nor, where the function is of lines, the name of one.
func (t *term) checkArgument() error {
	ops := operations()
	switch {
	case slices.Contains(ops, t.argument) && slices.Contains([]string{"errors", "requests", "p50", "p99", "max"}, t.name):
		return nil
	case slices.Contains([]string{"errors", "requests", "p50", "p99"}, t.name):
		return fmt.Errorf("%s(%s): no kind of request%s", t.name, t.argument, setting.Hint(t.argument, ops))
	case slices.Contains(lines(), t.argument), rig.IsLine(t.argument):
		return nil
	}
	return fmt.Errorf("%s(%s): nothing of that name is measured%s", t.name, t.argument, setting.Hint(t.argument, append(lines(), rig.Lines()...)))
}

// operations returns the kinds of requests.
func operations() []string {
	return []string{result.Opening, result.Playlist, result.Multivariant, result.Segment, result.AuthQuestion}
}

// lines returns the names of the lines that do not depend on the servers.
func lines() []string {
	all := append(viewer.Counts(), "viewers.alive", "bytes", "openings.planned", "openings.started", "openings.dropped")
	for _, op := range operations() {
		for _, of := range []string{"requests.", "errors.", "latency.p50.", "latency.p99.", "latency.max."} {
			all = append(all, of+op)
		}
	}
	return all
}

func (t *term) isFunction() bool {
	if t.isCall {
		return oneArgument(t.name) != nil
	}
	return noArgument(t.name) != nil
}

// checkFailure reports a text that is neither the failure of a status nor another one that viewers meet.
func checkFailure(text string) error {
	const least, most = 100, 999
	code, isStatus := strings.CutPrefix(text, "status ")
	if n, err := strconv.Atoi(code); isStatus && err == nil && n >= least && n <= most {
		return nil
	}
	known := viewer.Failures()
	if slices.Contains(known, text) {
		return nil
	}
	return fmt.Errorf(`failures(%q): no request fails so; want "status 503" or another status, or one of "%s"`, text, strings.Join(known, `", "`))
}

// checkUnits reports times or sizes that are compared with the other, added to it, or so joined with numbers that have no unit.
func checkUnits(a, b *term, knobs map[string]Knob) error {
	left, right := a.unitOf(knobs), b.unitOf(knobs)
	measures := map[string]string{"s": "a time", "B": "a size"}
	switch {
	case left == right:
		return nil
	case measures[left] != "" && measures[right] != "":
		return fmt.Errorf("%s beside %s: they do not compare", measures[left], measures[right])
	case measures[left] != "" && b.isBare(), measures[right] != "" && a.isBare():
		return fmt.Errorf("%s beside a number without a unit; want one such as 20ms or 1MB", measures[cmp.Or(left, right)])
	}
	return nil
}

// isBare reports whether the term consists of numbers without a unit. Zero is one of any unit.
func (t *term) isBare() bool {
	if t.operator != "" {
		return t.left.isBare() && t.right.isBare()
	}
	return t.isNumber() && t.unit == "" && t.number != 0
}

// unitOf returns the unit of a term as far as it is known before the measurement; empty: none, or not known.
func (t *term) unitOf(knobs map[string]Knob) string {
	switch {
	case t.operator != "":
		return joinUnits(t.operator, t.left.unitOf(knobs), t.right.unitOf(knobs))
	case t.isNumber():
		return t.unit
	}
	if knob, isKnob := knobs[t.name]; isKnob && !t.isCall && t.phase == "" {
		return knob.unit
	}
	switch t.name {
	case "lateness", "until", "p50", "p99":
		return "s"
	case "max", "min", "mean", "last":
		return unitOfLine(t.argument)
	}
	return ""
}

// unitOfLine returns the unit of a line or of the latency of a kind of request; empty: neither time nor size.
func unitOfLine(name string) string {
	switch kind, _, _ := strings.Cut(name, "."); kind {
	case "latency", result.Opening, result.Playlist, result.Multivariant, result.Segment, result.AuthQuestion:
		return "s"
	case "memory":
		return "B"
	}
	return ""
}
