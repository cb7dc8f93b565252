package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Kinded is a struct, by its pointer, whose keys depend on its key "kind".
type Kinded interface {
	// Kinds returns the allowed kinds.
	Kinds() []string
	// SetKind is called with one of Kinds before any other key is read, if the struct has another kind. It puts a pointer to the kind's settings, holding their defaults, into the inline field, and may set
	// defaults of the common keys. A struct with a default kind sets it up in SetDefaults.
	SetKind(kind string)
}

// Defaulter is implemented, by its pointer, by types of map entries, list items and sections behind a nil pointer. It
// sets the defaults of a new value. Without it a new value is zero.
type Defaulter interface{ SetDefaults() }

// Validator is implemented by a section, or its pointer, that checks its values. Each message
// begins with a key of the section or of one around it, up to the top level; several are joined with errors.Join.
// It is called even if some values could not be read: they have their defaults, and messages about them are dropped.
// It is not called for a section of an unknown kind, whose inline field is nil.
type Validator interface{ Validate() error }

// kindKey is the key that selects a section's kind.
const kindKey = "kind"

// field is a key of a section and the settable value behind it.
type field struct {
	key   string
	value reflect.Value
}

// fieldsOf lists a struct's keys in the order of its fields; inline structs' keys stand where their field stands. An
// error is a bug in the struct, not in the file.
func fieldsOf(v reflect.Value) ([]field, error) {
	all, err := appendFields(nil, v)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, f := range all {
		if seen[f.key] {
			return nil, fmt.Errorf("BUG: %s has the key %q twice, one of them inline", v.Type(), f.key)
		}
		seen[f.key] = true
	}
	return all, nil
}

func appendFields(all []field, v reflect.Value) ([]field, error) {
	var err error
	for i := range v.NumField() {
		of := v.Type().Field(i)
		tag, options, _ := strings.Cut(of.Tag.Get("yaml"), ",")
		switch {
		case !of.IsExported() || tag == "-":
		case options == "inline":
			if all, err = appendInline(all, v.Field(i)); err != nil {
				return nil, err
			}
		case tag == "":
			return nil, fmt.Errorf("BUG: %s.%s has no yaml tag", v.Type(), of.Name)
		default:
			all = append(all, field{key: tag, value: v.Field(i)})
		}
	}
	return all, nil
}

// appendInline adds the keys of an inline struct, or of the struct that an inline pointer or interface points to; nil
// has no keys.
func appendInline(all []field, v reflect.Value) ([]field, error) {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return all, nil
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || !v.CanSet() {
		return nil, fmt.Errorf("BUG: an inline field holds %s, want a struct or a pointer to one", v.Type())
	}
	return appendFields(all, v)
}

func fieldOf(fields []field, key string) (field, bool) {
	for _, f := range fields {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
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
