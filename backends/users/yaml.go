package users

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// position is a position in a file, counted from 1.
type position struct{ line, column int }

// maxProblems bounds the reported problems of a file.
const maxProblems = 10

// problems collects the problems of a file.
type problems struct {
	file     string
	errs     []error
	unlisted int
}

// report adds a problem. Neither where nor the message may contain a secret.
func (p *problems) report(at position, where, format string, args ...any) {
	if len(p.errs) == maxProblems {
		p.unlisted++
		return
	}
	if where != "" {
		where += ": "
	}
	message := fmt.Errorf(format, args...)
	p.errs = append(p.errs, fmt.Errorf("%s:%d:%d: %s%w", p.file, at.line, at.column, where, message))
}

func (p *problems) hasProblems() bool { return len(p.errs) > 0 }

func (p *problems) err() error {
	if p.unlisted > 0 {
		return errors.Join(append(p.errs, fmt.Errorf("%s: and %d more", p.file, p.unlisted))...)
	}
	return errors.Join(p.errs...)
}

// parseYAML returns the body of the only document; nil after a reported problem.
func parseYAML(data []byte, p *problems) (body *yaml.Node) {
	defer func() {
		// A panic of the library on the operator's input counts as a syntax error.
		if recover() != nil {
			body = nil
			p.report(position{1, 1}, "", "cannot be read as YAML")
		}
	}()
	documents := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	switch err := documents.Decode(&first); {
	case errors.Is(err, io.EOF), err == nil && len(first.Content) == 0:
		p.report(position{1, 1}, "", "no accounts; want users: { … }")
		return nil
	case err != nil:
		p.reportSyntax(err, data)
		return nil
	}
	switch err := documents.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		p.reportSyntax(err, data)
		return nil
	default:
		p.report(positionOf(&second), "", "second YAML document; a file must be one document")
		return nil
	}
	return first.Content[0]
}

// reportSyntax reports the library's message and line, without its quotes, which may be secrets.
func (p *problems) reportSyntax(err error, data []byte) {
	at, message := position{1, 1}, "cannot be read"
	if problem, ok := errors.AsType[*yaml.LoadError](err); ok {
		at.line = min(max(problem.Mark.Line, 1), 1+bytes.Count(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")))
		message, _, _ = strings.Cut(problem.Message, "'")
		message, _, _ = strings.Cut(message, `"`)
	}
	p.report(at, "", "not valid YAML: %s", strings.TrimRight(message, ": "))
}

// eachKey calls do for each key of a section, and returns false if n is not a section.
func (p *problems) eachKey(n *yaml.Node, where string, do func(key string, at position, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		p.report(positionOf(n), where, "want keys and values, found %s", describe(n))
		return false
	}
	first := make(map[string]position, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		at := positionOf(n.Content[i])
		key, ok := scalarText(n.Content[i])
		if !ok {
			p.report(at, where, "a key must be plain text, found %s", describe(n.Content[i]))
			continue
		}
		if previous, isDuplicate := first[key]; isDuplicate {
			p.report(at, where, "a key is given twice, first at %d:%d", previous.line, previous.column)
			continue
		}
		first[key] = at
		do(key, at, n.Content[i+1])
	}
	return true
}

// eachItem calls do for each item of a list.
func (p *problems) eachItem(n *yaml.Node, where string, do func(text string) error) {
	if n.Kind != yaml.SequenceNode {
		p.report(positionOf(n), where, "want a list such as [a, b], found %s", describe(n))
		return
	}
	for i, item := range n.Content {
		p.eachScalar(item, where+"["+strconv.Itoa(i)+"]", do)
	}
}

// eachScalar calls do with the text of a scalar.
func (p *problems) eachScalar(n *yaml.Node, where string, do func(text string) error) {
	text, ok := scalarText(n)
	if !ok {
		p.report(positionOf(n), where, "want a text or a number, found %s", describe(n))
		return
	}
	if err := do(text); err != nil {
		p.report(positionOf(n), where, "%w", err)
	}
}

// positionOf returns the start of a node.
func positionOf(n *yaml.Node) position { return position{n.Line, n.Column} }

// scalarText returns a scalar as spelled in the file, without its quotes. ok is false for other nodes and for a tagged
// scalar, whose tag changes its meaning.
func scalarText(n *yaml.Node) (text string, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Style&yaml.TaggedStyle != 0 {
		return "", false
	}
	return n.Value, true
}

// describe names a node's kind, never its text.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Tag == "!!null":
		return "nothing"
	default:
		return "a text"
	}
}

// displayLogin formats a valid login for a message, quoted if it has unusual characters.
func displayLogin(login string) string {
	if strings.ContainsAny(login, " \"'.\\") {
		return strconv.Quote(login)
	}
	return login
}
