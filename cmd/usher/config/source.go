package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
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

// Source remembers where each setting came from, so that later problems can be reported with a position. It is
// safe for concurrent use once Load or Parse has returned it.
type Source struct {
	file      string
	places    map[string]place  // path → where its key stands in the file
	variables map[string]string // path → the variable that overrode it
	warnings  Problems
	problems  Problems
	broken    []string // the paths of settings that could not be read, so that nobody complains of their absence
}

// place is a position in the file, both counted from 1.
type place struct{ line, column int }

func newSource(file string) *Source {
	return &Source{file: file, places: map[string]place{"": {1, 1}}, variables: map[string]string{}}
}

// Warnings returns findings that do not prevent the start, one a line, in file order: never a secret. Empty: none.
func (s *Source) Warnings() []string {
	var lines []string
	for _, w := range s.warnings {
		lines = append(lines, w.String())
	}
	return lines
}

// Locate returns the position of a setting in the file: its key, or the key of its nearest parent that the
// file has, or 1:1. Lines and columns count from 1.
func (s *Source) Locate(path string) (line, column int) {
	for {
		if at, ok := s.places[path]; ok {
			return at.line, at.column
		}
		path = parentOf(path)
	}
}

// Explain positions the messages of err, an error such as Validate returns: one message, or several joined with
// errors.Join, each beginning with the path of its setting ("cache.max_bytes: …"). The result is nil for a nil error,
// else [Problems].
func (s *Source) Explain(err error) error {
	var found Problems
	for _, message := range messagesOf(err, "") {
		path, text := splitPath(message)
		found = append(found, s.problem(path, text))
	}
	return sorted(found)
}

// problem reports a message at the variable that set the path, or at the path's key in the file.
func (s *Source) problem(path, message string) Problem {
	if name, ok := s.variables[path]; ok {
		return Problem{File: environmentName, Path: name, Message: message}
	}
	line, column := s.Locate(path)
	return Problem{File: s.file, Line: line, Column: column, Path: path, Message: message}
}

func (s *Source) report(at place, path, format string, args ...any) {
	s.problems = append(s.problems, s.at(at, path, fmt.Sprintf(format, args...)))
	s.broken = append(s.broken, path)
}

func (s *Source) warn(at place, path, format string, args ...any) {
	s.warnings = append(s.warnings, s.at(at, path, fmt.Sprintf(format, args...)))
}

func (s *Source) at(at place, path, message string) Problem {
	return Problem{File: s.file, Line: at.line, Column: at.column, Path: path, Message: message}
}

// sorted returns the problems in file order without repetitions, or nil for none.
func sorted(found Problems) error {
	if len(found) == 0 {
		return nil
	}
	slices.SortStableFunc(found, func(a, b Problem) int {
		return cmp.Or(
			compareBool(a.File == environmentName, b.File == environmentName),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(p Problem) bool {
		line := p.String()
		repeated := seen[line]
		seen[line] = true
		return repeated
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// messagesOf splits joined errors, even with a prefix before all of them.
func messagesOf(err error, prefix string) []string {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err, joined.Unwrap()) {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, messagesOf(e, prefix)...)
		}
		return all
	}
	if inner := errors.Unwrap(err); inner != nil {
		if before, ok := strings.CutSuffix(err.Error(), inner.Error()); ok {
			return messagesOf(inner, prefix+before)
		}
	}
	return []string{prefix + err.Error()}
}

// isJoin reports whether err is from errors.Join, with one error a line.
func isJoin(err error, parts []error) bool {
	lines := make([]string, len(parts))
	for i, e := range parts {
		lines[i] = e.Error()
	}
	return err.Error() == strings.Join(lines, "\n")
}
