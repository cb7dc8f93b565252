package redisclient

import "time"

// List returns a reply's elements, or nil if it is not a list.
func List(reply any) []any {
	l, _ := reply.([]any)
	return l
}

// Int returns a reply's number, or 0 if it is not a number.
func Int(reply any) int64 {
	n, _ := reply.(int64)
	return n
}

// Text returns a reply's string, or "" if it is not a string.
func Text(reply any) string {
	s, _ := reply.(string)
	return s
}

// ParseName returns the value, from first to last, whose String is the name. Redis holds names, since the numbers may
// change from version to version.
func ParseName[T interface {
	~uint8
	String() string
}](name string, first, last T) (value T, known bool) {
	for v := first; v <= last; v++ {
		if v.String() == name {
			return v, true
		}
	}
	return first, false
}

// Flag returns a script's argument for a boolean: "1" or "0".
func Flag(isSet bool) string {
	if isSet {
		return "1"
	}
	return "0"
}

// Millis returns a script's argument for a duration: milliseconds, rounded up so that a rest of time never becomes zero,
// and at least 0.
func Millis(d time.Duration) int64 {
	ms := d.Milliseconds()
	if d > time.Duration(ms)*time.Millisecond {
		ms++
	}
	return max(0, ms)
}

// maxDuration bounds what [Duration] returns: two of them can be added.
const maxDuration = 100 * 365 * 24 * time.Hour

// Duration returns a duration that Redis or another node gives in ms. A greater one than 100 years becomes that, since it would
// overflow, and what should hold forever would have ended; likewise a smaller one than -100 years.
func Duration(ms int64) time.Duration {
	limit := maxDuration.Milliseconds()
	return time.Duration(max(-limit, min(ms, limit))) * time.Millisecond
}

// UnixOrZero returns a script's argument for a time: Unix seconds, or 0 for the zero time.
func UnixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
