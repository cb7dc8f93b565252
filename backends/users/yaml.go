package users

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	yamlparser "github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNesting is deeper than any file of accounts nests. The library's parser recurses.
const maxNesting = 8

// place is where something stands in a file, counted from 1.
type place struct{ line, column int }

// maxProblems bounds how many problems of a file are told.
const maxProblems = 10

// problems are what is wrong with a file.
type problems struct {
	file string
	errs []error
	more int
}

// report notes a problem. Neither where nor the message may hold a secret.
func (p *problems) report(at place, where, format string, args ...any) {
	if len(p.errs) == maxProblems {
		p.more++
		return
	}
	if where != "" {
		where += ": "
	}
	message := fmt.Errorf(format, args...)
	p.errs = append(p.errs, fmt.Errorf("%s:%d:%d: %s%w", p.file, at.line, at.column, where, message))
}

func (p *problems) any() bool { return len(p.errs) > 0 }

func (p *problems) err() error {
	if p.more > 0 {
		return errors.Join(append(p.errs, fmt.Errorf("%s: and %d more", p.file, p.more))...)
	}
	return errors.Join(p.errs...)
}

// parseYAML is the body of the only document; nil if there is none, which was reported.
func parseYAML(data []byte, p *problems) (body ast.Node) {
	defer func() {
		// The library is fed what an operator typed: a panic in it is a syntax error to us.
		if recover() != nil {
			body = nil
			p.report(place{1, 1}, "", "cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if deep := tooDeep(tokens); deep != nil {
		p.report(placeOf(deep), "", "nested deeper than %d levels", maxNesting)
		return nil
	}
	file, err := yamlparser.Parse(tokens, 0, yamlparser.AllowDuplicateMapKey()) // section finds them, with both places
	if err != nil {
		p.reportSyntax(err)
		return nil
	}
	for _, document := range file.Docs {
		switch {
		case document == nil || document.Body == nil || document.Body.Type() == ast.DirectiveType:
		case body != nil:
			p.report(startOf(document.Body), "", "a second YAML document begins; one file is one document")
			return nil
		default:
			body = document.Body
		}
	}
	if body == nil {
		p.report(place{1, 1}, "", "no accounts; want users: { … }")
	}
	return body
}

// tooDeep is the first token that nests too deep: inside brackets, or with too many "-" or "?" on a line. Nesting by
// indentation is bounded by the file's size.
func tooDeep(tokens token.Tokens) *token.Token {
	depth, onLine, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			onLine, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			onLine++
		default:
		}
		if depth > maxNesting || onLine > maxNesting {
			return t
		}
	}
	return nil
}

// reportSyntax passes on the library's message and place: neither the excerpt of the file that it would print, nor what
// it quotes, which may be secrets.
func (p *problems) reportSyntax(err error) {
	at, message := place{1, 1}, "cannot be read"
	if problem, ok := errors.AsType[yaml.Error](err); ok {
		message, _, _ = strings.Cut(problem.GetMessage(), `"`)
		message = strings.TrimRight(message, ": ")
		if t := problem.GetToken(); t != nil {
			at = placeOf(t)
		}
	}
	p.report(at, "", "not valid YAML: %s", message)
}

// section calls do for each key, and reports whether there is a section to read.
func (p *problems) section(n ast.Node, where string, do func(key string, at place, value ast.Node)) bool {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		p.report(startOf(n), where, "want keys and values, found %s", describe(n))
		return false
	}
	first := map[string]place{}
	for _, pair := range pairs {
		at := startOf(pair.Key)
		key, ok := scalarText(pair.Key)
		if !ok {
			p.report(at, where, "a key must be plain text, found %s", describe(pair.Key))
			continue
		}
		if before, twice := first[key]; twice {
			p.report(at, where, "a key is given twice, first at %d:%d", before.line, before.column)
			continue
		}
		first[key] = at
		do(key, at, pair.Value)
	}
	return true
}

// list calls do for each item.
func (p *problems) list(n ast.Node, where string, do func(text string) error) {
	items, ok := n.(*ast.SequenceNode)
	if !ok {
		p.report(startOf(n), where, "want a list such as [a, b], found %s", describe(n))
		return
	}
	for i, item := range items.Values {
		p.scalar(item, where+"["+strconv.Itoa(i)+"]", do)
	}
}

// scalar calls do with a text.
func (p *problems) scalar(n ast.Node, where string, do func(text string) error) {
	text, ok := scalarText(n)
	if !ok {
		p.report(startOf(n), where, "want a text or a number, found %s", describe(n))
		return
	}
	if err := do(text); err != nil {
		p.report(startOf(n), where, "%w", err)
	}
}

// placeOf is where a token stands; the library makes some up that stand nowhere.
func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// startOf is where a node begins; the library's own position of a mapping is its first colon.
func startOf(n ast.Node) place {
	switch n := n.(type) {
	case nil:
		return place{1, 1}
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return startOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return startOf(n.Key)
	}
	return placeOf(n.GetToken())
}

// scalarText is a scalar as it stands in the file, without its quotes; ok is false for what is none.
func scalarText(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// describe names a node's shape, never its text.
func describe(n ast.Node) string {
	if n == nil {
		return "nothing"
	}
	return "a YAML " + n.Type().String()
}

// shown is a login that has passed checkLogin for a message, quoted if it is odd.
func shown(login string) string {
	if strings.ContainsAny(login, " \"'.\\") {
		return strconv.Quote(login)
	}
	return login
}
