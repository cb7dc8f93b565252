package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
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

func (d *decoder) decode(v reflect.Value, n *yaml.Node, path string) {
	if d.nodes++; d.nodes > maxNodes {
		if d.nodes == maxNodes+1 {
			d.source.report(n, path, "the file has more than %d settings", maxNodes)
		}
		return
	}
	shape := shapeOf(n)
	switch kind := v.Kind(); {
	case isScalar(v.Type()):
		d.decodeScalar(v, n, path)
	case kind == reflect.Pointer:
		d.decodePointer(v, n, path)
	case kind == reflect.Struct && (shape == section || shape == nothing): // a kind must not be missing
		d.decodeStruct(v, n, path)
	case shape == nothing: // a section all of whose keys are commented out keeps its defaults
	default:
		d.decodeCollection(v, n, path)
	}
}

// decodeCollection decodes a map or a list, and reports a node of another shape.
func (d *decoder) decodeCollection(v reflect.Value, n *yaml.Node, path string) {
	switch kind, shape := v.Kind(), shapeOf(n); {
	case shape == text && d.decodeShortened(v, n, path):
	case kind == reflect.Map && shape == section:
		d.decodeMap(v, n, path)
	case kind == reflect.Slice && shape == list:
		d.decodeList(v, n, path)
	case kind == reflect.Struct, kind == reflect.Map, kind == reflect.Slice:
		d.source.report(n, path, "found %s, want %s", shape, example(v.Type()))
	default:
		d.source.report(n, path, "BUG: a setting cannot be of type %s", v.Type())
	}
}

// decodeShortened sets a section that is given as a single text, and reports whether it is one that may be.
func (d *decoder) decodeShortened(v reflect.Value, n *yaml.Node, path string) bool {
	into, ok := reflect.TypeAssert[Shortened](v.Addr())
	if !ok {
		return false
	}
	expanded, err := d.expand(n, reflect.TypeFor[string](), path)
	if err != nil {
		d.source.report(n, path, "%s", err)
		return true
	}
	into.SetText(expanded)
	return true
}

func (d *decoder) decodePointer(v reflect.Value, n *yaml.Node, path string) {
	if shapeOf(n) == nothing && v.IsNil() && !isScalar(v.Type().Elem()) {
		return
	}
	target := fresh(v.Type().Elem())
	if !v.IsNil() {
		target.Set(v.Elem())
	}
	d.decode(target, n, path)
	v.Set(target.Addr())
}

func (d *decoder) decodeStruct(v reflect.Value, n *yaml.Node, path string) {
	hasKind := d.decodeKind(v, n, path)
	s, err := structureOf(v, path)
	if err != nil {
		d.source.report(n, path, "%s", err)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		under := join(path, key.Value)
		d.source.note(under, key)
		target, isKnown := s.find(key.Value)
		switch {
		case isKnown && key.Value == kindKey && !hasKind: // reported already
		case isKnown:
			d.decode(target, value, under)
		case path == "" && strings.HasPrefix(key.Value, "x-"): // a place for anchors
		case hasKind: // the keys of an unknown kind are not known
			d.source.report(key, under, "unknown key%s", setting.Hint(key.Value, s.keys()))
			if meant := setting.Nearest(key.Value, s.keys()); meant != "" {
				d.source.broken = append(d.source.broken, join(path, meant)) // it is not missing, it is misspelt
			}
		}
	}
}

// decodeKind sets the kind of a Kinded struct to the one that the section names. It reports whether the keys of the
// kind are known.
func (d *decoder) decodeKind(v reflect.Value, n *yaml.Node, path string) bool {
	kinded, ok := reflect.TypeAssert[Kinded](v.Addr())
	if !ok {
		return true
	}
	s, err := structureOf(v, path)
	current, ok := s.find(kindKey)
	if err != nil || !ok {
		return err == nil // the error is reported by the caller
	}
	before, kinds := current.String(), slices.Sorted(slices.Values(kinded.Kinds()))
	at := join(path, kindKey)
	named := valueOf(n, kindKey)
	if named == nil {
		if before == "" {
			d.source.report(n, at, "missing; allowed: %s", strings.Join(kinds, ", "))
		}
		return before != ""
	}
	if !d.decodeScalar(current, named, at) {
		return false
	}
	kind := current.String()
	if !slices.Contains(kinds, kind) {
		d.source.report(named, at, "unknown kind %q%s", named.Value, setting.Hint(kind, kinds))
		return false
	}
	if kind != before {
		kinded.SetKind(kind)
	}
	d.presetDefaults(v, n, path)
	return true
}

// presetDefaults sets the defaults of the preset that the file names. One of the environment sets none: it comes after the
// file, whose values it would replace.
func (d *decoder) presetDefaults(v reflect.Value, n *yaml.Node, path string) {
	presetted, ok := reflect.TypeAssert[Presetted](v.Addr())
	named := valueOf(n, presetKey)
	if !ok || named == nil || named.Line == 0 || shapeOf(named) != text {
		return
	}
	if preset, err := d.expand(named, reflect.TypeFor[string](), join(path, presetKey)); err == nil { // reported with the key
		presetted.SetPreset(preset)
	}
}

// valueOf returns the value of a section's key, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func (d *decoder) decodeMap(v reflect.Value, n *yaml.Node, path string) {
	t := v.Type()
	if len(n.Content) == 0 {
		return
	}
	made := reflect.MakeMap(t)
	for entries := v.MapRange(); entries.Next(); {
		made.SetMapIndex(entries.Key(), entries.Value())
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		under := join(path, n.Content[i].Value)
		d.source.note(under, n.Content[i])
		key := reflect.New(t.Key()).Elem()
		if err := setKey(key, n.Content[i].Value); err != nil {
			d.source.report(n.Content[i], under, "%s", err)
			continue
		}
		value := fresh(t.Elem())
		if current := made.MapIndex(key); current.IsValid() {
			value = copyOf(current)
		}
		if value.Kind() == reflect.Pointer && value.IsNil() { // an entry exists, even if it says nothing
			value.Set(fresh(t.Elem().Elem()).Addr())
		}
		d.decode(value, n.Content[i+1], under)
		made.SetMapIndex(key, value)
	}
	v.Set(made)
}

// setKey sets a map's key, which is a text, although its type may read the text itself.
func setKey(key reflect.Value, text string) error {
	if key.Kind() != reflect.String {
		return fmt.Errorf("BUG: a map's key cannot be of type %s", key.Type())
	}
	return setText(key, text)
}

func (d *decoder) decodeList(v reflect.Value, n *yaml.Node, path string) {
	if len(n.Content) == 0 && v.Len() == 0 && n.Line > 0 { // a nil list stays one
		return
	}
	made := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		under := index(path, i)
		d.source.note(under, item)
		value := fresh(v.Type().Elem())
		if shapeOf(item) == nothing {
			d.source.report(item, under, "found nothing, want %s", example(value.Type()))
		}
		d.decode(value, item, under)
		made = reflect.Append(made, value)
	}
	v.Set(made)
}

// decodeScalar sets a scalar, and reports whether it could.
func (d *decoder) decodeScalar(v reflect.Value, n *yaml.Node, path string) bool {
	if shape := shapeOf(n); shape != text {
		d.source.report(n, path, "found %s, want %s", shape, example(v.Type()))
		return false
	}
	expanded, err := d.expand(n, v.Type(), path)
	if err != nil {
		d.source.report(n, path, "%s", err)
		return false
	}
	if !utf8.ValidString(expanded) && !isSecret(v.Type()) { // it is a variable's: no settings file holds it
		d.source.report(n, path, "found %.40q, whose value is not UTF-8", n.Value)
		return false
	}
	err = setText(v, expanded)
	switch {
	case err == nil:
		d.warnOfHostBits(v, n, path)
		return true
	case !explainsItself(v.Type()):
		d.source.report(n, path, "found %.40q, want %s", n.Value, example(v.Type()))
	case expanded != n.Value: // the type's own message may repeat what came out of a variable
		d.source.report(n, path, "found %.40q, whose value is not allowed here", n.Value)
	default:
		d.source.report(n, path, "%s", err)
	}
	return false
}

// warnOfHostBits warns of a network that is written with the address of a host in it.
func (d *decoder) warnOfHostBits(v reflect.Value, n *yaml.Node, path string) {
	p, ok := reflect.TypeAssert[netip.Prefix](v)
	if ok && p != p.Masked() {
		d.source.warn(placeOf(n), path, fmt.Sprintf("%s has bits beyond its prefix length and means %s; write that, or %s for this address alone",
			p, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen())))
	}
}

// expand returns the value of a scalar: with variables replaced, and a secret read from its file. What a variable holds
// is not expanded again.
func (d *decoder) expand(n *yaml.Node, t reflect.Type, path string) (string, error) {
	expanded := n.Value
	if n.Line > 0 {
		var err error
		if expanded, err = d.environment.expand(n.Value, d.referred); err != nil {
			return "", err
		}
	}
	if !isSecret(t) || !strings.HasPrefix(n.Value, filePrefix) {
		return expanded, nil
	}
	secret, warning, err := d.environment.readSecret(strings.TrimPrefix(expanded, filePrefix))
	if warning != "" {
		d.source.warn(placeOf(n), path, warning)
	}
	return secret, err
}
