package scenario

import (
	"cmp"
	"fmt"
	"strings"
	"time"
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
