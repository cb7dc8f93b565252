package config

import (
	"encoding"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/backends/setting"
)

// Print writes the settings of a struct, or of a pointer to one, as YAML that Parse reads back to the same values:
// defaults included, durations as texts, every secret that is set as [hidden]. A nil pointer's key is left out. It
// fails if w does, or on a type that no file can hold.
func Print(w io.Writer, settings any) error {
	v := reflect.ValueOf(settings)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return fmt.Errorf("BUG: print %T, want a struct", settings)
	}
	lines, err := linesOf(copyOf(v))
	if err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return fmt.Errorf("print the config: %w", err)
		}
	}
	return nil
}

// linesOf returns a section as a block, or "{}" for one without keys.
func linesOf(v reflect.Value) ([]string, error) {
	var lines []string
	entries, err := entriesOf(v)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		more, err := entryLines(e.key, e.value)
		if err != nil {
			return nil, err
		}
		lines = append(lines, more...)
	}
	if len(lines) == 0 {
		return []string{"{}"}, nil
	}
	return lines, nil
}

// entriesOf returns a struct's keys in the order of its fields, or a map's keys sorted.
func entriesOf(v reflect.Value) ([]field, error) {
	if v.Kind() == reflect.Struct {
		return fieldsOf(v)
	}
	byKey := map[string]reflect.Value{}
	for entries := v.MapRange(); entries.Next(); {
		key, err := scalarString(entries.Key())
		if err != nil {
			return nil, err
		}
		byKey[key] = copyOf(entries.Value())
	}
	var all []field
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		all = append(all, field{key: key, value: byKey[key]})
	}
	return all, nil
}

func entryLines(key string, v reflect.Value) ([]string, error) {
	key = quote(key)
	for v.Kind() == reflect.Pointer && !isScalar(v.Type()) {
		if v.IsNil() {
			return nil, nil
		}
		v = v.Elem()
	}
	switch t := v.Type(); {
	case isScalar(t):
		text, err := printed(v)
		return []string{key + ": " + text}, err
	case t.Kind() == reflect.Slice && (v.Len() == 0 || isScalar(t.Elem())):
		text, err := flowList(v)
		return []string{key + ": " + text}, err
	case t.Kind() == reflect.Slice:
		lines, err := blockList(v)
		return append([]string{key + ":"}, indent(lines, "  ", "  ")...), err
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		lines, err := linesOf(v)
		if len(lines) == 1 && lines[0] == "{}" {
			return []string{key + ": {}"}, err
		}
		return append([]string{key + ":"}, indent(lines, "  ", "  ")...), err
	default:
		return nil, fmt.Errorf("BUG: a setting cannot be of type %s", t)
	}
}

func flowList(v reflect.Value) (string, error) {
	items := make([]string, v.Len())
	for i := range items {
		text, err := printed(v.Index(i))
		if err != nil {
			return "", err
		}
		items[i] = text
	}
	return "[" + strings.Join(items, ", ") + "]", nil
}

func blockList(v reflect.Value) ([]string, error) {
	var all []string
	for i := range v.Len() {
		item := v.Index(i)
		for item.Kind() == reflect.Pointer && !item.IsNil() {
			item = item.Elem()
		}
		lines, err := itemLines(item)
		if err != nil {
			return nil, err
		}
		all = append(all, indent(lines, "- ", "  ")...)
	}
	return all, nil
}

func itemLines(item reflect.Value) ([]string, error) {
	switch t := item.Type(); {
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return linesOf(item)
	case t.Kind() == reflect.Slice && (item.Len() == 0 || isScalar(t.Elem())):
		text, err := flowList(item)
		return []string{text}, err
	case t.Kind() == reflect.Slice:
		return blockList(item)
	default:
		return nil, fmt.Errorf("BUG: a list cannot hold %s", t)
	}
}

func indent(lines []string, first, rest string) []string {
	moved := make([]string, len(lines))
	for i, line := range lines {
		moved[i] = rest + line
	}
	if len(moved) > 0 {
		moved[0] = first + lines[0]
	}
	return moved
}

// printed returns a scalar as it is written in a file.
func printed(v reflect.Value) (string, error) {
	text, err := scalarString(v)
	if t := v.Type(); t == reflect.TypeFor[time.Duration]() || t == reflect.TypeFor[setting.ByteSize]() || t.Kind() != reflect.String && isBasic(t) {
		return text, err // YAML's own: true, 10, 0.5; a duration or a size needs no quotes either
	}
	return strings.ReplaceAll(quote(text), "$", "$$"), err
}

// scalarString returns the text of a scalar without quotes. Secrets are hidden.
func scalarString(v reflect.Value) (string, error) {
	switch value := v.Interface().(type) {
	case setting.Secret:
		if value == "" {
			return "", nil
		}
		return setting.Hidden, nil
	case time.Duration:
		return formatDuration(value), nil
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		return string(text), err
	}
	if v.CanAddr() {
		if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v.Addr()); ok {
			text, err := m.MarshalText()
			return string(text), err
		}
	}
	switch t := v.Type(); {
	case t.Kind() == reflect.String:
		return v.String(), nil
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, t.Bits()), nil
	case t.Kind() == reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case isWhole(t):
		return strconv.FormatInt(v.Int(), 10), nil
	case isNatural(t):
		return strconv.FormatUint(v.Uint(), 10), nil
	default:
		return "", fmt.Errorf("BUG: %s reads texts but writes none", t)
	}
}

// quote returns the text as YAML, with quotes unless it is unambiguous without.
func quote(text string) string {
	if isBare(text) {
		return text
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isBare reports whether the text needs no quotes: it looks like a name or a path, and is not a YAML keyword.
func isBare(text string) bool {
	switch strings.ToLower(text) {
	case "", "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return false
	}
	for i, r := range text {
		if !isBareStart(r) && (i == 0 || !isBareInside(r)) {
			return false
		}
	}
	return true
}

func isBareStart(r rune) bool {
	return r == '_' || r == '/' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

func isBareInside(r rune) bool { return '0' <= r && r <= '9' || r == '.' || r == '-' }
