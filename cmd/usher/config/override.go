package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

const variablePrefix = "USHER_"

// maxDepth bounds the search for settings, because a struct may point to its own type.
const maxDepth = 16

// leaf is a setting that one variable can set.
type leaf struct {
	keys  []string // the path's keys
	value reflect.Type
}

func (l leaf) path() string {
	path := ""
	for _, key := range l.keys {
		path = join(path, key)
	}
	return path
}

// variable returns the name of the variable that sets the setting.
func (l leaf) variable() string {
	name := strings.Map(func(r rune) rune {
		if isNameRune(r) {
			return r
		}
		return '_'
	}, strings.Join(l.keys, "_"))
	return variablePrefix + strings.ToUpper(name)
}

// override writes the values of USHER_ variables over those of the file.
func (d *decoder) override(root reflect.Value) {
	leaves := map[string]leaf{}
	walkLeaves(root, nil, func(l leaf) {
		name := l.variable()
		if standing, ok := leaves[name]; !ok || longerKeys(l.keys, standing.keys) {
			leaves[name] = l
		}
	})
	for name, value := range d.overrides() {
		l, ok := leaves[name]
		switch {
		case ok:
			d.source.variables[l.path()] = name
			if complaint := d.assign(root, l.keys, value); complaint != "" {
				d.complain(name, complaint)
				d.source.broken = append(d.source.broken, l.path())
			}
		case d.referred[name], slices.Contains(d.environment.Reserved, name), isServiceLink(name, value):
		default:
			d.complain(name, "names no setting"+nearVariable(name, leaves))
		}
	}
}

// overrides returns the USHER_ variables sorted by name, so that the order of problems is fixed.
func (d *decoder) overrides() func(yield func(name, value string) bool) {
	values := map[string]string{}
	for _, variable := range d.environment.Variables {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, variablePrefix) {
			values[name] = value
		}
	}
	return func(yield func(name, value string) bool) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			if !yield(name, values[name]) {
				return
			}
		}
	}
}

func (d *decoder) complain(name, message string) {
	d.source.problems = append(d.source.problems, Problem{File: environmentName, Path: name, Message: message})
}

func nearVariable(name string, leaves map[string]leaf) string {
	if strings.HasSuffix(name, "_KIND") {
		return "; a kind is given in the file only"
	}
	var known []string // without the prefix, which would make any two names alike
	for variable := range leaves {
		known = append(known, strings.TrimPrefix(variable, variablePrefix))
	}
	slices.Sort(known)
	if near := nearest(strings.TrimPrefix(name, variablePrefix), known); near != "" {
		return fmt.Sprintf("; did you mean %s?", variablePrefix+near)
	}
	return "; the variable of admin.listen is " + variablePrefix + "ADMIN_LISTEN, and a map's entry must be in the file"
}

// walkLeaves visits every setting that a variable can set, in the order of the struct.
func walkLeaves(v reflect.Value, keys []string, visit func(leaf)) {
	t := v.Type()
	switch {
	case len(keys) > maxDepth:
	case isScalar(t), t.Kind() == reflect.Slice && isScalar(t.Elem()):
		visit(leaf{keys: slices.Clone(keys), value: t})
	case t.Kind() == reflect.Pointer && v.IsNil():
		walkLeaves(fresh(t.Elem()), keys, visit)
	case t.Kind() == reflect.Pointer:
		walkLeaves(v.Elem(), keys, visit)
	case t.Kind() == reflect.Struct:
		walkFields(v, keys, visit)
	case t.Kind() == reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			walkLeaves(copyOf(entries.Value()), append(keys, keyText(entries.Key())), visit)
		}
	}
}

func walkFields(v reflect.Value, keys []string, visit func(leaf)) {
	fields, _ := fieldsOf(v) // an error was reported when the struct was decoded
	_, isKinded := reflect.TypeAssert[Kinded](v.Addr())
	for _, f := range fields {
		if !isKinded || f.key != kindKey {
			walkLeaves(f.value, append(keys, f.key), visit)
		}
	}
}

// longerKeys reports whether a's first key that differs from b's is the longer one. Keys of equal length are
// compared by the alphabet, so that the result does not depend on the order of a map.
func longerKeys(a, b []string) bool {
	return slices.CompareFunc(a, b, func(x, y string) int {
		return cmp.Or(cmp.Compare(len(y), len(x)), strings.Compare(x, y))
	}) < 0
}

// assign sets the setting with these keys. It returns a complaint about the text. The complaint quotes the text, except
// for a secret.
func (d *decoder) assign(v reflect.Value, keys []string, text string) (complaint string) {
	t := v.Type()
	switch {
	case t.Kind() == reflect.Pointer && !isScalar(t):
		target := fresh(t.Elem())
		if !v.IsNil() {
			target.Set(v.Elem())
		}
		complaint = d.assign(target, keys, text)
		v.Set(target.Addr())
	case len(keys) == 0 && t.Kind() == reflect.Slice && !isScalar(t):
		return d.assignList(v, text)
	case len(keys) == 0:
		return d.assignScalar(v, text)
	case t.Kind() == reflect.Map:
		key := reflect.New(t.Key()).Elem()
		if err := setKey(key, keys[0]); err != nil {
			return err.Error()
		}
		value := copyOf(v.MapIndex(key))
		complaint = d.assign(value, keys[1:], text)
		v.SetMapIndex(key, value)
	default:
		fields, _ := fieldsOf(v)
		f, _ := fieldOf(fields, keys[0])
		return d.assign(f.value, keys[1:], text)
	}
	return complaint
}

func (d *decoder) assignList(v reflect.Value, text string) string {
	made := reflect.MakeSlice(v.Type(), 0, 0)
	for item := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		value := fresh(v.Type().Elem())
		if complaint := d.assignScalar(value, strings.TrimSpace(item)); complaint != "" {
			return complaint
		}
		made = reflect.Append(made, value)
	}
	v.Set(made)
	return ""
}

func (d *decoder) assignScalar(v reflect.Value, text string) string {
	if file, ok := strings.CutPrefix(text, filePrefix); ok && isSecret(v.Type()) {
		secret, warning, err := d.environment.readSecret(file)
		if err != nil {
			return err.Error()
		}
		if warning != "" {
			d.source.warnings = append(d.source.warnings, Problem{File: environmentName, Message: warning})
		}
		text = secret
	}
	err := setText(v, text)
	if err == nil {
		return ""
	}
	if _, plain := errors.AsType[wanted](err); plain {
		return fmt.Sprintf("found %s, %s", quoteShort(text), err)
	}
	return err.Error()
}

// isServiceLink reports whether Kubernetes set the variable for a service called usher, or usher-something, in the
// same namespace: USHER_SERVICE_HOST, USHER_PORT=tcp://…, USHER_PORT_8080_TCP_ADDR and so on.
func isServiceLink(name, value string) bool {
	if strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") {
		return true
	}
	for _, protocol := range []string{"tcp", "udp", "sctp"} {
		if strings.Contains(name, "_PORT_") && strings.Contains(name, "_"+strings.ToUpper(protocol)) ||
			strings.HasSuffix(name, "_PORT") && strings.HasPrefix(value, protocol+"://") {
			return true
		}
	}
	return false
}
