package signedlink

import (
	"errors"
	"fmt"
	"strings"
)

// variable is one that an expression may hold.
type variable uint8

const (
	literalText variable = iota
	secretVariable
	uriVariable
	expiresVariable
	addressVariable
)

// part is a variable, or text as it is.
type part struct {
	variable variable
	text     string
}

// expression is what a link's hash is made over. Its variables are spelled as in nginx; $expires is short for its
// $secure_link_expires.
type expression []part

// parseExpression reads an expression. Its errors begin with the key.
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
			return nil, fmt.Errorf("expression: %q is no variable; want $secret, $uri, $expires or $remote_addr",
				"$"+name)
		}
		e, rest = append(e, part{variable: v}), next
	}
	switch {
	case !e.has(secretVariable):
		return nil, errors.New("expression: must hold $secret, or anybody could sign")
	case !e.has(expiresVariable):
		return nil, errors.New("expression: must hold $expires, or a viewer could choose when his link ends")
	}
	return e, nil
}

// cutName takes the name of a variable off the beginning, with or without braces.
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
