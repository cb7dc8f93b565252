package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

const variablePrefix = "USHER_"

// override sets what one variable can set: a scalar, or a list of them, from its variable.
func (d *decoder) override(v reflect.Value, at spot) {
	isList := v.Kind() == reflect.Slice && !isScalar(v.Type()) && isScalar(v.Type().Elem())
	if at.variable == "" || !isList && !isScalar(v.Type()) {
		return
	}
	d.known = append(d.known, strings.TrimPrefix(at.variable, variablePrefix))
	value, ok := d.variables[at.variable]
	if !ok || d.isRead[at.variable] {
		return
	}
	d.isRead[at.variable] = true
	n := &yaml.Node{Kind: yaml.ScalarNode, HeadComment: at.variable, Value: value}
	d.source.note(at.path, n)
	if isList {
		n.Kind = yaml.SequenceNode
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, HeadComment: at.variable, Value: item})
			}
		}
	}
	d.decodeNode(v, n, spot{path: at.path})
}

// reportUnknownVariables reports the variables that no setting has.
func (d *decoder) reportUnknownVariables() {
	for name, value := range d.variables {
		if strings.HasPrefix(name, variablePrefix) && !d.isRead[name] && !d.isReferred[name] && !isServiceLink(name, value) {
			d.source.report(&yaml.Node{HeadComment: name}, "", "names no setting%s", d.nearVariable(name))
		}
	}
}

func (d *decoder) nearVariable(name string) string {
	if strings.HasSuffix(name, "_KIND") {
		return "; a kind is given in the file only"
	}
	// Without the prefix, which would make any two names alike.
	if near := setting.Nearest(strings.TrimPrefix(name, variablePrefix), d.known); near != "" {
		return fmt.Sprintf("; did you mean %s?", variablePrefix+near)
	}
	return "; the variable of admin.listen is " + variablePrefix + "ADMIN_LISTEN, and a map's entry must be in the file"
}

// byPrecedence orders the keys of a section: where the variables of two settings have the same name, it is that of the
// one with the longer key. Keys of equal length are compared by the alphabet.
func byPrecedence(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) }

// isServiceLink reports whether Kubernetes set the variable for a service called usher, or usher-something, in the
// same namespace: USHER_SERVICE_HOST, USHER_PORT=tcp://…, USHER_PORT_8080_TCP_ADDR and so on.
func isServiceLink(name, value string) bool {
	return regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT|_PORT_.*_(TCP|UDP|SCTP)`).MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && regexp.MustCompile(`^(tcp|udp|sctp)://`).MatchString(value)
}
