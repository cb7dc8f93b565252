package config

import (
	"fmt"
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

// Shortened is a section, by its pointer, that a file may also give as a single text.
type Shortened interface{ SetText(text string) }

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

// find returns the value of a key.
func (s structure) find(key string) (v reflect.Value, ok bool) {
	i := slices.IndexFunc(s.children, func(c child) bool { return c.key == key })
	if i < 0 {
		return v, false
	}
	return s.children[i].value, true
}

// structureOf lists a struct's keys in the order of its fields. The keys of an inline struct, or of one that an inline
// pointer or interface points to, stand where its field stands. An error is a bug in the struct, not in the file.
func structureOf(v reflect.Value, path string) (structure, error) {
	var s structure
	for i := range v.NumField() {
		of := v.Type().Field(i)
		key, options, _ := strings.Cut(of.Tag.Get("yaml"), ",")
		switch {
		case !of.IsExported() || key == "-":
		case options == "inline":
			inner := pointedAt(v.Field(i))
			if inner.IsValid() && (inner.Kind() != reflect.Struct || !inner.CanSet()) {
				return s, fmt.Errorf("BUG: an inline field holds %s, want a struct or a pointer to one", inner.Type())
			}
			if !inner.IsValid() {
				continue
			}
			more, err := structureOf(inner, path)
			if err != nil {
				return s, err
			}
			s.children, s.parts = append(s.children, more.children...), append(s.parts, more.parts...)
		case key == "":
			return s, fmt.Errorf("BUG: %s.%s has no yaml tag", v.Type(), of.Name)
		default:
			s.children = append(s.children, child{key, join(path, key), v.Field(i)})
		}
	}
	s.parts = append(s.parts, v)
	return s, s.validate()
}

// validate finds a key that the struct and an inline one both have.
func (s structure) validate() error {
	keys := s.keys()
	for i, key := range keys {
		if slices.Contains(keys[:i], key) {
			return fmt.Errorf("BUG: %s has the key %q twice, one of them inline", s.parts[len(s.parts)-1].Type(), key)
		}
	}
	return nil
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
		s, _ := structureOf(v, path) // an error was reported when the struct was decoded
		return s.children
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

// copyOf returns a settable copy, because a map's entries cannot be set in place. What a pointer points to is copied
// too, so that reading a file never writes into the defaults of another.
func copyOf(v reflect.Value) reflect.Value {
	made := reflect.New(v.Type()).Elem()
	made.Set(v)
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		made.Set(reflect.New(v.Type().Elem()))
		made.Elem().Set(v.Elem())
	}
	return made
}
