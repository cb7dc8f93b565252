package signedlink

import (
	"errors"
	"fmt"
	"strings"
)

// variable is a variable of an expression; literalText is none.
type variable uint8

const (
	literalText variable = iota
	secretVariable
	uriVariable
	expiresVariable
	addressVariable
)

// part is a variable or literal text.
type part struct {
	variable variable
	text     string
}

// expression is the parsed input of a link's hash. Its variables are spelled as in nginx; $expires is short for
// $secure_link_expires.
type expression []part

// parseExpression parses an expression. Its errors begin with the key.
func parseExpression(text string) (expression, error) {
	var e expression
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "$")
		if before != "" {
			e = append(e, part{text: before})
		}
		if !found {
			break
		}
		name, next, ok := cutName(after)
		v := variableOf(name)
		if !ok || v == literalText {
			return nil, fmt.Errorf("expression: %q is not a variable; want $secret, $uri, $expires or $remote_addr",
				"$"+name)
		}
		e, rest = append(e, part{variable: v}), next
	}
	switch {
	case !e.has(secretVariable):
		return nil, errors.New("expression: must contain $secret, or any viewer could sign")
	case !e.has(expiresVariable):
		return nil, errors.New("expression: must contain $expires, or a viewer could choose when the link expires")
	}
	return e, nil
}

// cutName splits off the name of a variable, with or without braces.
func cutName(s string) (name, rest string, ok bool) {
	if inside, found := strings.CutPrefix(s, "{"); found {
		name, rest, ok = strings.Cut(inside, "}")
		return name, rest, ok
	}
	end := strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:], true
}

func variableOf(name string) variable {
	switch name {
	case "secret":
		return secretVariable
	case "uri":
		return uriVariable
	case "expires", "secure_link_expires":
		return expiresVariable
	case "remote_addr":
		return addressVariable
	default:
		return literalText
	}
}

func (e expression) has(v variable) bool {
	for _, p := range e {
		if p.variable == v {
			return true
		}
	}
	return false
}
