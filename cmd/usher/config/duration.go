package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var errDuration = errors.New("not a duration")

// parseDuration reads what [time.ParseDuration] reads, and days before it: "2d", "1d12h". A number without a unit is
// refused, because the unit is unclear; "0" needs none.
func parseDuration(text string) (time.Duration, error) {
	unsigned, negative := strings.CutPrefix(text, "-")
	days, rest, ok := strings.Cut(unsigned, "d")
	if !ok {
		return time.ParseDuration(text)
	}
	whole, err := parseDays(days)
	if err != nil {
		return 0, err
	}
	if rest != "" {
		if strings.ContainsAny(rest, "+-") {
			return 0, errDuration
		}
		part, err := time.ParseDuration(rest)
		if err != nil || part > math.MaxInt64-whole {
			return 0, errDuration
		}
		whole += part
	}
	if negative {
		return -whole, nil
	}
	return whole, nil
}

func parseDays(digits string) (time.Duration, error) {
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > uint64(math.MaxInt64/day) {
		return 0, errDuration
	}
	return time.Duration(n) * day, nil
}

// formatDuration formats a duration as operators write it: "2d", "1m30s", "0s".
func formatDuration(d time.Duration) string {
	sign := ""
	if d < 0 && d != math.MinInt64 {
		sign, d = "-", -d
	}
	days := ""
	if d >= day {
		days, d = strconv.FormatInt(int64(d/day), 10)+"d", d%day
	}
	if d == 0 && days != "" {
		return sign + days
	}
	text := d.String()
	for _, empty := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, empty) {
			text = text[:len(text)-len("0s")]
		}
	}
	return sign + days + text
}
