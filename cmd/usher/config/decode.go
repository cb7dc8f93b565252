package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxNodes bounds how many settings are read, aliases counted each time, so that a few lines of aliases of aliases
// cannot fill the memory.
const maxNodes = 250_000

// decoder writes a tree over a struct. It reports what it cannot use, and continues.
type decoder struct {
	source      *Source
	environment Environment
	referred    map[string]bool // variables that the file names
	nodes       int
}

func (d *decoder) decode(v reflect.Value, n *node, path string) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.source.report(n.at, path, "the file has more than %d settings", maxNodes)
		}
		return
	}
	t := v.Type()
	switch {
	case isScalar(t):
		d.decodeScalar(v, n, path)
	case t.Kind() == reflect.Pointer:
		d.decodePointer(v, n, path)
	case n.shape == nothing && t.Kind() == reflect.Struct:
		d.decodeKind(v, n, path) // which must not be missing
	case n.shape == nothing: // a section all of whose keys are commented out keeps its defaults
	default:
		d.decodeContainer(v, n, path)
	}
}

// decodeContainer decodes a section or a list, and reports a node of another shape.
func (d *decoder) decodeContainer(v reflect.Value, n *node, path string) {
	switch t := v.Type(); {
	case t.Kind() == reflect.Struct && n.shape == section:
		d.decodeStruct(v, n, path)
	case t.Kind() == reflect.Map && n.shape == section:
		d.decodeMap(v, n, path)
	case t.Kind() == reflect.Slice && n.shape == list:
		d.decodeList(v, n, path)
	default:
		d.reportShape(t, n, path)
	}
}

// reportShape reports a node that does not fit the type.
func (d *decoder) reportShape(t reflect.Type, n *node, path string) {
	switch t.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		d.source.report(n.at, path, "found %s, want %s", foundShape(n), example(t))
	default:
		d.source.report(n.at, path, "BUG: a setting cannot be of type %s", t)
	}
}

func (d *decoder) decodePointer(v reflect.Value, n *node, path string) {
	if n.shape == nothing && v.IsNil() && !isScalar(v.Type().Elem()) {
		return
	}
	target := fresh(v.Type().Elem())
	if !v.IsNil() {
		target.Set(v.Elem())
	}
	d.decode(target, n, path)
	v.Set(target.Addr())
}

func (d *decoder) decodeStruct(v reflect.Value, n *node, path string) {
	unknownKind := !d.decodeKind(v, n, path)
	fields, err := fieldsOf(v)
	if err != nil {
		d.source.report(n.at, path, "%s", err)
		return
	}
	for _, e := range n.entries {
		under := join(path, e.key)
		d.source.places[under] = e.at
		f, known := fieldOf(fields, e.key)
		switch {
		case known && e.key == kindKey && unknownKind: // reported already
		case known:
			d.decode(f.value, e.value, under)
		case path == "" && strings.HasPrefix(e.key, "x-"): // a place for anchors
		case !unknownKind: // without a kind nobody knows its keys
			d.unknownKey(e, path, keysOf(fields))
		}
	}
}

func (d *decoder) unknownKey(e entry, path string, allowed []string) {
	d.source.report(e.at, join(path, e.key), "unknown key%s", hint(e.key, allowed))
	if meant := nearest(e.key, slices.Sorted(slices.Values(allowed))); meant != "" {
		d.source.broken = append(d.source.broken, join(path, meant)) // it is not missing, it is misspelt
	}
}

// decodeKind sets the kind of a Kinded struct to the one that the section names. It reports whether the keys of the
// kind are known.
func (d *decoder) decodeKind(v reflect.Value, n *node, path string) bool {
	kinded, ok := reflect.TypeAssert[Kinded](v.Addr())
	if !ok {
		return true
	}
	standing, err := kindOf(v)
	if err != nil {
		d.source.report(n.at, path, "%s", err)
		return false
	}
	named := n.entry(kindKey)
	if named == nil {
		if standing.String() == "" {
			d.source.report(n.at, join(path, kindKey), "missing; allowed: %s", strings.Join(sortedKinds(kinded), ", "))
		}
		return standing.String() != ""
	}
	before := standing.String()
	problems := len(d.source.problems)
	d.decodeScalar(standing, named.value, join(path, kindKey))
	kind := standing.String()
	switch {
	case len(d.source.problems) > problems:
		return false
	case !slices.Contains(kinded.Kinds(), kind):
		d.source.report(named.value.at, join(path, kindKey), "unknown kind %q%s", named.value.text, hint(kind, kinded.Kinds()))
		return false
	case kind != before:
		kinded.SetKind(kind)
	}
	return true
}

// kindOf returns the value of a struct's key "kind".
func kindOf(v reflect.Value) (reflect.Value, error) {
	fields, err := fieldsOf(v)
	if err != nil {
		return reflect.Value{}, err
	}
	f, ok := fieldOf(fields, kindKey)
	if !ok || f.value.Kind() != reflect.String {
		return reflect.Value{}, fmt.Errorf("BUG: %s has kinds but no string with the key %q", v.Type(), kindKey)
	}
	return f.value, nil
}

func sortedKinds(k Kinded) []string { return slices.Sorted(slices.Values(k.Kinds())) }

func (d *decoder) decodeMap(v reflect.Value, n *node, path string) {
	t := v.Type()
	if len(n.entries) == 0 {
		return
	}
	made := reflect.MakeMapWithSize(t, v.Len()+len(n.entries))
	for entries := v.MapRange(); entries.Next(); {
		made.SetMapIndex(entries.Key(), entries.Value())
	}
	for _, e := range n.entries {
		under := join(path, e.key)
		d.source.places[under] = e.at
		key := reflect.New(t.Key()).Elem()
		if err := setKey(key, e.key); err != nil {
			d.source.report(e.at, under, "%s", err)
			continue
		}
		value := fresh(t.Elem())
		if standing := made.MapIndex(key); standing.IsValid() {
			value = copyOf(standing)
		}
		if value.Kind() == reflect.Pointer && value.IsNil() { // an entry exists, even if it says nothing
			value.Set(fresh(value.Type().Elem()).Addr())
		}
		d.decode(value, e.value, under)
		made.SetMapIndex(key, value)
	}
	v.Set(made)
}

// setKey sets a map's key from a text. Numbers are not allowed as keys. A type with UnmarshalText reads the text
// itself.
func setKey(key reflect.Value, text string) error {
	if !isScalar(key.Type()) || isWhole(key.Type()) || isNatural(key.Type()) {
		return fmt.Errorf("BUG: a map's key cannot be of type %s", key.Type())
	}
	return setText(key, text)
}

func (d *decoder) decodeList(v reflect.Value, n *node, path string) {
	if len(n.items) == 0 && v.Len() == 0 { // a nil list stays one
		return
	}
	made := reflect.MakeSlice(v.Type(), 0, len(n.items))
	for i, item := range n.items {
		under := index(path, i)
		d.source.places[under] = item.at
		value := fresh(v.Type().Elem())
		if item.shape == nothing {
			d.source.report(item.at, under, "found nothing, want %s", example(value.Type()))
		}
		d.decode(value, item, under)
		made = reflect.Append(made, value)
	}
	v.Set(made)
}

func (d *decoder) decodeScalar(v reflect.Value, n *node, path string) {
	if n.shape != scalar {
		d.source.report(n.at, path, "found %s, want %s", foundShape(n), example(v.Type()))
		return
	}
	text, ok := d.text(n, isSecret(v.Type()), path)
	if !ok {
		return
	}
	err := setText(v, text)
	_, plain := errors.AsType[wanted](err)
	switch {
	case err == nil:
	case plain:
		d.source.report(n.at, path, "found %s, %s", quoteShort(n.text), err)
	case text != n.text: // the type's own message may repeat what came out of a variable
		d.source.report(n.at, path, "found %s, whose value is not allowed here", quoteShort(n.text))
	default:
		d.source.report(n.at, path, "%s", err)
	}
}

// text returns the value of a scalar: with variables expanded, and a secret read from its file.
func (d *decoder) text(n *node, secret bool, path string) (string, bool) {
	text, names, err := d.environment.expand(n.text)
	for _, name := range names {
		d.referred[name] = true
	}
	if err != nil {
		d.source.report(n.at, path, "%s", err)
		return "", false
	}
	// file:PATH works in the file only. The value of a variable is the secret itself.
	file, ok := strings.CutPrefix(text, filePrefix)
	if !secret || !ok || !strings.HasPrefix(n.text, filePrefix) {
		return text, true
	}
	text, warning, err := d.environment.readSecret(file)
	if err != nil {
		d.source.report(n.at, path, "%s", err)
		return "", false
	}
	if warning != "" {
		d.source.warn(n.at, path, "%s", warning)
	}
	return text, true
}

// foundShape names the shape that was found. It does not show the text, which may be a secret under a wrong key.
func foundShape(n *node) string {
	return [...]string{"nothing", "text", "a section", "a list"}[n.shape]
}

// quoteShort quotes a text and shortens a long one.
func quoteShort(text string) string {
	const most = 40
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strconv.Quote(text)
}
