package config

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

// maxSettings bounds how many settings are read, aliases counted each time, so that a few lines of aliases of aliases
// cannot fill the memory.
const maxSettings = 250_000

// decoder writes a tree, and the variables over it, over a struct. It reports what it cannot use, and continues.
type decoder struct {
	source      *Source
	environment Environment
	referred    map[string]bool // variables that the file names
	settings    int

	variables map[string]string // the USHER_ variables that are not read yet
	known     []string          // the variables that can set a setting
	overrides int
}

// spot is where a setting stands: its path, and the variable that can set it; empty: none can.
type spot struct{ path, variable string }

func (s spot) under(key string) spot {
	variable := s.variable
	if variable != "" {
		variable += "_" + regexp.MustCompile(`[^A-Z0-9_]`).ReplaceAllLiteralString(strings.ToUpper(key), "_")
	}
	return spot{join(s.path, key), variable}
}

// decode sets a value from a node, which is nil for what the file does not give, and from variables.
func (d *decoder) decode(v reflect.Value, n *yaml.Node, at spot) {
	if d.settings > maxSettings {
		return
	}
	switch shapeOf(n) {
	case section:
		d.settings += len(n.Content) / 2
	case list:
		d.settings += len(n.Content)
	}
	if d.settings > maxSettings {
		d.source.report(n, at.path, "the file has more than %d settings", maxSettings)
		return
	}
	d.decodeNode(v, n, at)
	d.override(v, at)
}

func (d *decoder) decodeNode(v reflect.Value, n *yaml.Node, at spot) {
	kind, shape := v.Kind(), shapeOf(n)
	isGiven := shape != absent && shape != nothing
	isSection := shape == section || !isGiven // an empty one must have a kind, and variables may give its settings
	switch {
	case isText(v, shape):
		d.decodeScalar(v, n, at.path)
	case kind == reflect.Pointer:
		d.decodePointer(v, n, at)
	case kind == reflect.Struct && isSection:
		d.decodeStruct(v, n, at)
	case kind == reflect.Map && isSection:
		d.decodeMap(v, n, at)
	case kind == reflect.Slice && shape == list:
		d.decodeList(v, n, at.path)
	case isGiven:
		d.source.report(n, at.path, "found %s, want %s", shape, example(v.Type()))
		d.decodeNode(v, nil, at) // for the variables of its settings
	}
}

// isText reports whether a value is read from a text. A struct may also have settings, which a section gives.
func isText(v reflect.Value, shape string) bool {
	return isScalar(v.Type()) && (shape != section || len(childrenOf(v, "")) == 0)
}

func (d *decoder) decodePointer(v reflect.Value, n *yaml.Node, at spot) {
	target := fresh(v.Type().Elem())
	if !v.IsNil() {
		target.Set(v.Elem())
	}
	before := d.overrides
	d.decode(target, n, at)
	shape := shapeOf(n)
	if isGiven := shape != absent && (shape != nothing || isScalar(target.Type())); isGiven || !v.IsNil() || d.overrides > before {
		v.Set(target.Addr())
	}
}

func (d *decoder) decodeStruct(v reflect.Value, n *yaml.Node, at spot) {
	hasKind := d.decodeKind(v, n, at.path)
	s := structureOf(v, at.path)
	keys := s.keys()
	for key := range pairs(n) {
		under := join(at.path, key.Value)
		d.source.note(under, key)
		isForAnchors := at.path == "" && strings.HasPrefix(key.Value, "x-")
		if slices.Contains(keys, key.Value) || isForAnchors || !hasKind { // the keys of an unknown kind are not known
			continue
		}
		d.source.report(key, under, "unknown key%s", setting.Hint(key.Value, keys))
		if meant := setting.Nearest(key.Value, keys); meant != "" {
			d.source.broken = append(d.source.broken, join(at.path, meant)) // it is not missing, it is misspelt
		}
	}
	_, isKinded := reflect.TypeAssert[Kinded](v.Addr())
	slices.SortFunc(s.children, func(a, b child) int { return byPrecedence(a.key, b.key) })
	for _, c := range s.children {
		if !isKinded || c.key != kindKey { // else decodeKind has read it
			d.decode(c.value, valueOf(n, c.key), at.under(c.key))
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
	children := childrenOf(v, path)
	current := children[slices.IndexFunc(children, func(c child) bool { return c.key == kindKey })].value
	before, kinds := current.String(), slices.Sorted(slices.Values(kinded.Kinds()))
	at := join(path, kindKey)
	named := valueOf(n, kindKey)
	if named == nil {
		if before == "" && n != nil {
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

// presetDefaults sets the defaults of the preset that the file names. One of the environment sets none.
func (d *decoder) presetDefaults(v reflect.Value, n *yaml.Node, path string) {
	presetted, ok := reflect.TypeAssert[Presetted](v.Addr())
	named := valueOf(n, presetKey)
	if !ok || shapeOf(named) != text {
		return
	}
	if preset, err := d.expand(named, reflect.TypeFor[string](), join(path, presetKey)); err == nil { // reported with the key
		presetted.SetPreset(preset)
	}
}

// pairs returns the keys and values of a section; none for other nodes.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// valueOf returns the value of a section's key, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for k, value := range pairs(n) {
		if k.Value == key {
			return value
		}
	}
	return nil
}

// decodeMap lays entries over those that the map has.
func (d *decoder) decodeMap(v reflect.Value, n *yaml.Node, at spot) {
	made, given := reflect.MakeMap(v.Type()), map[string]*yaml.Node{}
	for entries := v.MapRange(); entries.Next(); {
		made.SetMapIndex(entries.Key(), entries.Value())
		given[entries.Key().String()] = nil
	}
	for key, value := range pairs(n) {
		d.source.note(join(at.path, key.Value), key)
		given[key.Value] = value
	}
	for _, name := range slices.SortedFunc(maps.Keys(given), byPrecedence) {
		under, key := at.under(name), fresh(v.Type().Key())
		if err := setText(key, name); err != nil {
			d.source.add(d.source.places[under.path], under.path, err.Error())
			continue
		}
		value := fresh(v.Type().Elem())
		if current := made.MapIndex(key); current.IsValid() {
			value = copyOf(current)
		}
		if value.Kind() == reflect.Pointer && value.IsNil() { // an entry exists, even if it says nothing
			value.Set(fresh(value.Type().Elem()).Addr())
		}
		d.decode(value, given[name], under)
		made.SetMapIndex(key, value)
	}
	if len(given) > 0 {
		v.Set(made)
	}
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
		d.decode(value, item, spot{path: under})
		made = reflect.Append(made, value)
	}
	v.Set(made)
}

// decodeScalar sets a scalar, and reports whether it could.
func (d *decoder) decodeScalar(v reflect.Value, n *yaml.Node, path string) bool {
	switch shape := shapeOf(n); shape {
	case text:
	case absent:
		return false
	default:
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
	switch err := setText(v, expanded); {
	case err == nil:
		d.warnOfHostBits(v, n, path)
		return true
	case errors.Is(err, errNotFit):
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
		d.source.warn(d.source.placeOf(n), path, fmt.Sprintf("%s has bits beyond its prefix length and means %s; write that, or %s for this address alone",
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
		d.source.warn(d.source.placeOf(n), path, warning)
	}
	return secret, err
}
