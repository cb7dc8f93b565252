package pace

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var errForm = errors.New(`want "50/s", "ramp 0..500/s over 30s", "steps 100/s, 200/s every 10s", "poisson 100/s" ` +
	`or "all at once 1000"`)

// Parse parses the text of a pace. The package comment lists the forms.
func Parse(text string) (Pace, error) {
	words := strings.Fields(text)
	p, err := parse(words)
	if err != nil {
		return nil, fmt.Errorf("pace %q: %w", text, err)
	}
	return p, nil
}

func parse(words []string) (Pace, error) {
	if len(words) == 0 {
		return nil, errForm
	}
	switch words[0] {
	case "ramp":
		return parseRamp(words)
	case "steps":
		return parseSteps(words)
	case "poisson":
		return parsePoisson(words)
	case "all":
		return parseAtOnce(words)
	}
	if len(words) > 1 {
		return nil, errForm
	}
	rate, err := parseRate(words[0])
	return Constant(rate), err
}

func parseRamp(words []string) (Pace, error) {
	if len(words) != 4 || words[2] != "over" {
		return nil, errForm
	}
	from, to, found := strings.Cut(words[1], "..")
	if !found {
		return nil, errForm
	}
	first, err := parseRate(strings.TrimSuffix(from, "/s") + "/s")
	if err != nil {
		return nil, err
	}
	last, err := parseRate(to)
	if err != nil {
		return nil, err
	}
	over, err := parseDuration(words[3])
	return Ramp{From: first, To: last, Over: over}, err
}

func parseSteps(words []string) (Pace, error) {
	n := len(words)
	if n < 4 || words[n-2] != "every" {
		return nil, errForm
	}
	var s Steps
	for text := range strings.SplitSeq(strings.Join(words[1:n-2], ""), ",") {
		rate, err := parseRate(text)
		if err != nil {
			return nil, err
		}
		s.Rates = append(s.Rates, rate)
	}
	var err error
	s.Every, err = parseDuration(words[n-1])
	return s, err
}

func parsePoisson(words []string) (Pace, error) {
	if len(words) != 2 && (len(words) != 4 || words[2] != "seed") {
		return nil, errForm
	}
	rate, err := parseRate(words[1])
	if err != nil {
		return nil, err
	}
	if rate < minPoisson {
		return nil, fmt.Errorf("a rate of %v/s: want at least %v/s", rate, minPoisson)
	}
	seed := uint64(1)
	if len(words) == 4 {
		if seed, err = strconv.ParseUint(words[3], 10, 64); err != nil {
			return nil, errForm
		}
	}
	return Poisson(rate, seed), nil
}

func parseAtOnce(words []string) (Pace, error) {
	if len(words) != 4 || words[1] != "at" || words[2] != "once" {
		return nil, errForm
	}
	n, err := strconv.Atoi(words[3])
	if err != nil || n < 1 || n > maxRate {
		return nil, errForm
	}
	return AtOnce(n), nil
}

// minPoisson keeps the length of a cell a duration.
const minPoisson = 1e-3

func parseRate(text string) (float64, error) {
	number, found := strings.CutSuffix(text, "/s")
	rate, err := strconv.ParseFloat(number, 64)
	if !found || err != nil {
		return 0, errForm
	}
	if !validRate(rate) {
		return 0, fmt.Errorf("a rate of %s: want 0/s to %.0f/s", text, maxRate)
	}
	return rate, nil
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, errForm
	}
	return d, nil
}
