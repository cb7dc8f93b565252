package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"usher/backends/setting"
)

// Kinded is a struct, by its pointer, whose keys depend on its key "kind".
type Kinded interface {
	// Kinds returns the allowed kinds.
	Kinds() []string
	// SetKind is called with one of Kinds before any other key is read. It keeps the kind, puts a pointer to the kind's
	// settings, holding their defaults, into the inline field, and may set defaults of the common keys. Preset is the text of
	// the key "preset" in the file: defaults may depend on it as well. An unknown one has none, and is reported where the key
	// is read.
	SetKind(kind, preset string)
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

// fieldsOf returns a struct's settings by their keys, those of inline structs among them, and of the structs that inline
// pointers and interfaces point to. A field without a key is no setting. The parts are the struct and its inline structs,
// inner ones first.
func fieldsOf(v reflect.Value) (fields map[string]reflect.Value, parts []reflect.Value) {
	fields = map[string]reflect.Value{}
	for field, value := range v.Fields() {
		key, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		inner := value
		for inner.Kind() == reflect.Interface || inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case options == "inline" && inner.IsValid():
			more, innerParts := fieldsOf(inner)
			maps.Copy(fields, more)
			parts = append(parts, innerParts...)
		case key != "":
			fields[key] = value
		}
	}
	return fields, append(parts, v)
}

// fresh returns a settable value with the defaults of its type.
func fresh(t reflect.Type) reflect.Value {
	made := reflect.New(t)
	if d, ok := reflect.TypeAssert[Defaulter](made); ok {
		d.SetDefaults()
	}
	return made.Elem()
}

// check is what a section says of its values once all are read.
type check struct {
	section reflect.Value
	path    string
}

// runChecks calls Validate and Warnings of every section, inner sections first.
func (d *decoder) runChecks() {
	for _, c := range d.checks {
		if slices.Contains(d.broken, join(c.path, kindKey)) {
			continue
		}
		if validator, ok := reflect.TypeAssert[Validator](c.section.Addr()); ok {
			d.explain(validator.Validate(), c.path, &d.problems)
		}
		if warner, ok := reflect.TypeAssert[Warner](c.section.Addr()); ok {
			d.explain(warner.Warnings(), c.path, &d.warnings)
		}
	}
}

// explain adds the messages of a section, except those that follow from what could not be read.
func (d *decoder) explain(err error, section string, to *Problems) {
	for _, message := range messagesOf(err, "") {
		path, text := d.subject(message, section)
		isConsequence := slices.ContainsFunc(d.broken, func(b string) bool { return within(b, path) || within(path, b) })
		if !isConsequence {
			*to = append(*to, d.problem(d.locate(path), path, text))
		}
	}
}

// subject returns the setting that a message is about. A message begins with a key of the section or of a section
// around it; otherwise it is about the section itself.
func (d *decoder) subject(message, section string) (path, text string) {
	said, text := splitPath(message)
	key := firstKey(said)
	for around := section; said != ""; around = parentOf(around) {
		if path = join(around, key); d.isSetting[path] {
			return path + strings.TrimPrefix(said, key), text
		}
		if around == "" {
			break
		}
	}
	return section, strings.TrimSpace(message)
}

// warnOfWeakness warns of a secret that can be guessed. It does not look at a map's, which are values of header fields: short
// ones are usual.
func (d *decoder) warnOfWeakness(v reflect.Value, path string) {
	secret, ok := reflect.TypeAssert[setting.Secret](v)
	if why := secret.Weakness(); ok && why != "" {
		d.warn(d.locate(path), path,
			"the secret "+why+": who guesses it can do what it protects; create one with openssl rand -hex 32")
	}
}
