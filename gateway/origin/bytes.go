package origin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. Its text is a whole number with an optional unit: B; kB, MB, GB, TB (powers of 1000);
// KiB, MiB, GiB, TiB (powers of 1024). Case does not matter.
type Bytes int64

// The units of default sizes.
const (
	KiB Bytes = 1 << 10
	MiB Bytes = 1 << 20
	GiB Bytes = 1 << 30
)

type byteUnit struct {
	name string
	size Bytes
}

// byteUnits returns the units in the order in which String prefers them.
func byteUnits() [9]byteUnit {
	return [...]byteUnit{
		{"TiB", 1 << 40},
		{"GiB", GiB},
		{"MiB", MiB},
		{"KiB", KiB},
		{"TB", 1e12},
		{"GB", 1e9},
		{"MB", 1e6},
		{"kB", 1e3},
		{"B", 1},
	}
}

// UnmarshalText parses "512MiB", "64kB" or "1048576". Negative sizes and fractions are errors.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	digits := s
	if i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = s[:i]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return fmt.Errorf("size %q: want a whole number with a unit such as kB, MiB or GiB", s)
	}
	size, ok := unitSize(strings.TrimSpace(s[len(digits):]))
	if !ok {
		return fmt.Errorf("size %q: unknown unit, want one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB", s)
	}
	if n > math.MaxInt64/int64(size) {
		return fmt.Errorf("size %q: too large", s)
	}
	*b = Bytes(n) * size
	return nil
}

// MarshalText returns the text of String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String returns the size in the largest unit that divides it: "512MiB", "64kB", "1000001B".
func (b Bytes) String() string {
	if b == 0 {
		return "0"
	}
	for _, u := range byteUnits() {
		if b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func unitSize(name string) (Bytes, bool) {
	if name == "" {
		return 1, true
	}
	for _, u := range byteUnits() {
		if strings.EqualFold(name, u.name) {
			return u.size, true
		}
	}
	return 0, false
}
