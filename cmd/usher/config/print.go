package config

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

// Print writes the settings of a struct, or of a pointer to one, as YAML that Parse reads: defaults included, every secret
// that is set as [hidden], and so the credentials in URLs. It fails if w does, or on a type that no file can hold.
func Print(w io.Writer, settings any) error {
	printed, err := dump(settings, 0)
	if err == nil {
		_, err = w.Write(printed)
	}
	if err != nil {
		return fmt.Errorf("print the config: %w", err)
	}
	return nil
}

// dump returns a value as Print writes it.
func dump(value any, style yaml.Style) ([]byte, error) {
	var n yaml.Node
	if err := n.Encode(value); err != nil {
		return nil, err
	}
	tidy(&n)
	n.Style |= style
	return yaml.Dump(&n, yaml.WithLineWidth(-1), yaml.WithCompactSeqIndent(false), yaml.WithQuotePreference(yaml.QuoteDouble))
}

// tidy hides credentials in URLs, escapes what Parse would expand, and puts lists of scalars on one line.
func tidy(n *yaml.Node) {
	n.Value = strings.ReplaceAll(redactURLs(n.Value), "$", "$$")
	n.Style &^= yaml.SingleQuotedStyle // Dump quotes what needs it
	isFlat := n.Kind == yaml.SequenceNode
	for i, c := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 { // keys are not expanded
			tidy(c)
		}
		isFlat = isFlat && c.Kind == yaml.ScalarNode
	}
	if isFlat {
		n.Style = yaml.FlowStyle
	}
}

// redactURLs hides users, passwords, parameter values, parameters without a name, and fragments of the URL that a text ends
// with. It may hold spaces.
func redactURLs(text string) string {
	const hidden = setting.Hidden
	address := regexp.MustCompile(`(?is)[a-z][a-z0-9+.-]*://.*`)
	return address.ReplaceAllStringFunc(text, func(a string) string {
		a = regexp.MustCompile(`(?s)#.+`).ReplaceAllLiteralString(a, "#"+hidden)
		place, query, hasQuery := strings.Cut(a, "?")
		place = regexp.MustCompile(`//[^/#]*@`).ReplaceAllLiteralString(place, "//"+hidden+"@")
		if hasQuery {
			query = "?" + regexp.MustCompile(`(^|&)(?:([^=&#]*=)[^&#]*|[^&#]+)`).ReplaceAllString(query, "${1}${2}"+hidden)
		}
		return place + query
	})
}

// Change is a setting that two settings structs have differently.
type Change struct {
	// Path is the setting's path. Of a list with more or fewer entries it is the list's.
	Path string
	// Before and After are the values as YAML on one line, secrets and credentials in URLs hidden; empty: there is none.
	Before, After string
}

// Changes returns what differs between two settings structs of one type, or pointers to them, in the order of the paths.
func Changes(before, after any) []Change {
	var all []Change
	addChanges(reflect.ValueOf(before), reflect.ValueOf(after), "", &all)
	slices.SortFunc(all, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// addChanges adds what differs between two values.
func addChanges(before, after reflect.Value, path string, to *[]Change) {
	before, after = resolve(before), resolve(after)
	old, now := partsOf(before, path), partsOf(after, path)
	switch {
	case isSame(before, after):
	case !before.IsValid() || !after.IsValid() || before.Type() != after.Type(),
		before.Kind() == reflect.Slice && len(old) != len(now), len(old)+len(now) == 0:
		*to = append(*to, Change{path, inline(before), inline(after)})
	default:
		all := maps.Clone(old)
		maps.Copy(all, now)
		for part := range all {
			addChanges(old[part], now[part], part, to)
		}
	}
}

// partsOf returns the settings of a section, the entries of a map, and the sections of a list, by their paths. Other values
// have none.
func partsOf(v reflect.Value, path string) map[string]reflect.Value {
	parts := map[string]reflect.Value{}
	switch v.Kind() {
	case reflect.Struct:
		fields, _ := fieldsOf(v)
		for key, field := range fields {
			parts[join(path, key)] = field
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			parts[join(path, key.String())] = v.MapIndex(key)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if item := resolve(v.Index(i)); len(partsOf(item, "")) > 0 {
				parts[index(path, i)] = item
			}
		}
	default:
	}
	return parts
}

// isSame reports whether two values are the same. An empty list is one that is not given.
func isSame(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	areEmptyLists := a.Kind() == reflect.Slice && b.Kind() == reflect.Slice && a.Len()+b.Len() == 0
	return areEmptyLists || reflect.DeepEqual(a.Interface(), b.Interface())
}

// resolve returns what a pointer or an interface leads to; nothing if it is nil.
func resolve(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

// inline returns a value as YAML on one line; empty for no value.
func inline(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	text, err := dump(v.Interface(), yaml.FlowStyle)
	if err != nil {
		return v.Type().String()
	}
	return strings.TrimSpace(string(text))
}
