package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"usher/gateway/ticket"
	"usher/gateway/urlpath"
)

// nameCharacters are allowed in a variable's name, which becomes the name of a query parameter.
const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

// maxVariables bounds a pattern's variables, so that a match stays on the stack.
const maxVariables = 6

// channelVariable is the one variable that every pattern of viewers' paths has.
const channelVariable = "channel"

// deepSuffix follows the name of a variable that matches several segments.
const deepSuffix = "..."

// restVariable is the name of the trailing *.
const restVariable = "*"

// pattern is a path with variables: "/play/{channel}/*". A variable matches one character or more within a segment;
// {channel...} matches several segments. "*" comes last and matches the rest of the path.
type pattern struct {
	text  string
	parts []patternPart
	names []string // of the variables, in order
	// isDeep reports that the channel matches several segments.
	isDeep bool
}

// patternPart is a literal and the variable after it. The last part's variable may be empty.
type patternPart struct {
	literal  string
	variable string
	isDeep   bool // the variable matches several segments
}

// match holds the values of a pattern's variables in order. They are parts of the path, escaped as it is.
type match struct {
	values [maxVariables]string
}

// parseViewer parses a pattern of viewers' paths, which must have {channel}.
func parseViewer(text string) (*pattern, error) {
	p, err := parsePattern(text)
	if err == nil {
		err = p.validateViewer()
	}
	return p, err
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
		part, after, err := nextPart(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		p.parts = append(p.parts, part)
		p.isDeep = p.isDeep || part.isDeep
		if part.variable != "" {
			p.names = append(p.names, part.variable)
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
func nextPart(text string) (part patternPart, rest string, err error) {
	i := strings.IndexAny(text, "{*")
	if i < 0 {
		return patternPart{literal: text}, "", nil
	}
	if text[i] == '*' {
		if i+1 < len(text) || i == 0 || text[i-1] != '/' {
			return part, "", errors.New("* may only be the whole last segment")
		}
		return patternPart{literal: text[:i], variable: restVariable}, "", nil
	}
	end := strings.IndexByte(text[i:], '}')
	if end < 0 {
		return part, "", errors.New("{ without }")
	}
	name, isDeep := strings.CutSuffix(text[i+1:i+end], deepSuffix)
	switch {
	case strings.Trim(name, nameCharacters) != "" || name == "":
		return part, "", fmt.Errorf("{%s} is not a valid name; want letters, digits, _ and -", text[i+1:i+end])
	case isDeep && name != channelVariable:
		return part, "", fmt.Errorf("{%s}: only {channel...} matches several segments", text[i+1:i+end])
	}
	return patternPart{text[:i], name, isDeep}, text[i+end+1:], nil
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

// validateViewer returns an error for a pattern that matches no request: its path is refused, or its slashes are merged before.
func (p *pattern) validateViewer() error {
	var joined strings.Builder
	for _, part := range p.parts {
		if joined.WriteString(part.literal); part.variable != "" {
			joined.WriteByte('x')
		}
	}
	switch example := joined.String(); {
	case strings.Contains(example, "//"):
		return fmt.Errorf("%q matches no request: several slashes in a row count as one; write one", p.text)
	case !urlpath.IsClean(example):
		return fmt.Errorf("%q matches no request: %s", p.text, urlpath.Unclean)
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

// anyDepth is the depth of a channel as deep as a path allows.
const anyDepth = -1

// match matches a path, several slashes in a row as one. A variable takes as little as it can; * takes all that is left.
// {channel...} takes as much as it can: with "/{channel...}/*" it is the file's folder.
func (p *pattern) match(path string) (match, bool) { return p.matchDepth(path, anyDepth) }

// matchDepth matches a path whose channel has that many slashes.
func (p *pattern) matchDepth(path string, depth int) (m match, ok bool) {
	ok = matchParts(p.parts, urlpath.MergeSlashes(path), m.values[:], depth)
	return m, ok
}

// matchParts matches a path with the parts of a pattern and stores the values of their variables.
func matchParts(parts []patternPart, path string, values []string, depth int) bool {
	for i, part := range parts {
		after, found := strings.CutPrefix(path, part.literal)
		if !found {
			return false
		}
		path = after
		switch {
		case part.variable == "":
			continue
		case part.variable == restVariable:
			values[0], path = path, ""
		case part.isDeep:
			return matchDeep(parts[i+1:], path, values, depth)
		default:
			end := variableEnd(parts[i+1:], path)
			if end <= 0 {
				return false
			}
			values[0], path = path[:end], path[end:]
		}
		values = values[1:]
	}
	return path == ""
}

// matchDeep matches a path that begins with the value of {channel...}, which ends at the last place where the rest of the
// pattern matches.
func matchDeep(rest []patternPart, path string, values []string, depth int) bool {
	if len(rest) == 0 {
		values[0] = path
		return isChannelPath(path, depth)
	}
	for end := len(path); end > 0; {
		end = strings.LastIndex(path[:min(len(path), end-1+len(rest[0].literal))], rest[0].literal)
		if end > 0 && isChannelPath(path[:end], depth) && matchParts(rest, path[end:], values[1:], depth) {
			values[0] = path[:end]
			return true
		}
	}
	return false
}

// maxChannelDepth is how many slashes a channel may have. A ticket says how many its channel has.
const maxChannelDepth = ticket.MaxDepth

// isChannelPath reports whether a channel has names between its slashes, and that many slashes.
func isChannelPath(value string, depth int) bool {
	slashes := strings.Count(value, "/")
	return value != "" && value[0] != '/' && value[len(value)-1] != '/' &&
		slashes <= maxChannelDepth && (depth == anyDepth || slashes == depth)
}

// variableEnd returns where a variable ends in the path that begins with its value: before the literal of the next part, or
// with the segment.
func variableEnd(rest []patternPart, path string) int {
	segment := len(path)
	if slash := strings.IndexByte(path, '/'); slash >= 0 {
		segment = slash
	}
	if len(rest) == 0 {
		return segment
	}
	literal := rest[0].literal
	within, _, _ := strings.Cut(literal, "/")
	if within == "" {
		return segment
	}
	// The last occurrence in the segment ends the variable, so that a name may have a dot.
	if len(rest) == 1 || len(within) < len(literal) {
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

// hasCredentials reports whether the pattern has variables besides {channel}.
func (p *pattern) hasCredentials() bool {
	return slices.ContainsFunc(p.names, func(name string) bool { return name != channelVariable && name != restVariable })
}

// place returns the expanded path with that text in place of its *. It fails if there is no *, or as expand does.
func (p *pattern) place(from *pattern, m match, rest string) (string, bool) {
	var b strings.Builder
	hasRest := false
	for _, part := range p.parts {
		b.WriteString(part.literal)
		switch i := from.index(part.variable); {
		case part.variable == "":
		case part.variable == restVariable:
			b.WriteString(rest)
			hasRest = true
		case i < 0:
			return "", false
		default:
			b.WriteString(m.values[i])
		}
	}
	return b.String(), hasRest
}

// unmerge returns the match of a path with the slashes of the trailing * as the path has them.
func (p *pattern) unmerge(path string, m match) match {
	if i := len(p.names) - 1; i >= 0 && p.names[i] == restVariable {
		m.values[i] = urlpath.UnmergedSuffix(path, m.values[i])
	}
	return m
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

// variableNames finds the names of a pattern's variables, which do not matter to what it matches; the dots behind one do.
var variableNames = regexp.MustCompile(`{[^}.]*`)

// matched returns the path without the names of its variables.
func (p PathMappingConfig) matched() string { return variableNames.ReplaceAllString(p.Path, "{") }

// fetched returns the path on the origin with the places of its variables in the viewer's path instead of their names.
func (p PathMappingConfig) fetched() string {
	names := variableNames.FindAllString(p.Path, -1)
	return variableNames.ReplaceAllStringFunc(cmp.Or(p.OriginPath, p.Path), func(name string) string {
		return "{" + strconv.Itoa(slices.Index(names, name))
	})
}

// isPlace reports whether the references of a route's playlists are written below its path, whatever patterns it has for media.
func (p PathMappingConfig) isPlace() bool {
	viewer, err := parseViewer(p.Path)
	return err == nil && viewer.index(restVariable) >= 0 && !viewer.hasCredentials()
}
