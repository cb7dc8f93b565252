package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

const environmentName = "environment"

// Problem is one finding about one setting. It is a value.
type Problem struct {
	// File is the file's name as it was given, or "environment".
	File string
	// Line and Column count from 1, in characters; both are zero for the environment.
	Line, Column int
	// Path is the setting's path, such as "routes[0].origin", or the variable's name. It may be empty.
	Path string
	// Message says what is wrong and what is allowed. It never holds a secret.
	Message string
}

// String returns the problem on one line, beginning with file:line:column as editors expect.
func (p Problem) String() string {
	if p.Path == "" {
		return p.Position() + ": " + p.Message
	}
	return p.Position() + ": " + p.Path + ": " + p.Message
}

// Position returns file:line:column, or the name of the environment.
func (p Problem) Position() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problems is the error of Load and Parse: all problems, first those of the file in its order, then the environment's.
type Problems []Problem

// Error returns one problem a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the problems in order, without repetitions.
func (p Problems) sorted() Problems {
	slices.SortFunc(p, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) { // the environment is last
			return cmp.Compare(b.Line, a.Line)
		}
		if order := cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)); order != 0 {
			return order
		}
		return strings.Compare(a.String(), b.String())
	})
	return slices.Compact(p)
}

// err returns the problems in order, or nil for none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return p.sorted()
}

// Source remembers where each setting came from, so that later problems can be reported with a position. It is
// safe for concurrent use once Load or Parse has returned it.
type Source struct {
	file      string
	hints     []string           // what characters of each line look like another one
	places    map[string]Problem // path → where it was set
	isSetting map[string]bool    // the paths of all settings
	warnings  Problems
	problems  Problems
	broken    []string // the paths of settings that could not be read, so that no check complains of their absence
}

// placeOf returns a problem of a node, without its message. A node of the environment has no line, and its comment names the
// variable.
func (s *Source) placeOf(n *yaml.Node) Problem {
	if n.Line == 0 {
		return Problem{File: environmentName, Path: n.HeadComment}
	}
	return Problem{File: s.file, Line: n.Line, Column: n.Column}
}

// note remembers where a path was set.
func (s *Source) note(path string, n *yaml.Node) { s.places[path] = s.placeOf(n) }

// Warnings returns findings that do not prevent the start, in file order: never a secret.
func (s *Source) Warnings() Problems { return s.warnings.sorted() }

// locate returns where a setting was set, or its nearest parent, or 1:1.
func (s *Source) locate(path string) Problem {
	for ; path != ""; path = parentOf(path) {
		if place, ok := s.places[path]; ok {
			return place
		}
	}
	return Problem{File: s.file, Line: 1, Column: 1}
}

// Explain positions the messages of err, an error such as Validate returns: one message, or several joined with
// errors.Join, each beginning with the path of its setting ("cache.max_bytes: …"). The result is nil for a nil error,
// else [Problems].
func (s *Source) Explain(err error) error {
	var found Problems
	s.explain(err, "", &found)
	return found.err()
}

// explain adds the messages of a section, except those that follow from what could not be read.
func (s *Source) explain(err error, section string, to *Problems) {
	for _, message := range messagesOf(err) {
		path, text := s.subject(message, section)
		isConsequence := slices.ContainsFunc(s.broken, func(b string) bool { return within(b, path) || within(path, b) })
		if !isConsequence {
			*to = append(*to, s.problem(s.locate(path), path, text))
		}
	}
}

// messagesOf splits joined errors, even with a prefix before all of them.
func messagesOf(err error) (all []string) {
	if err == nil {
		return nil
	}
	joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err)
	if !ok || joined.Error() != errors.Join(joined.Unwrap()...).Error() || !strings.HasSuffix(err.Error(), joined.Error()) {
		return []string{err.Error()}
	}
	prefix := strings.TrimSuffix(err.Error(), joined.Error())
	for _, part := range joined.Unwrap() {
		for _, message := range messagesOf(part) {
			all = append(all, prefix+message)
		}
	}
	return all
}

// subject returns the setting that a message is about. A message begins with a key of the section or of a section
// around it, and a path from there; otherwise it is about the section itself.
func (s *Source) subject(message, section string) (path, text string) {
	leading := regexp.MustCompile(`(?s)^([A-Za-z_][\w-]*)((?:\.[\w-]+|\[\d+\]|\["[^"\\]*"\])*): (.*)$`)
	said := leading.FindStringSubmatch(message)
	for around := section; said != nil; around = parentOf(around) {
		if path = join(around, said[1]); s.isSetting[path] {
			return path + said[2], said[3]
		}
		if around == "" {
			break
		}
	}
	return section, strings.TrimSpace(message)
}

// problem returns the problem of a setting at a place.
func (s *Source) problem(at Problem, path, message string) Problem {
	if at.Line > 0 {
		at.Path = path
	}
	if at.Line > 0 && at.Line <= len(s.hints) {
		message += s.hints[at.Line-1]
	}
	at.Message = message
	return at
}

// report adds a problem of a node. What Validate says of its path follows from it, and is not reported.
func (s *Source) report(n *yaml.Node, path, format string, args ...any) {
	s.problems = append(s.problems, s.problem(s.placeOf(n), path, fmt.Sprintf(format, args...)))
	s.broken = append(s.broken, path)
}

// warn adds a finding that does not prevent the start.
func (s *Source) warn(at Problem, path, message string) {
	s.warnings = append(s.warnings, s.problem(at, path, message))
}

// join appends a key to a path. A key with unusual characters is quoted, so that a path is one line.
func join(path, key string) string {
	switch {
	case key == "" || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != "":
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

// index appends an index of a list.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// within reports whether path is section or a setting inside it; every path is within "".
func within(path, section string) bool {
	rest, ok := strings.CutPrefix(path, section)
	return ok && (rest == "" || section == "" || rest[0] == '.' || rest[0] == '[')
}

// parentOf returns the path of the section or list around a setting, whose dots and brackets in a quoted key make it shorter by
// more steps.
func parentOf(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

// explainCharacter returns the end of a message about a line with a character that looks like another one, or like none.
// It is empty for other lines. What stands in a comment is not read.
func explainCharacter(line string) string {
	for i, r := range line {
		before, name := line[:i], lookalike(r)
		switch {
		case r == '#' && (i == 0 || strings.HasSuffix(before, " ") || strings.HasSuffix(before, "\t")): // a comment
			return ""
		case r == '\uFEFF' && i == 0: // a byte order mark
			continue
		case r == '\t' && strings.Trim(before, " -?") == "":
			name = "a tab, and YAML is indented by spaces"
		}
		if name != "" {
			return fmt.Sprintf("; column %d is %s (U+%04X)", utf8.RuneCountInString(before)+1, name, r)
		}
	}
	return ""
}

// lookalike returns what a character is that an editor or a web page puts in the place of one that is meant; empty: none.
func lookalike(r rune) string {
	switch {
	case r > unicode.MaxASCII && unicode.IsSpace(r):
		return "a no-break space or one of another width, where a plain space is meant"
	case unicode.Is(unicode.Cf, r):
		return "an invisible character, where none is meant"
	case unicode.In(r, unicode.Pi, unicode.Pf) || r == '„' || r == '‚':
		return `a typographic quotation mark, where " or ' is meant`
	case r != '-' && unicode.Is(unicode.Pd, r) || r == '−':
		return "a dash, where a plain - is meant"
	case r == '：' || r == '﹕':
		return "a full-width colon, where a plain : is meant"
	default:
		return ""
	}
}
