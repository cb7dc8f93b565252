package config

import (
	"fmt"
	"slices"
	"strings"
)

const environmentName = "environment"

// Environment is what settings may come from besides the file. The zero value has no variables and takes relative paths
// from the working directory.
type Environment struct {
	// Variables are "NAME=value", as os.Environ gives them; the last of a name counts.
	Variables []string
	// Folder is what file:PATH is relative to; Load sets it to the folder of the file.
	Folder string
	// Reserved are USHER_ variables of the command line, which are not settings.
	Reserved []string
}

// lookup returns a variable's value. An empty one counts as unset, as in the shell's ${NAME:-…}.
func (e Environment) lookup(name string) (string, bool) {
	for _, variable := range slices.Backward(e.Variables) {
		if n, value, _ := strings.Cut(variable, "="); n == name {
			return value, value != ""
		}
	}
	return "", false
}

// expand replaces ${NAME}, ${NAME:-default} and $$ in a text. It returns the names in the text. The values are not
// expanded again, and errors name the variable only.
func (e Environment) expand(text string) (expanded string, names []string, err error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), names, nil
		}
		switch {
		case strings.HasPrefix(rest, "$"):
			b.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "{"):
			inner, after, closed := strings.Cut(rest[1:], "}")
			if !closed {
				return "", names, fmt.Errorf("${ has no closing }; write $${ for the text itself")
			}
			name, value, err := e.reference(inner)
			if err != nil {
				return "", names, err
			}
			names = append(names, name)
			b.WriteString(value)
			text = after
		default:
			b.WriteByte('$')
			text = rest
		}
	}
}

// reference resolves the text between ${ and }.
func (e Environment) reference(inner string) (name, value string, err error) {
	name, fallback, hasFallback := strings.Cut(inner, ":-")
	if !isVariableName(name) {
		return "", "", fmt.Errorf("${…} wants a variable's name, such as ${NAME} or ${NAME:-default}; " +
			"write $${ for the text itself")
	}
	value, ok := e.lookup(name)
	switch {
	case ok:
		return name, value, nil
	case hasFallback:
		return name, fallback, nil
	default:
		return name, "", fmt.Errorf("variable %s is unset or empty; set it, or write ${%s:-default}", name, name)
	}
}

func isVariableName(name string) bool {
	for i, r := range name {
		if !isNameRune(r) || i == 0 && '0' <= r && r <= '9' {
			return false
		}
	}
	return name != ""
}
