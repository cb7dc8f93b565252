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
	return max(0, int64((d+time.Millisecond-1)/time.Millisecond))
}

// UnixOrZero returns a script's argument for a time: Unix seconds, or 0 for the zero time.
func UnixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
