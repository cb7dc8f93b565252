package config

import (
	"cmp"
	"encoding"
	"errors"
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

var errNotFit = errors.New("does not fit")

// isScalar reports whether values of the type are a single text.
func isScalar(t reflect.Type) bool { return readsItself(t) || isBasic(t) }

func isBasic(t reflect.Type) bool {
	v := reflect.Zero(t)
	return v.CanInt() || v.CanUint() || v.CanFloat() || t.Kind() == reflect.String || t.Kind() == reflect.Bool
}

// readsItself reports whether a type has UnmarshalText.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// explainsItself reports whether a type's errors say what it wants. Those of the standard library do not.
func explainsItself(t reflect.Type) bool { return readsItself(t) && t.PkgPath() != "net/netip" }

func isSecret(t reflect.Type) bool { return t == reflect.TypeFor[setting.Secret]() }

// setText sets a scalar from a text, and leaves it unchanged on an error. The error says something only if
// explainsItself.
func setText(v reflect.Value, text string) error {
	read := reflect.New(v.Type()).Elem()
	if err := readText(read, text); err != nil {
		return err
	}
	v.Set(read)
	return nil
}

func readText(v reflect.Value, text string) error {
	switch into := v.Addr().Interface().(type) {
	case *time.Duration:
		d, err := parseDuration(text)
		*into = d
		return err
	case *netip.Prefix:
		p, ok := setting.ParsePrefix(text) // an address is the range of itself alone
		if !ok && text != "" {
			return errNotFit
		}
		*into = p
		return nil
	case encoding.TextUnmarshaler:
		return into.UnmarshalText([]byte(text))
	}
	return readBasic(v, text)
}

func readBasic(v reflect.Value, text string) error {
	digits := text
	if regexp.MustCompile(`^-?\d+(_\d+)*$`).MatchString(text) {
		digits = strings.ReplaceAll(text, "_", "")
	}
	switch {
	case v.CanInt():
		n, err := strconv.ParseInt(digits, 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case v.CanUint():
		n, err := strconv.ParseUint(digits, 10, v.Type().Bits())
		v.SetUint(n)
		return err
	case v.CanFloat():
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return errNotFit
		}
		v.SetFloat(f)
		return err
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return errNotFit
		}
		v.SetBool(text == "true")
	default:
		v.SetString(text)
	}
	return nil
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
	byType := map[reflect.Type]string{
		reflect.TypeFor[setting.Secret](): "a secret: its text, ${NAME} or file:PATH",
		reflect.TypeFor[time.Duration]():  "a duration such as 10s, 1m30s or 2d",
		reflect.TypeFor[netip.Prefix]():   "an address range such as 192.0.2.0/24 or 2001:db8::/48",
		reflect.TypeFor[netip.Addr]():     "an address such as 192.0.2.7",
		reflect.TypeFor[netip.AddrPort](): "an address and port such as 192.0.2.7:8080",
	}
	byKind := map[reflect.Kind]string{
		reflect.Slice: "a list such as [a, b]", reflect.Map: "a section of named entries, such as name: value",
		reflect.Bool: "true or false", reflect.Float64: "a number such as 0.5", reflect.Struct: "a section, such as key: value",
	}
	switch v := reflect.Zero(t); {
	case byType[t] != "":
		return byType[t]
	case t.Kind() == reflect.Pointer:
		return example(t.Elem())
	case readsItself(t) && t.Kind() == reflect.Struct:
		return "text or a section"
	case readsItself(t):
		return "text"
	case v.CanInt(), v.CanUint():
		return "a whole number such as 10"
	default:
		return cmp.Or(byKind[t.Kind()], "text")
	}
}
