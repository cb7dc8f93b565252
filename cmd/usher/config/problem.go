package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

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
	at := p.Position()
	if p.Path != "" {
		at += ": " + p.Path
	}
	return at + ": " + p.Message
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
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.String(), b.String()))
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
	file     string
	lines    []string
	places   map[string]Problem // path → where it was set
	warnings Problems
	problems Problems
	broken   []string // the paths of settings that could not be read, so that no check complains of their absence
	size     int      // settings that were read, those of aliases each time
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
	for _, message := range messagesOf(err, "") {
		path, text := splitPath(message)
		found = append(found, s.problem(s.locate(path), path, text))
	}
	return found.err()
}

// problem returns the problem of a setting at a place.
func (s *Source) problem(at Problem, path, message string) Problem {
	if at.Line > 0 {
		at.Path = path
	}
	if at.Line > 0 && at.Line <= len(s.lines) {
		message += explainCharacter(s.lines[at.Line-1])
	}
	at.Message = message
	return at
}

// report adds a problem of a node. What Validate says of its path follows from it, and is not reported.
func (s *Source) report(n *yaml.Node, path, format string, args ...any) {
	s.problems = append(s.problems, s.problem(s.placeOf(n), path, fmt.Sprintf(format, args...)))
	s.broken = append(s.broken, path)
}

// isTooLarge adds to the number of settings, and reports whether there are too many.
func (s *Source) isTooLarge(n *yaml.Node, path string, more int) bool {
	wasTooLarge := s.size > maxSettings
	s.size += more
	if s.size > maxSettings && !wasTooLarge {
		s.report(n, path, "the file has more than %d settings", maxSettings)
	}
	return s.size > maxSettings
}

// warn adds a finding that does not prevent the start.
func (s *Source) warn(at Problem, path, message string) {
	s.warnings = append(s.warnings, s.problem(at, path, message))
}

// messagesOf splits joined errors, even with a prefix before all of them.
func messagesOf(err error, prefix string) (all []string) {
	switch e := err.(type) { //nolint:errorlint // it looks at one error after the other
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		if parts := e.Unwrap(); err.Error() == errors.Join(parts...).Error() {
			for _, part := range parts {
				all = append(all, messagesOf(part, prefix)...)
			}
			return all
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			if before, ok := strings.CutSuffix(err.Error(), inner.Error()); ok {
				return messagesOf(inner, prefix+before)
			}
		}
	}
	return []string{prefix + err.Error()}
}

// join appends a key to a path. A key with unusual characters is quoted, so that a path is one line.
func join(path, key string) string {
	if !isPlainKey(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends an index of a list.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func isPlainKey(key string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return key != "" && strings.Trim(key, letters) == ""
}

// within reports whether path is section or a setting inside it; every path is within "".
func within(path, section string) bool {
	rest, ok := strings.CutPrefix(path, section)
	return ok && (rest == "" || section == "" || rest[0] == '.' || rest[0] == '[')
}

// parentOf returns the path of the section or list around a setting, whose dots and brackets in a quoted key make it shorter by
// more steps.
func parentOf(path string) string { return path[:max(strings.LastIndexAny(path, ".["), 0)] }

// splitPath splits "cache.max_bytes: must be …" into path and text; a message without a path has an empty one.
func splitPath(message string) (path, text string) {
	const key = `[A-Za-z_][A-Za-z0-9_-]*`
	leading := regexp.MustCompile(`^` + key + `(\.[A-Za-z0-9_-]+|\[\d+\]|\["[^"\\]*"\])*: `)
	found := leading.FindString(message)
	if found == "" {
		return "", message
	}
	return strings.TrimSuffix(found, ": "), message[len(found):]
}

// firstKey returns the first key of a path.
func firstKey(path string) string {
	key, _, _ := strings.Cut(path, "[")
	key, _, _ = strings.Cut(key, ".")
	return key
}
