package config

import (
	"encoding"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
)

// isScalar reports whether values of the type are a single text.
func isScalar(t reflect.Type) bool {
	return readsItself(t) || isBasic(t)
}

// isBasic reports whether a type is a basic type of Go without UnmarshalText.
func isBasic(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64:
		return !readsItself(t)
	default:
		return (isWhole(t) || isNatural(t)) && !readsItself(t)
	}
}

// readsItself reports whether a type has UnmarshalText.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func isWhole(t reflect.Type) bool   { return reflect.Int <= t.Kind() && t.Kind() <= reflect.Int64 }
func isNatural(t reflect.Type) bool { return reflect.Uint <= t.Kind() && t.Kind() <= reflect.Uint64 }
func isSecret(t reflect.Type) bool  { return t == reflect.TypeFor[setting.Secret]() }

// setText sets a scalar from a text, and leaves it unchanged on an error. The error is a [wanted], which never quotes
// the text, or the error of the type's own UnmarshalText.
func setText(v reflect.Value, text string) error {
	read := reflect.New(v.Type()).Elem()
	if err := readText(read, text); err != nil {
		return err
	}
	v.Set(read)
	return nil
}

func readText(v reflect.Value, text string) error {
	t := v.Type()
	switch t {
	case reflect.TypeFor[time.Duration]():
		d, err := parseDuration(text)
		v.SetInt(int64(d))
		return wantIf(err, t)
	case reflect.TypeFor[netip.Prefix]():
		prefix, err := parsePrefix(text)
		v.Set(reflect.ValueOf(prefix))
		return wantIf(err, t)
	}
	u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
	if !ok {
		return readBasic(v, text)
	}
	err := u.UnmarshalText([]byte(text))
	if t == reflect.TypeFor[netip.Addr]() || t == reflect.TypeFor[netip.AddrPort]() {
		return wantIf(err, t)
	}
	return err
}

func readBasic(v reflect.Value, text string) error {
	t := v.Type()
	var err error
	switch {
	case t.Kind() == reflect.String:
		v.SetString(text)
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return wanted{t}
		}
		v.SetBool(text == "true")
	case isWhole(t):
		var n int64
		n, err = strconv.ParseInt(withoutSeparators(text), 10, t.Bits())
		v.SetInt(n)
	case isNatural(t):
		var n uint64
		n, err = strconv.ParseUint(withoutSeparators(text), 10, t.Bits())
		v.SetUint(n)
	default:
		var f float64
		f, err = strconv.ParseFloat(text, t.Bits())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return wanted{t}
		}
		v.SetFloat(f)
	}
	return wantIf(err, t)
}

// withoutSeparators removes the underscores of 1_000_000, and leaves a leading, trailing or doubled underscore.
func withoutSeparators(text string) string {
	if strings.HasPrefix(text, "_") || strings.HasSuffix(text, "_") || strings.Contains(text, "__") {
		return text
	}
	return strings.ReplaceAll(text, "_", "")
}

// parsePrefix parses an address range. A single address is the range with only that address. An empty text is an error.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	var prefix netip.Prefix
	err := prefix.UnmarshalText([]byte(text))
	return prefix, err
}

// wanted is the error that says what values of a type look like. Callers add the text that was found if it may be shown.
type wanted struct{ t reflect.Type }

func wantIf(err error, t reflect.Type) error {
	if err == nil {
		return nil
	}
	return wanted{t}
}

// Error returns "want …" with an example.
func (w wanted) Error() string { return "want " + example(w.t) }

// example says what a value of the type looks like.
func example(t reflect.Type) string {
	if text, found := exampleOfType(t); found {
		return text
	}
	switch {
	case readsItself(t):
		return "text"
	case isWhole(t) || isNatural(t):
		return exampleOfNumber(t)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return example(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number such as 0.5"
	case reflect.Slice:
		return "a list such as [a, b]"
	case reflect.Map:
		return "a section of named entries, such as name: value"
	case reflect.Struct:
		return "a section, such as key: value"
	default:
		return "text"
	}
}

// exampleOfType says what a value of a type with texts of its own looks like.
func exampleOfType(t reflect.Type) (text string, found bool) {
	switch t {
	case reflect.TypeFor[setting.Secret]():
		return "a secret: its text, ${NAME} or file:PATH", true
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 10s, 1m30s or 2d", true
	case reflect.TypeFor[netip.Prefix]():
		return "an address range such as 192.0.2.0/24 or 2001:db8::/48", true
	case reflect.TypeFor[netip.Addr]():
		return "an address such as 192.0.2.7", true
	case reflect.TypeFor[netip.AddrPort]():
		return "an address and port such as 192.0.2.7:8080", true
	default:
		return "", false
	}
}

// exampleOfNumber says what a whole number of the type looks like.
func exampleOfNumber(t reflect.Type) string {
	switch {
	case isWhole(t) && t.Bits() < 64:
		bound := int64(math.MaxInt64) >> (64 - t.Bits())
		return fmt.Sprintf("a whole number such as 10, from %d to %d", -bound-1, bound)
	case isNatural(t) && t.Bits() < 64:
		return fmt.Sprintf("a whole number such as 10, from 0 to %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	case isWhole(t):
		return "a whole number such as 10"
	default:
		return "a whole number such as 10, not below 0"
	}
}
