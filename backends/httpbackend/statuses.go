package httpbackend

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"usher/backends"
)

// Outcome is what an HTTP status means.
type Outcome uint8

// The outcomes. OutcomeRedirect denies and sends the viewer where the answer says; OutcomeFollow goes there and asks
// again. Both mean a No if the answer names no place.
const (
	OutcomeDeny Outcome = iota
	OutcomeAllow
	OutcomeFailure
	OutcomeRedirect
	OutcomeFollow
)

// String is the outcome as the config spells it.
func (o Outcome) String() string {
	return [...]string{"deny", "allow", "failure", "redirect", "follow"}[o]
}

// MarshalText spells the outcome as the config does.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what the config spells.
func (o *Outcome) UnmarshalText(text []byte) error {
	for candidate := OutcomeDeny; candidate <= OutcomeFollow; candidate++ {
		if candidate.String() == string(text) {
			*o = candidate
			return nil
		}
	}
	return fmt.Errorf("status outcome %q: want allow, deny, failure, redirect or follow", text)
}

// Statuses overrides what statuses mean: keys are a status ("404") or a class ("5xx"); a status wins over its class.
type Statuses map[string]Outcome

// Validate reports every key that is neither, and every outcome that the status cannot have.
func (s Statuses) Validate() error {
	var errs []error
	for _, pattern := range sortedKeys(s) {
		first, _, err := statusRange(pattern)
		switch {
		case err != nil:
			errs = append(errs, err)
		case s[pattern] >= OutcomeRedirect && first/100 != 3:
			errs = append(errs, fmt.Errorf("statuses.%s: %s is for 3xx only", pattern, s[pattern]))
		}
	}
	return errors.Join(errs...)
}

// meaning is an outcome, and what it makes suspect.
type meaning struct {
	outcome Outcome
	alarms  []backends.Alarm
}

const firstStatus, lastStatus = 100, 599

// StatusTable is what each HTTP status means to one backend. It is not changed after it was made, so it may be shared.
type StatusTable struct {
	preset Preset
	means  [lastStatus - firstStatus + 1]meaning
}

// NewStatusTable is the preset's table with the overrides on top.
func NewStatusTable(preset Preset, overrides Statuses) (*StatusTable, error) {
	if err := overrides.Validate(); err != nil {
		return nil, err
	}
	t := &StatusTable{preset: preset}
	for i := range t.means {
		t.means[i] = meaning{OutcomeDeny, []backends.Alarm{backends.AlarmUnexpectedStatus}}
	}
	t.set(presetRules(preset))
	rules := make([]presetRule, 0, len(overrides))
	for pattern, outcome := range overrides {
		rules = append(rules, presetRule{pattern, meaning{outcome: outcome}})
	}
	t.set(rules)
	return t, nil
}

// set puts rules on top of what is there, classes before single statuses.
func (t *StatusTable) set(rules []presetRule) {
	for _, classes := range []bool{true, false} {
		for _, rule := range rules {
			first, last, _ := statusRange(rule.pattern)
			if (first != last) != classes {
				continue
			}
			for status := first; status <= last; status++ {
				t.means[status-firstStatus] = rule.means
			}
		}
	}
}

// meaningOf is what the status means; one outside of HTTP is a failure.
func (t *StatusTable) meaningOf(status int) meaning {
	if status < firstStatus || status > lastStatus {
		return meaning{OutcomeFailure, []backends.Alarm{backends.AlarmUnexpectedStatus}}
	}
	return t.means[status-firstStatus]
}

// Follows reports whether a redirect with that status is followed.
func (t *StatusTable) Follows(status int) bool { return t.meaningOf(status).outcome == OutcomeFollow }

// statusRange reads "404" or "5xx".
func statusRange(pattern string) (first, last int, err error) {
	wrong := fmt.Errorf("statuses.%s: want a status such as 404 or a class such as 5xx", pattern)
	if len(pattern) != 3 || pattern[0] < '1' || pattern[0] > '5' {
		return 0, 0, wrong
	}
	if pattern[1:] == "xx" {
		first = int(pattern[0]-'0') * 100
		return first, first + 99, nil
	}
	first, err = strconv.Atoi(pattern)
	if err != nil {
		return 0, 0, wrong
	}
	return first, first, nil
}

func sortedKeys(s Statuses) []string {
	return slices.Sorted(maps.Keys(s))
}
