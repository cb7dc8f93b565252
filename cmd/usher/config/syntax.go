package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNesting bounds how deep sections and lists may nest. The parser takes quadratic time over nested brackets, and
// settings are only a few levels deep.
const maxNesting = 64

// parseDocument returns the document of the file, or nil if the file holds only comments. It accepts duplicate keys,
// which are all reported later.
func parseDocument(source *Source, data []byte) (body ast.Node) {
	defer func() {
		// A panic of the parser counts as a syntax error.
		if recover() != nil {
			body = nil
			source.report(place{1, 1}, "", "cannot be read as YAML")
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if deep := tooDeep(tokens); deep != nil {
		source.report(placeOf(deep), "", "nested deeper than %d levels", maxNesting)
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		reportSyntax(source, err)
		return nil
	}
	return onlyDocument(source, file)
}

// tooDeep returns the first token that nests too deep: inside brackets, or with too many "-" or "?" on one line. Nesting by
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

// reportSyntax reports the message and position of the parser, without its excerpt of the file, which may hold a
// secret.
func reportSyntax(source *Source, err error) {
	at, message := place{1, 1}, "cannot be read as YAML"
	if problem, ok := errors.AsType[yaml.Error](err); ok {
		message, _, _ = strings.Cut(problem.GetMessage(), `"`) // what it quotes may be a secret
		message = strings.TrimRight(message, ": ")
		if t := problem.GetToken(); t != nil && t.Position != nil {
			at = placeOf(t)
		}
	}
	source.report(at, "", "not valid YAML: %s", message)
}

func onlyDocument(source *Source, file *ast.File) ast.Node {
	var only ast.Node
	for _, document := range file.Docs {
		switch {
		case document == nil || document.Body == nil || document.Body.Type() == ast.DirectiveType:
		case only == nil:
			only = document.Body
		default:
			source.report(placeOf(document.Body.GetToken()), "", "%s", "a second YAML document begins; one file is one document")
			return nil
		}
	}
	return only
}

// placeOf returns the position of a token, or zero for a token that the parser made up.
func placeOf(t *token.Token) place {
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// startOf returns the position where a node begins. The parser's own position of a mapping is its first colon.
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

// scalarText returns a scalar as in the file, without quotes; ok is false for other nodes.
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

// describe returns the shape of a node for a message, never its text.
func describe(n ast.Node) string {
	if n == nil {
		return "nothing"
	}
	return fmt.Sprintf("a YAML %s", n.Type())
}
