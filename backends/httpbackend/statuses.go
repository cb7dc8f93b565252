package httpbackend

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"usher/backends"
)

// Outcome is the meaning of an HTTP status.
type Outcome uint8

// The outcomes.
const (
	// OutcomeDeny is a denial.
	OutcomeDeny Outcome = iota
	// OutcomeAllow is an allowance.
	OutcomeAllow
	// OutcomeFailure is no answer.
	OutcomeFailure
	// OutcomeRedirect denies and redirects the viewer to the answer's Location. Without one it denies.
	OutcomeRedirect
	// OutcomeFollow repeats the call at the answer's Location. Without one it denies; one that is no http or https address is a failure.
	OutcomeFollow
)

// String returns the outcome as the config spells it.
func (o Outcome) String() string {
	return [...]string{"deny", "allow", "failure", "redirect", "follow"}[o]
}

// MarshalText returns the outcome as the config spells it.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText parses an outcome of the config.
func (o *Outcome) UnmarshalText(text []byte) error {
	for candidate := OutcomeDeny; candidate <= OutcomeFollow; candidate++ {
		if candidate.String() == string(text) {
			*o = candidate
			return nil
		}
	}
	return fmt.Errorf("status outcome %q: want allow, deny, failure, redirect or follow", text)
}

// Statuses overrides what statuses mean. A key is a status ("404") or a class ("5xx"). A status wins over its class.
type Statuses map[string]Outcome

// Validate reports every invalid key, and every outcome that its status cannot have.
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

// Warnings says what it costs that a status other than 2xx allows.
func (s Statuses) Warnings() error {
	var errs []error
	for _, pattern := range sortedKeys(s) {
		if s[pattern] != OutcomeAllow {
			continue
		}
		price := ""
		switch first, _, _ := statusRange(pattern); first / 100 {
		case 3:
			price = "a redirect to a login page lets every viewer in"
		case 4:
			price = "a refusal or a wrong address lets every viewer in"
		case 5:
			price = "a broken backend lets every viewer in, and no outage is noticed"
		default:
			continue
		}
		errs = append(errs, fmt.Errorf("statuses.%s: allow: %s; want deny, or failure to follow on_failure", pattern, price))
	}
	return errors.Join(errs...)
}

// statusMeaning is the outcome of a status, and the alarms that it raises.
type statusMeaning struct {
	outcome Outcome
	alarms  []backends.Alarm
}

const firstStatus, lastStatus = 100, 599

// StatusTable holds the meaning of each HTTP status and redirect of one backend. It is immutable.
type StatusTable struct {
	preset    Preset
	redirects Redirects
	meanings  [lastStatus - firstStatus + 1]statusMeaning
}

// NewStatusTable returns the preset's table with the overrides applied. A status of overrides wins over redirects.
func NewStatusTable(preset Preset, redirects Redirects, overrides Statuses) (*StatusTable, error) {
	if err := overrides.Validate(); err != nil {
		return nil, err
	}
	t := &StatusTable{preset: preset, redirects: redirects}
	for i := range t.meanings {
		t.meanings[i] = statusMeaning{OutcomeDeny, []backends.Alarm{backends.AlarmUnexpectedStatus}}
	}
	t.set(presetRules(preset))
	t.set(redirects.rules())
	rules := make([]presetRule, 0, len(overrides))
	for pattern, outcome := range overrides {
		rules = append(rules, presetRule{pattern, statusMeaning{outcome: outcome}})
	}
	t.set(rules)
	return t, nil
}

// set applies rules, classes before single statuses.
func (t *StatusTable) set(rules []presetRule) {
	for _, classes := range []bool{true, false} {
		for _, rule := range rules {
			first, last, _ := statusRange(rule.pattern)
			if (first != last) != classes {
				continue
			}
			for status := first; status <= last; status++ {
				t.meanings[status-firstStatus] = rule.meaning
			}
		}
	}
}

// meaningOf returns what the status means. A status outside of HTTP is a failure.
func (t *StatusTable) meaningOf(status int) statusMeaning {
	if status < firstStatus || status > lastStatus {
		return statusMeaning{OutcomeFailure, []backends.Alarm{backends.AlarmUnexpectedStatus}}
	}
	return t.meanings[status-firstStatus]
}

// Follows reports whether a redirect with that status is followed.
func (t *StatusTable) Follows(status int) bool { return t.meaningOf(status).outcome == OutcomeFollow }

// followsAny reports whether redirects with any status are followed.
func (t *StatusTable) followsAny() bool {
	return slices.ContainsFunc(t.meanings[:], func(m statusMeaning) bool { return m.outcome == OutcomeFollow })
}

// statusRange parses "404" or "5xx".
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
