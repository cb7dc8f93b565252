package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

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

// SecretAdviser is implemented by a section, or its pointer, whose secrets have a form of their own. SecretAdvice says how to create one.
type SecretAdviser interface{ SecretAdvice() string }

// The keys on which a section's other keys and defaults depend.
const (
	kindKey   = "kind"
	presetKey = "preset"
)

// decoder writes a tree, and the variables over it, over a struct. It reports what it cannot use, and continues.
type decoder struct {
	*Source
	folder string
	size   map[*yaml.Node]int // how many settings each complete node has
	read   int                // settings so far, those of aliases each time
	checks []func()           // of the sections, inner ones first

	variables  map[string]string
	isReferred map[string]bool // variables that the file names, or the command line has
	isRead     map[string]bool // variables that lie over a setting
	known      []string        // variables that can, without the prefix
}

// decode sets a value from a node and from variables.
func (d *decoder) decode(v reflect.Value, n *yaml.Node, path string) {
	d.decodeNode(v, n, path)
	d.override(v, path)
}

func (d *decoder) decodeNode(v reflect.Value, n *yaml.Node, path string) {
	kind, shape := v.Kind(), shapeOf(n)
	isGiven := !slices.Contains([]string{absent, nothing}, shape)
	canBeSection := !slices.Contains([]string{text, list}, shape) // an empty one must have a kind, and variables may give its settings
	switch {
	case isText(v, shape):
		d.decodeScalar(v, n, path)
	case kind == reflect.Struct && canBeSection:
		d.decodeStruct(v, n, path)
	case kind == reflect.Pointer && (isGiven || !v.IsNil()):
		d.decodePointer(v, n, path)
	case kind == reflect.Map && shape == section:
		d.decodeMap(v, n, path)
	case kind == reflect.Slice && shape == list:
		d.decodeList(v, n, path)
	case isGiven:
		d.report(n, path, "found %s, want %s", shape, example(v.Type()))
		d.decodeNode(v, &yaml.Node{}, path) // for the variables of its settings
	}
}

// decodePointer sets what a pointer points to, from its defaults on if it is nil.
func (d *decoder) decodePointer(v reflect.Value, n *yaml.Node, path string) {
	target := fresh(v.Type())
	if !v.IsNil() {
		target.Elem().Set(v.Elem())
	}
	d.decode(target.Elem(), n, path)
	v.Set(target)
}

// isText reports whether a value is read from a text. A struct may also have settings, which a section gives.
func isText(v reflect.Value, shape string) bool {
	if !isScalar(v.Type()) || shape != section || v.Kind() != reflect.Struct {
		return isScalar(v.Type())
	}
	fields, _ := fieldsOf(v)
	return len(fields) == 0
}

func (d *decoder) decodeStruct(v reflect.Value, n *yaml.Node, path string) {
	isKinded, isKnown := d.decodeKind(v, n, path)
	fields, parts := fieldsOf(v)
	keys, advice := slices.SortedFunc(maps.Keys(fields), byPrecedence), secretAdvice(v)
	for pair := range slices.Chunk(n.Content, 2) {
		key, under := pair[0], join(path, pair[0].Value)
		d.note(under, key)
		isForAnchors := path == "" && strings.HasPrefix(key.Value, "x-")
		if slices.Contains(keys, key.Value) || isForAnchors || !isKnown {
			continue
		}
		d.report(key, under, "unknown key%s", setting.Hint(key.Value, keys))
		if meant := setting.Nearest(key.Value, keys); meant != "" {
			d.broken = append(d.broken, join(path, meant)) // it is not missing, it is misspelt
		}
	}
	for _, key := range keys {
		under := join(path, key)
		d.isSetting[under] = true
		if isKinded && key == kindKey { // decodeKind has read it
			continue
		}
		d.decode(fields[key], valueOf(n, key), under)
		d.warnOfWeakness(fields[key], under, advice)
	}
	for _, part := range parts {
		d.checks = append(d.checks, func() { d.check(part.Addr().Interface(), path) })
	}
}

// decodeKind sets the kind that the section of a Kinded struct names. It reports whether the struct is one, and whether its
// keys are known.
func (d *decoder) decodeKind(v reflect.Value, n *yaml.Node, path string) (isKinded, isKnown bool) {
	kinded, isKinded := reflect.TypeAssert[Kinded](v.Addr())
	if !isKinded || shapeOf(n) == absent {
		return isKinded, true
	}
	var kind string
	named, under, kinds := valueOf(n, kindKey), join(path, kindKey), slices.Sorted(slices.Values(kinded.Kinds()))
	switch {
	case shapeOf(named) == absent:
		d.report(n, under, "missing; allowed: %s", strings.Join(kinds, ", "))
	case !d.decodeScalar(reflect.ValueOf(&kind).Elem(), named, under):
	case !slices.Contains(kinds, kind):
		d.report(named, under, "unknown kind %q%s", named.Value, setting.Hint(kind, kinds))
	default:
		preset, err := d.expand(valueOf(n, presetKey).Value)
		if err != nil { // it is reported where the key is read
			preset = ""
		}
		kinded.SetKind(kind, preset)
		return true, true
	}
	return true, false
}

// valueOf returns the value of a section's key; a node of no kind if it has none.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for pair := range slices.Chunk(n.Content, 2) {
		if pair[0].Value == key {
			return pair[1]
		}
	}
	return &yaml.Node{}
}

// decodeMap puts entries in the place of a map's.
func (d *decoder) decodeMap(v reflect.Value, n *yaml.Node, path string) {
	made := reflect.MakeMap(v.Type())
	entries := slices.SortedFunc(slices.Chunk(n.Content, 2), func(a, b []*yaml.Node) int {
		return byPrecedence(a[0].Value, b[0].Value)
	})
	for _, entry := range entries {
		under, key, value := join(path, entry[0].Value), fresh(v.Type().Key()), fresh(v.Type().Elem())
		d.note(under, entry[0])
		if err := setText(key, entry[0].Value); err != nil {
			d.report(entry[0], under, "%s", err)
			continue
		}
		d.decode(value, entry[1], under)
		made.SetMapIndex(key, value)
	}
	if len(entries) > 0 { // an empty section keeps its defaults
		v.Set(made)
	}
}

// decodeList puts items in the place of a list's. A list that is given is not nil, even if it is empty.
func (d *decoder) decodeList(v reflect.Value, n *yaml.Node, path string) {
	v.Set(reflect.MakeSlice(v.Type(), 0, len(n.Content)))
	for i, item := range n.Content {
		under := index(path, i)
		d.note(under, item)
		value := fresh(v.Type().Elem())
		if shapeOf(item) == nothing {
			d.report(item, under, "found nothing, want %s", example(value.Type()))
		}
		d.decode(value, item, under)
		d.warnOfWeakness(value, under, usualSecretAdvice)
		v.Set(reflect.Append(v, value))
	}
}

// decodeScalar sets a scalar, and reports whether it could.
func (d *decoder) decodeScalar(v reflect.Value, n *yaml.Node, path string) bool {
	shape := shapeOf(n)
	if shape == absent {
		return false
	}
	err := fmt.Errorf("found %s, want %s", shape, example(v.Type()))
	if shape == text {
		err = d.decodeText(v, n, path)
	}
	if err != nil {
		d.report(n, path, "%s", err)
	}
	return err == nil
}

// decodeText sets a scalar from a text: with variables replaced, and a secret read from its file. A text that is itself a
// variable is taken as it is.
func (d *decoder) decodeText(v reflect.Value, n *yaml.Node, path string) (err error) {
	value, isSecret := n.Value, isSecret(v.Type())
	if n.Line > 0 {
		value, err = d.expand(n.Value)
	}
	if err == nil && isSecret {
		value, err = d.secretOf(n, value, path)
	}
	if err != nil {
		return err
	}
	if !utf8.ValidString(value) && !isSecret { // it is a variable's: no settings file holds it
		return fmt.Errorf("found %.40q, whose value is not UTF-8", n.Value)
	}
	if err := setText(v, value); err != nil {
		if value != n.Value { // the message may repeat what came out of a variable
			return fmt.Errorf("found %.40q, whose value is not allowed here; want %s", n.Value, example(v.Type()))
		}
		return err
	}
	if p, ok := reflect.TypeAssert[netip.Prefix](v); ok && p != p.Masked() {
		d.warn(d.placeOf(n), path, fmt.Sprintf("%s has bits beyond its prefix length and means %s; write that, or %s for this address alone",
			p, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen())))
	}
	return nil
}

// warnOfWeakness warns of a secret that can be guessed. It does not look at a map's, which are values of header fields: short
// ones are usual.
func (d *decoder) warnOfWeakness(v reflect.Value, path, advice string) {
	secret, ok := reflect.TypeAssert[setting.Secret](v)
	if why := secret.Weakness(); ok && why != "" {
		d.warn(d.locate(path), path,
			"the secret "+why+": anyone can guess it, and do what it protects; "+advice)
	}
}

// usualSecretAdvice says how to create a secret of any form.
const usualSecretAdvice = "create one with openssl rand -hex 32"

// secretAdvice says how to create the secrets of a section.
func secretAdvice(section reflect.Value) string {
	if adviser, ok := reflect.TypeAssert[SecretAdviser](section.Addr()); ok {
		return adviser.SecretAdvice()
	}
	return usualSecretAdvice
}

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

// fresh returns a settable value with the defaults of its type. A pointer points to one, because an entry of a map exists even
// if it says nothing.
func fresh(t reflect.Type) reflect.Value {
	made := reflect.New(t)
	if t.Kind() == reflect.Pointer {
		made.Elem().Set(fresh(t.Elem()).Addr())
	}
	if d, ok := reflect.TypeAssert[Defaulter](made); ok {
		d.SetDefaults()
	}
	return made.Elem()
}

// check adds what a section says of its values once all are read.
func (d *decoder) check(section any, path string) {
	if slices.Contains(d.broken, join(path, kindKey)) {
		return
	}
	if validator, ok := section.(Validator); ok {
		d.explain(validator.Validate(), path, &d.problems)
	}
	if warner, ok := section.(Warner); ok {
		d.explain(warner.Warnings(), path, &d.warnings)
	}
}
