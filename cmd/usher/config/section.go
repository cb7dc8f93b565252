package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Kinded is a struct, by its pointer, whose keys depend on its key "kind".
type Kinded interface {
	// Kinds returns the allowed kinds.
	Kinds() []string
	// SetKind is called with one of Kinds before any other key is read, if the struct has another kind. It puts a pointer
	// to the kind's settings, holding their defaults, into the inline field, and may set defaults of the common keys. A
	// struct with a default kind sets it up in SetDefaults.
	SetKind(kind string)
}

// Presetted is a Kinded struct whose defaults depend on its key "preset" as well.
type Presetted interface {
	// SetPreset is called with the value of the section's preset after SetKind and before any other key is read. It
	// ignores an unknown preset, which is reported where the key is read.
	SetPreset(preset string)
}

// Defaulter is implemented, by its pointer, by types of map entries, list items and sections behind a nil pointer. It
// sets the defaults of a new value. Without it a new value is zero.
type Defaulter interface{ SetDefaults() }

// Validator is implemented by a section, or its pointer, that checks its values. Each message
// begins with a key of the section or of one around it, up to the top level; several are joined with errors.Join.
// It is called even if some values could not be read: they have their defaults, and messages about them are dropped.
// It is not called for a section of an unknown kind, whose inline field is nil.
type Validator interface{ Validate() error }

// Warner is implemented by a section, or its pointer, with settings that are allowed and have a price. Its messages are
// like those of a [Validator]: the value, what it costs, and what to do.
type Warner interface{ Warnings() error }

// The keys on which a section's other keys and defaults depend.
const (
	kindKey   = "kind"
	presetKey = "preset"
)

// child is a setting inside a section, a map or a list. The value can be set, except that of a map's entry.
type child struct {
	key, path string
	value     reflect.Value
}

// structure is what a struct has as a section.
type structure struct {
	children []child
	// parts are the struct itself and its inline structs, inner ones first.
	parts []reflect.Value
}

// keys returns the allowed keys.
func (s structure) keys() []string {
	var keys []string
	for _, c := range s.children {
		keys = append(keys, c.key)
	}
	return keys
}

// structureOf lists a struct's keys in the order of its fields. The keys of an inline struct, or of one that an inline
// pointer or interface points to, stand where its field stands. A field without a key is no setting.
func structureOf(v reflect.Value, path string) (s structure) {
	for i := range v.NumField() {
		key, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		inner := pointedAt(v.Field(i))
		switch {
		case options == "inline" && inner.IsValid():
			more := structureOf(inner, path)
			s.children, s.parts = append(s.children, more.children...), append(s.parts, more.parts...)
		case key != "":
			s.children = append(s.children, child{key, join(path, key), v.Field(i)})
		}
	}
	s.parts = append(s.parts, v)
	return s
}

// pointedAt follows pointers and interfaces; a nil one gives the zero Value.
func pointedAt(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v
}

// childrenOf returns the settings inside a section, a map in the order of its keys, or a list; none for other values.
func childrenOf(v reflect.Value, path string) (all []child) {
	switch v.Kind() {
	case reflect.Struct:
		return structureOf(v, path).children
	case reflect.Map:
		byKey := map[string]reflect.Value{}
		for entries := v.MapRange(); entries.Next(); {
			byKey[entries.Key().String()] = copyOf(entries.Value())
		}
		for _, key := range slices.Sorted(maps.Keys(byKey)) {
			all = append(all, child{key, join(path, key), byKey[key]})
		}
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, child{"", index(path, i), v.Index(i)})
		}
	default:
	}
	return all
}

// fresh returns a settable value with the defaults of its type.
func fresh(t reflect.Type) reflect.Value {
	made := reflect.New(t)
	if d, ok := reflect.TypeAssert[Defaulter](made); ok {
		d.SetDefaults()
	}
	return made.Elem()
}

// copyOf returns a settable copy, because a map's entries cannot be set in place.
func copyOf(v reflect.Value) reflect.Value {
	made := reflect.New(v.Type()).Elem()
	made.Set(v)
	return made
}
