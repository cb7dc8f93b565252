package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// nameCharacters are allowed in a variable's name, which becomes the name of a query parameter.
const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// maxVariables bounds a pattern's variables, so that a match stays on the stack.
const maxVariables = 6

// channelVariable is the one variable that every pattern of viewers' paths has.
const channelVariable = "channel"

// restVariable is the name of the trailing *.
const restVariable = "*"

// pattern is a path with variables: "/play/{channel}/*". A variable matches one character or more within a segment. "*"
// comes last and matches the rest of the path.
type pattern struct {
	text  string
	parts []patternPart
	names []string // of the variables, in order
}

// patternPart is a literal and the variable after it. The last part's variable may be empty.
type patternPart struct {
	literal  string
	variable string
}

// match holds the values of a pattern's variables in order. They are parts of the path, escaped as it is.
type match struct {
	values [maxVariables]string
}

// parsePattern parses a pattern that must have {channel}.
func parsePattern(text string) (*pattern, error) {
	p, err := parsePath(text)
	if err == nil && p.index(channelVariable) < 0 {
		err = fmt.Errorf("%q needs a {channel}", text)
	}
	return p, err
}

// parsePath parses a pattern that may have no {channel}.
func parsePath(text string) (*pattern, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, fmt.Errorf("%q must begin with /", text)
	}
	if strings.HasPrefix(text, "/~") {
		return nil, fmt.Errorf("%q must not begin with /~, which is for tickets", text)
	}
	for _, c := range text {
		if isNeverInPath(c) {
			return nil, fmt.Errorf("%q: a path in a request never has %q; write it escaped", text, string(c))
		}
	}
	p := &pattern{text: text}
	rest := text
	for rest != "" {
		literal, variable, after, err := nextPart(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		p.parts = append(p.parts, patternPart{literal, variable})
		if variable != "" {
			p.names = append(p.names, variable)
		}
		rest = after
	}
	return p, p.validate()
}

// isNeverInPath reports whether the path of a request never has the character unescaped.
func isNeverInPath(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"#<>?\\^`|", c)
}

// nextPart cuts a literal and the variable after it off a pattern.
func nextPart(text string) (literal, variable, rest string, err error) {
	i := strings.IndexAny(text, "{*")
	if i < 0 {
		return text, "", "", nil
	}
	if text[i] == '*' {
		if i+1 < len(text) || i == 0 || text[i-1] != '/' {
			return "", "", "", errors.New("* may only be the whole last segment")
		}
		return text[:i], restVariable, "", nil
	}
	end := strings.IndexByte(text[i:], '}')
	if end < 0 {
		return "", "", "", errors.New("{ without }")
	}
	variable = text[i+1 : i+end]
	if strings.Trim(variable, nameCharacters) != "" || variable == "" {
		return "", "", "", fmt.Errorf("{%s} is not a valid name; want letters, digits, _ and -", variable)
	}
	return text[:i], variable, text[i+end+1:], nil
}

func (p *pattern) validate() error {
	if len(p.names) > maxVariables {
		return fmt.Errorf("%q has more than %d variables", p.text, maxVariables)
	}
	if strings.Contains(p.text, "}{") {
		return fmt.Errorf("%q: two variables need a literal between them", p.text)
	}
	for i, name := range p.names {
		if slices.Contains(p.names[:i], name) {
			return fmt.Errorf("%q names {%s} twice", p.text, name)
		}
	}
	return nil
}

// index returns the position of a variable among the pattern's, or -1.
func (p *pattern) index(name string) int {
	for i, n := range p.names {
		if n == name {
			return i
		}
	}
	return -1
}

// match matches a path. A variable takes as little as it can; * takes all that is left.
func (p *pattern) match(path string) (m match, ok bool) {
	n := 0
	for i, part := range p.parts {
		after, found := strings.CutPrefix(path, part.literal)
		if !found {
			return match{}, false
		}
		path = after
		switch part.variable {
		case "":
			continue
		case restVariable:
			m.values[n], path = path, ""
		default:
			end := p.variableEnd(i, path)
			if end <= 0 {
				return match{}, false
			}
			m.values[n], path = path[:end], path[end:]
		}
		n++
	}
	return m, path == ""
}

// variableEnd returns where the variable of part i ends in the path: before the next literal, or with the segment.
func (p *pattern) variableEnd(i int, path string) int {
	segment := len(path)
	if slash := strings.IndexByte(path, '/'); slash >= 0 {
		segment = slash
	}
	if i+1 == len(p.parts) {
		return segment
	}
	literal := p.parts[i+1].literal
	within, _, _ := strings.Cut(literal, "/")
	if within == "" {
		return segment
	}
	// The last occurrence in the segment ends the variable, so that a name may have a dot.
	if i+2 == len(p.parts) || len(within) < len(literal) {
		return strings.LastIndex(path[:segment], within)
	}
	return strings.Index(path[:segment], within)
}

// expand returns the pattern's path with the values of another pattern's match. It fails if the other pattern lacks a
// variable.
func (p *pattern) expand(from *pattern, m match) (string, bool) {
	var b strings.Builder
	for _, part := range p.parts {
		b.WriteString(part.literal)
		if part.variable == "" {
			continue
		}
		i := from.index(part.variable)
		if i < 0 {
			return "", false
		}
		b.WriteString(m.values[i])
	}
	return b.String(), true
}

// folder returns the expanded path up to the end of the segment that names the channel. Everything of the channel is at
// it or below it. It fails as expand does.
func (p *pattern) folder(from *pattern, m match) (string, bool) {
	var b strings.Builder
	named := false
	for _, part := range p.parts {
		literal, _, ends := strings.Cut(part.literal, "/")
		if named && ends {
			b.WriteString(literal)
			break
		}
		b.WriteString(part.literal)
		if part.variable == "" || part.variable == restVariable {
			continue
		}
		i := from.index(part.variable)
		if i < 0 {
			return "", false
		}
		b.WriteString(m.values[i])
		named = named || part.variable == channelVariable
	}
	return b.String(), true
}

// value returns the value of a variable, or "".
func (p *pattern) value(m match, name string) string {
	if i := p.index(name); i >= 0 {
		return m.values[i]
	}
	return ""
}
