package config

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
)

// isScalar reports whether values of the type are a single text.
func isScalar(t reflect.Type) bool {
	v := reflect.Zero(t)
	return readsItself(t) || v.CanInt() || v.CanFloat() || t.Kind() == reflect.String || t.Kind() == reflect.Bool
}

// readsItself reports whether a type has UnmarshalText.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isSecret(t reflect.Type) bool { return t == reflect.TypeFor[setting.Secret]() }

// setText sets a scalar from a text, and leaves it unchanged on an error, which quotes the text.
func setText(v reflect.Value, text string) error {
	read := reflect.New(v.Type())
	fits := true
	switch into := read.Interface().(type) {
	case *time.Duration:
		d, err := parseDuration(text)
		*into, fits = d, err == nil
	case *netip.Prefix:
		p, ok := setting.ParsePrefix(text) // an address is the range of itself alone
		*into, fits = p, ok || text == ""
	case encoding.TextUnmarshaler:
		if err := into.UnmarshalText([]byte(text)); err != nil {
			return err
		}
	default:
		fits = setBasic(read.Elem(), text)
	}
	if !fits {
		return fmt.Errorf("found %.40q, want %s", text, example(v.Type()))
	}
	if err := withinReason(read.Elem()); err != nil {
		return err
	}
	v.Set(read.Elem())
	return nil
}

// The bounds of all settings are far above what a node can use, and below what overflows where settings are multiplied or added up.
const (
	maxCount    = 100_000_000
	maxDuration = 10 * 365 * 24 * time.Hour
	maxSize     = setting.ByteSize(1 << 50)
)

// withinReason returns an error for a number, a duration or a size above its bound. What is too small is for each section to say.
func withinReason(v reflect.Value) error {
	switch value := v.Interface().(type) {
	case time.Duration:
		if value > maxDuration {
			return fmt.Errorf("%v is too long; want at most %v, ten years", value, maxDuration)
		}
	case setting.ByteSize:
		if value > maxSize {
			return fmt.Errorf("%v is too large; want at most %v", value, maxSize)
		}
	default:
		if v.CanInt() && v.Int() > maxCount {
			return fmt.Errorf("%v is too large; want at most %d", value, maxCount)
		}
	}
	return nil
}

// setBasic sets a number, a bool or a text, and reports whether it could.
func setBasic(v reflect.Value, text string) bool {
	switch {
	case v.CanInt():
		if regexp.MustCompile(`^-?\d+(_\d+)*$`).MatchString(text) {
			text = strings.ReplaceAll(text, "_", "")
		}
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
		return err == nil
	case v.CanFloat():
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(f)
		return err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
	case v.Kind() == reflect.Bool:
		v.SetBool(text == "true")
		return text == "true" || text == "false"
	default:
		v.SetString(text)
		return true
	}
}

// parseDuration reads what [time.ParseDuration] reads, and days before it: "2d", "1d12h". A number without a unit is
// refused, because the unit is unclear; "0" needs none.
func parseDuration(text string) (time.Duration, error) {
	if m := regexp.MustCompile(`^(-?)(\d{1,6})d(.*)$`).FindStringSubmatch(text); m != nil {
		days, _ := strconv.Atoi(m[2]) // digits
		text = fmt.Sprintf("%s%dh%s", m[1], days*24, m[3])
	}
	return time.ParseDuration(text)
}

// example says what a value of the type looks like.
func example(t reflect.Type) string {
	byKind := map[reflect.Kind]string{
		reflect.Slice: "a list such as [a, b]", reflect.Map: "a section of named entries, such as name: value",
		reflect.Bool: "true or false", reflect.Float64: "a number such as 0.5", reflect.Struct: "a section, such as key: value",
		reflect.String: "text",
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return example(t.Elem())
	case isSecret(t):
		return "a secret: its text, ${NAME} or file:PATH"
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 10s, 1m30s or 2d"
	case t == reflect.TypeFor[netip.Prefix]():
		return "an address range such as 192.0.2.0/24 or 2001:db8::/48"
	case readsItself(t):
		return "text"
	default:
		return cmp.Or(byKind[t.Kind()], "a whole number such as 10")
	}
}
