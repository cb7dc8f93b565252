package config

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

const (
	variablePrefix = "USHER_"
	filePrefix     = "file:"
	// maxSecretBytes bounds a secret's file. Keys and tokens are far smaller; a log is not read to its end.
	maxSecretBytes = 64 << 10
	// everybodyReads is the permission bit for reading by all users.
	everybodyReads = 0o004
)

// expand replaces ${NAME}, ${NAME:-default} and $$ in a text. The values are not expanded again, and errors name the
// variable only. An empty variable counts as unset, as in the shell's ${NAME:-…}.
func (d *decoder) expand(text string) (expanded string, err error) {
	return d.expandWith(text, func(value string) string { return value })
}

// saysFile reports whether the settings say that a secret is in a file: in the text itself or in a default, and not in the value
// of a variable.
func (d *decoder) saysFile(text string) bool {
	const value = "\x00"
	written, err := d.expandWith(text, func(string) string { return value })
	return err == nil && strings.HasPrefix(written, filePrefix)
}

// expandWith is expand with what it calls for each value of a variable in the place of that.
func (d *decoder) expandWith(text string, show func(value string) string) (expanded string, err error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	reference := regexp.MustCompile(`\$\$|\$\{(?:([A-Za-z_]\w*)(:-[^}]*)?\})?`)
	expanded = reference.ReplaceAllStringFunc(text, func(found string) string {
		parts := reference.FindStringSubmatch(found)
		name, fallback := parts[1], parts[2]
		d.isReferred[name] = true
		switch value := d.variables[name]; {
		case found == "$$":
			return "$"
		case name == "":
			err = errors.New("${ wants the name of a variable and a }, such as ${NAME} or ${NAME:-default}; write $${ for the text itself")
		case value == "" && fallback == "":
			err = fmt.Errorf("variable %s is unset or empty; set it, or write ${%s:-default}", name, name)
		case value == "":
			return strings.TrimPrefix(fallback, ":-")
		default:
			return show(value)
		}
		return ""
	})
	return expanded, err
}

// secretOf returns the secret that an expanded text says, which may be that of a file.
func (d *decoder) secretOf(n *yaml.Node, text, path string) (secret string, err error) {
	file, isFile := strings.CutPrefix(text, filePrefix)
	switch {
	case !isFile:
		return text, nil
	case n.Line > 0 && !d.saysFile(n.Value):
		return "", errors.New("the value of the variable begins with file:, which is not read there; write file:${NAME}, " +
			"and have the variable hold the path alone")
	default:
		return d.readSecret(n, file, path)
	}
}

// readSecret reads file:PATH without the newline that editors end a file with. It warns of the file's permissions.
// Neither that nor an error holds a byte of the file.
func (d *decoder) readSecret(n *yaml.Node, file, path string) (secret string, err error) {
	if file == "" {
		return "", errors.New("file: names no file, want file:PATH")
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(d.folder, file)
	}
	data, mode, err := readFile(file, maxSecretBytes)
	secret = strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if err == nil && secret == "" {
		err = fmt.Errorf("%s is empty", file)
	}
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	if mode&everybodyReads != 0 {
		d.warn(d.placeOf(n), path, fmt.Sprintf("every user of this machine can read %s; take that away with chmod o-r", file))
	}
	return secret, nil
}

// override sets what one variable can set: a scalar, or a list of them, from its variable.
func (d *decoder) override(v reflect.Value, path string) {
	isList := v.Kind() == reflect.Slice && !isScalar(v.Type()) && isScalar(v.Type().Elem())
	isInList := strings.Count(path, "[") > strings.Count(path, `["`)
	if isInList || !isList && !isScalar(v.Type()) {
		return
	}
	name := strings.NewReplacer(`["`, ".", `"]`, "").Replace(path)
	name = regexp.MustCompile(`[^A-Z0-9_]`).ReplaceAllLiteralString(strings.ToUpper(name), "_")
	d.known = append(d.known, name)
	variable := variablePrefix + name
	value, ok := d.variables[variable]
	if !ok || d.isRead[variable] {
		return
	}
	d.isRead[variable] = true
	n := &yaml.Node{Kind: yaml.ScalarNode, HeadComment: variable, Value: value}
	d.note(path, n)
	if isList {
		n.Kind = yaml.SequenceNode
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, HeadComment: variable, Value: item})
			}
		}
	}
	d.decodeNode(v, n, path)
}

// reportUnknownVariables reports the variables that no setting has.
func (d *decoder) reportUnknownVariables() {
	for name, value := range d.variables {
		if strings.HasPrefix(name, variablePrefix) && !d.isRead[name] && !d.isReferred[name] && !isServiceLink(name, value) {
			meant := "; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only"
			// Without the prefix, which would make any two names alike.
			near := setting.Nearest(strings.TrimPrefix(name, variablePrefix), d.known)
			if near != "" && !strings.HasSuffix(name, "_KIND") {
				meant = fmt.Sprintf("; did you mean %s?", variablePrefix+near)
			}
			d.report(&yaml.Node{HeadComment: name}, "", "names no setting%s", meant)
		}
	}
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
