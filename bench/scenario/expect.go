package scenario

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Expectation is a comparison that a scenario expects to hold.
type Expectation struct {
	Text        string
	left, right *term
	operator    string
}

// term is a node of an expression: a number, a knob, a call of a function or a sum or product.
type term struct {
	// operator joins left and right; empty: the term is a value.
	operator    string
	left, right *term
	number      float64
	unit        string
	// name is a knob's or a function's, phase its prefix, and argument what a function is given.
	name, phase, argument string
	isCall                bool
}

// errExpectation is wrapped by the error for a text that is no expectation.
var errExpectation = errors.New(`want a comparison such as "errors == 0" or "fault.p99(playlist) <= 2 * quiet.p99(playlist)"`)

// ParseExpectation parses a comparison. The package comment has the language.
func ParseExpectation(text string) (e Expectation, err error) {
	p := parser{tokens: tokenize(text)}
	e.Text = text
	if e.left, err = p.sum(); err != nil {
		return e, err
	}
	switch e.operator = p.take(); e.operator {
	case "==", "!=", "<=", ">=", "<", ">":
	default:
		return e, fmt.Errorf("at %q: %w", e.operator, errExpectation)
	}
	if e.right, err = p.sum(); err != nil {
		return e, err
	}
	if rest := p.take(); rest != "" {
		return e, fmt.Errorf("at %q: %w", rest, errExpectation)
	}
	return e, nil
}

// tokenize splits a text into words, numbers with their units, quoted texts and signs.
func tokenize(text string) (tokens []string) {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		n := 1
		switch c := text[0]; {
		case c == '"':
			if quoted, err := strconv.QuotedPrefix(text); err == nil {
				n = len(quoted)
			}
		case isWord(c):
			for n < len(text) && isWord(text[n]) {
				n++
			}
		case strings.IndexByte("<>=!", c) >= 0 && len(text) > 1 && text[1] == '=':
			n = len("==")
		}
		tokens = append(tokens, text[:n])
		text = text[n:]
	}
	return tokens
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isWord(c byte) bool { return isLetter(c) || isDigit(c) || strings.IndexByte("._-%", c) >= 0 }

type parser struct {
	tokens []string
	depth  int
}

// next returns the next token; empty: there is none.
func (p *parser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) take() string {
	token := p.next()
	if token != "" {
		p.tokens = p.tokens[1:]
	}
	return token
}

func (p *parser) sum() (*term, error)     { return p.chain(p.product, "+", "-") }
func (p *parser) product() (*term, error) { return p.chain(p.value, "*", "/") }

// chain parses terms that operators of one rank join.
func (p *parser) chain(operand func() (*term, error), operators ...string) (*term, error) {
	left, err := operand()
	for err == nil && (p.next() == operators[0] || p.next() == operators[1]) {
		joined := &term{operator: p.take(), left: left}
		joined.right, err = operand()
		left = joined
	}
	return left, err
}

// mostNested is how deep brackets may be.
const mostNested = 20

func (p *parser) value() (*term, error) {
	token := p.take()
	switch {
	case token == "":
		return nil, fmt.Errorf("at the end: %w", errExpectation)
	case token == "(" && p.depth < mostNested:
		p.depth++
		inner, err := p.sum()
		if err == nil && p.take() != ")" {
			err = fmt.Errorf("a bracket does not close: %w", errExpectation)
		}
		p.depth--
		return inner, err
	case isDigit(token[0]):
		return parseNumber(token)
	case isLetter(token[0]):
		return p.call(token)
	}
	return nil, fmt.Errorf("at %q: %w", token, errExpectation)
}

// call parses what follows a name.
func (p *parser) call(name string) (*term, error) {
	t := &term{name: name}
	if phase, rest, found := strings.Cut(name, "."); found {
		t.phase, t.name = phase, rest
	}
	if p.next() == "(" {
		p.take()
		t.isCall = true
		t.argument = p.take()
		if unquoted, err := strconv.Unquote(t.argument); err == nil {
			t.argument = unquoted
		}
		if p.take() != ")" {
			return nil, fmt.Errorf("%s(%s: want one argument and a bracket: %w", name, t.argument, errExpectation)
		}
	}
	return t, nil
}

// units returns those of numbers.
func units() map[string]value {
	return map[string]value{
		"": {1, ""}, "%": {0.01, ""}, "us": {1e-6, "s"}, "ms": {1e-3, "s"}, "s": {1, "s"}, "m": {60, "s"},
		"kB": {1e3, "B"}, "MB": {1e6, "B"}, "GB": {1e9, "B"}, "KiB": {1 << 10, "B"}, "MiB": {1 << 20, "B"}, "GiB": {1 << 30, "B"},
	}
}

func parseNumber(token string) (*term, error) {
	end := 0
	for end < len(token) && (isDigit(token[end]) || token[end] == '.' || token[end] == '_') {
		end++
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(token[:end], "_", ""), 64)
	u, isKnown := units()[token[end:]]
	if err != nil || !isKnown {
		return nil, fmt.Errorf("number %q: want one such as 5, 20ms, 1MB or 10%%", token)
	}
	return &term{number: n * u.n, unit: u.unit}, nil
}
