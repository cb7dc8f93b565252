package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

const variablePrefix = "USHER_"

// maxDepth bounds the search for settings, because a struct may point to its own type.
const maxDepth = 16

// leaf is a setting that one variable can set.
type leaf struct {
	keys   []string // the path's keys
	isList bool
}

// override lays the values of USHER_ variables over those of the file.
func (d *decoder) override(root reflect.Value) {
	leaves := map[string]leaf{}
	findLeaves(root, nil, leaves)
	values := map[string]string{}
	for _, variable := range d.environment.Variables {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, variablePrefix) {
			values[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		l, ok := leaves[name]
		switch {
		case ok:
			d.decode(root, l.overlay(name, values[name]), "")
		case d.referred[name], slices.Contains(d.environment.Reserved, name), isServiceLink(name, values[name]):
		default:
			d.source.add(place{variable: name}, "", "names no setting"+nearVariable(name, leaves))
		}
	}
}

// overlay returns a tree with nothing but the variable's setting.
func (l leaf) overlay(variable, value string) *yaml.Node {
	scalar := func(value string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, HeadComment: variable, Value: value}
	}
	n := scalar(value)
	if l.isList {
		n = &yaml.Node{Kind: yaml.SequenceNode, HeadComment: variable}
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				n.Content = append(n.Content, scalar(item))
			}
		}
	}
	for i, key := range slices.Backward(l.keys) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: key}
		if i == len(l.keys)-1 {
			key.HeadComment = variable
		}
		n = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, n}}
	}
	return n
}

func nearVariable(name string, leaves map[string]leaf) string {
	if strings.HasSuffix(name, "_KIND") {
		return "; a kind is given in the file only"
	}
	var known []string // without the prefix, which would make any two names alike
	for variable := range leaves {
		known = append(known, strings.TrimPrefix(variable, variablePrefix))
	}
	if near := setting.Nearest(strings.TrimPrefix(name, variablePrefix), known); near != "" {
		return fmt.Sprintf("; did you mean %s?", variablePrefix+near)
	}
	return "; the variable of admin.listen is " + variablePrefix + "ADMIN_LISTEN, and a map's entry must be in the file"
}

// findLeaves finds every setting that a variable can set, by the variable's name.
func findLeaves(v reflect.Value, keys []string, leaves map[string]leaf) {
	for v.Kind() == reflect.Pointer && !isScalar(v.Type()) {
		if v.IsNil() {
			v = fresh(v.Type().Elem())
			continue
		}
		v = v.Elem()
	}
	t := v.Type()
	isList := t.Kind() == reflect.Slice && !isScalar(t)
	switch {
	case len(keys) > maxDepth, isList && !isScalar(t.Elem()):
	case isScalar(t), isList:
		name := variableOf(keys)
		if other, isTaken := leaves[name]; !isTaken || hasLongerKeys(keys, other.keys) {
			leaves[name] = leaf{slices.Clone(keys), isList}
		}
	default:
		for _, c := range childrenOf(v, "") {
			findLeaves(c.value, append(keys, c.key), leaves)
		}
		if _, isKinded := reflect.TypeAssert[Kinded](v.Addr()); isKinded {
			delete(leaves, variableOf(append(keys, kindKey))) // it decides which others there are
		}
	}
}

// variableOf returns the name of the variable of a setting.
func variableOf(keys []string) string {
	name := strings.ToUpper(strings.Join(keys, "_"))
	return variablePrefix + regexp.MustCompile(`[^A-Z0-9_]`).ReplaceAllLiteralString(name, "_")
}

// hasLongerKeys reports whether a's first key that differs from b's is the longer one. Keys of equal length are
// compared by the alphabet.
func hasLongerKeys(a, b []string) bool {
	return slices.CompareFunc(a, b, func(x, y string) int {
		return cmp.Or(cmp.Compare(len(y), len(x)), strings.Compare(x, y))
	}) < 0
}

// isServiceLink reports whether Kubernetes set the variable for a service called usher, or usher-something, in the
// same namespace: USHER_SERVICE_HOST, USHER_PORT=tcp://…, USHER_PORT_8080_TCP_ADDR and so on.
func isServiceLink(name, value string) bool {
	return regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT|_PORT_.*_(TCP|UDP|SCTP)`).MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && regexp.MustCompile(`^(tcp|udp|sctp)://`).MatchString(value)
}
