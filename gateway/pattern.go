package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// nameCharacters are what a variable's name is made of: it becomes the name of a query parameter.
const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// maxVariables bounds a pattern's variables, so that a match lives on the stack.
const maxVariables = 6

// channelVariable is the one variable that every pattern of viewers' paths has.
const channelVariable = "channel"

// restVariable is what a trailing * matches.
const restVariable = "*"

// pattern is a path with variables: "/play/{channel}/*". A variable matches within one segment, at least one character;
// "*" stands last and matches the rest of the path.
type pattern struct {
	text  string
	parts []patternPart
	names []string // of the variables, in order
}

// patternPart is a literal, then a variable. The last part's variable may be absent.
type patternPart struct {
	literal  string
	variable string
}

// match is what a pattern's variables stand for, in the pattern's order. The values are parts of the path, escaped as
// it is.
type match struct {
	values [maxVariables]string
}

// parsePattern reads a pattern that names the channel.
func parsePattern(text string) (*pattern, error) {
	p, err := parsePath(text)
	if err == nil && p.index(channelVariable) < 0 {
		err = fmt.Errorf("%q needs a {channel}", text)
	}
	return p, err
}

// parsePath reads a pattern that may do without a channel.
func parsePath(text string) (*pattern, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, fmt.Errorf("%q must begin with /", text)
	}
	if strings.HasPrefix(text, "/~") {
		return nil, fmt.Errorf("%q must not begin with /~, where tickets stand", text)
	}
	for _, c := range text {
		if isNeverInPath(c) {
			return nil, fmt.Errorf("%q: %q never stands in a path as it travels; write it escaped", text, string(c))
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

// isNeverInPath reports whether a character is one that the path of a request never holds unescaped.
func isNeverInPath(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"#<>?\\^`|", c)
}

// nextPart cuts a literal and the variable behind it off a pattern.
func nextPart(text string) (literal, variable, rest string, err error) {
	i := strings.IndexAny(text, "{*")
	if i < 0 {
		return text, "", "", nil
	}
	if text[i] == '*' {
		if i+1 < len(text) || i == 0 || text[i-1] != '/' {
			return "", "", "", errors.New("* stands only last, as a whole segment")
		}
		return text[:i], restVariable, "", nil
	}
	end := strings.IndexByte(text[i:], '}')
	if end < 0 {
		return "", "", "", errors.New("{ without }")
	}
	variable = text[i+1 : i+end]
	if strings.Trim(variable, nameCharacters) != "" || variable == "" {
		return "", "", "", fmt.Errorf("{%s} is no name; want letters, digits, _ and -", variable)
	}
	return text[:i], variable, text[i+end+1:], nil
}

func (p *pattern) validate() error {
	if len(p.names) > maxVariables {
		return fmt.Errorf("%q has more than %d variables", p.text, maxVariables)
	}
	if strings.Contains(p.text, "}{") {
		return fmt.Errorf("%q: something must stand between two variables", p.text)
	}
	for i, name := range p.names {
		if slices.Contains(p.names[:i], name) {
			return fmt.Errorf("%q names {%s} twice", p.text, name)
		}
	}
	return nil
}

// index is the place of a variable among the pattern's, or -1.
func (p *pattern) index(name string) int {
	for i, n := range p.names {
		if n == name {
			return i
		}
	}
	return -1
}

// match reads a path. A variable takes as little as it can, but for *, which takes all.
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

// variableEnd is where the variable of part i ends in the path: before the next literal, or with the segment.
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
	// The last place where the literal's own part of the segment stands, so that a dot in a name is no end.
	if i+2 == len(p.parts) || len(within) < len(literal) {
		return strings.LastIndex(path[:segment], within)
	}
	return strings.Index(path[:segment], within)
}

// expand writes the path that the pattern gives for the variables of another's match. Variables that the other does
// not have make it fail.
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

// folder is the path that expand gives up to the end of the segment that names the channel: everything of the channel
// is at it or below it. It fails as expand does.
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

// value is what a variable stands for, or "".
func (p *pattern) value(m match, name string) string {
	if i := p.index(name); i >= 0 {
		return m.values[i]
	}
	return ""
}
