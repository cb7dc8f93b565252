package setting

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ByteSize is a size in bytes. As text it is a whole number with an optional unit: B; kB, MB, GB, TB (powers of 1000);
// KiB, MiB, GiB, TiB (powers of 1024). Case does not matter.
type ByteSize int64

// The sizes that defaults are made of.
const (
	KiB ByteSize = 1 << 10
	MiB ByteSize = 1 << 20
	GiB ByteSize = 1 << 30
)

type byteUnit struct {
	name string
	size ByteSize
}

// byteUnits lists the units, those that String prefers first.
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

// UnmarshalText reads "512MiB", "64kB" or "1048576". Negative sizes and fractions are refused.
func (b *ByteSize) UnmarshalText(text []byte) error {
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
	*b = ByteSize(n) * size
	return nil
}

// MarshalText writes what String shows.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// String is the size in the largest unit that holds it exactly: "512MiB", "64kB", "1000001B".
func (b ByteSize) String() string {
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

func unitSize(name string) (ByteSize, bool) {
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
