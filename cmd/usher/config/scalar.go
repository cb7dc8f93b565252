package config

import (
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

const day = 24 * time.Hour

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
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" { // the range of this address alone
			*into = netip.PrefixFrom(addr, addr.BitLen())
			return nil
		}
		return into.UnmarshalText([]byte(text))
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

// formatDuration formats a duration as operators write it: "2d", "1m30s", "0s".
func formatDuration(d time.Duration) string {
	switch {
	case d >= day && d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	case d >= day:
		return formatDuration(d-d%day) + formatDuration(d%day)
	case d < 0 && d != math.MinInt64:
		return "-" + formatDuration(-d)
	}
	text := d.String()
	for _, empty := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, empty) {
			text = text[:len(text)-len("0s")]
		}
	}
	return text
}

// example says what a value of the type looks like.
func example(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[setting.Secret]():
		return "a secret: its text, ${NAME} or file:PATH"
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 10s, 1m30s or 2d"
	case reflect.TypeFor[netip.Prefix]():
		return "an address range such as 192.0.2.0/24 or 2001:db8::/48"
	case reflect.TypeFor[netip.Addr]():
		return "an address such as 192.0.2.7"
	case reflect.TypeFor[netip.AddrPort]():
		return "an address and port such as 192.0.2.7:8080"
	}
	switch v := reflect.Zero(t); {
	case t.Kind() == reflect.Pointer:
		return example(t.Elem())
	case t.Kind() == reflect.Slice:
		return "a list such as [a, b]"
	case t.Kind() == reflect.Map:
		return "a section of named entries, such as name: value"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case v.CanFloat():
		return "a number such as 0.5"
	case v.CanInt(), v.CanUint():
		return exampleNumber(t, v.CanUint())
	case t.Kind() == reflect.Struct && !readsItself(t):
		return "a section, such as key: value"
	default:
		return "text"
	}
}

func exampleNumber(t reflect.Type, isUnsigned bool) string {
	const whole = "a whole number such as 10"
	switch most := uint64(1)<<(t.Bits()-1) - 1; {
	case t.Bits() < 64 && isUnsigned:
		return fmt.Sprintf("%s, from 0 to %d", whole, most*2+1)
	case t.Bits() < 64:
		return fmt.Sprintf("%s, from %d to %d", whole, -int64(most)-1, most)
	case isUnsigned:
		return whole + ", not below 0"
	default:
		return whole
	}
}
