package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

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
	if isSame(before, after) {
		return
	}
	switch {
	case !before.IsValid() || !after.IsValid() || before.Type() != after.Type():
		*to = append(*to, Change{path, inline(before), inline(after)})
	case isSection(before):
		addChangesOfFields(before, after, path, to)
	case before.Kind() == reflect.Map:
		for _, key := range keysOf(before, after) {
			addChanges(before.MapIndex(key), after.MapIndex(key), join(path, key.String()), to)
		}
	case isListOfSections(before) && before.Len() == after.Len():
		for i := range before.Len() {
			addChanges(before.Index(i), after.Index(i), index(path, i), to)
		}
	default:
		*to = append(*to, Change{path, inline(before), inline(after)})
	}
}

// isListOfSections reports whether a value is a list with sections in it.
func isListOfSections(v reflect.Value) bool {
	return v.Kind() == reflect.Slice && v.Len() > 0 && isSection(resolve(v.Index(0)))
}

// isSame reports whether two values are the same. An empty list is one that is not given.
func isSame(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Kind() == reflect.Slice && b.Kind() == reflect.Slice && a.Len()+b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// addChangesOfFields adds what differs between the settings of two sections. Sections of different kinds have different settings.
func addChangesOfFields(before, after reflect.Value, path string, to *[]Change) {
	old, _ := fieldsOf(before)
	fields, _ := fieldsOf(after)
	keys := maps.Clone(old)
	maps.Copy(keys, fields)
	for key := range keys {
		addChanges(old[key], fields[key], join(path, key), to)
	}
}

// resolve returns what a pointer or an interface leads to; nothing if it is nil.
func resolve(v reflect.Value) reflect.Value {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		v = v.Elem()
	}
	return v
}

// isSection reports whether a value is a struct with settings.
func isSection(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	fields, _ := fieldsOf(v)
	return len(fields) > 0
}

// keysOf returns the keys of two maps, each once.
func keysOf(a, b reflect.Value) []reflect.Value {
	keys := a.MapKeys()
	for _, key := range b.MapKeys() {
		if !a.MapIndex(key).IsValid() {
			keys = append(keys, key)
		}
	}
	return keys
}

// inline returns a value as YAML on one line, secrets and credentials in URLs hidden; empty for no value.
func inline(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	var n yaml.Node
	if err := n.Encode(v.Interface()); err != nil {
		return v.Type().String()
	}
	tidy(&n, redactURLs)
	flow(&n)
	text, err := yaml.Dump(&n, yaml.WithLineWidth(-1), yaml.WithQuotePreference(yaml.QuoteDouble))
	if err != nil {
		return v.Type().String()
	}
	return strings.TrimSpace(string(text))
}

// flow puts a tree on one line.
func flow(n *yaml.Node) {
	n.Style |= yaml.FlowStyle
	for _, c := range n.Content {
		flow(c)
	}
}
