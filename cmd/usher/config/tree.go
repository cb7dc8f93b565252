package config

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

const (
	// maxNesting bounds how deep sections and lists may nest. Settings are only a few levels deep.
	maxNesting = 64
	// maxSettings bounds how many settings are read, those of aliases each time, so that a few lines of aliases of aliases
	// cannot fill the memory.
	maxSettings = 250_000
)

// The shapes of a node, as messages name them.
const (
	absent  = ""
	nothing = "nothing"
	text    = "text"
	section = "a section"
	list    = "a list"
)

func shapeOf(n *yaml.Node) string {
	switch {
	case n.Kind == 0:
		return absent
	case n.Kind == yaml.MappingNode:
		return section
	case n.Kind == yaml.SequenceNode:
		return list
	case n.Tag == "!!null":
		return nothing
	default:
		return text
	}
}

// nothingAt returns a value that says nothing, at the position of a node.
func nothingAt(n *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}
}

// anchors resolves aliases as the library does, but for one without an anchor it makes a node up, so that the parser
// continues and all such aliases are reported.
type anchors map[string]*yaml.Node

// NewAliasDataContext returns the anchors of one file.
func (anchors) NewAliasDataContext(yaml.AliasDataServices) (yaml.AliasDataContext, error) {
	return anchors{}, nil
}

// BeginDocument does nothing, because a file is one document.
func (anchors) BeginDocument() error { return nil }

// EndDocument does nothing.
func (anchors) EndDocument() error { return nil }

// DefineAnchor stores the node of an anchor.
func (a anchors) DefineAnchor(name string, n *yaml.Node) error {
	a[name] = n
	return nil
}

// ResolveAlias returns the node of an anchor.
func (a anchors) ResolveAlias(name string) (*yaml.Node, bool, error) {
	if n, ok := a[name]; ok {
		return n, true, nil
	}
	return nothingAt(&yaml.Node{}), true, nil
}

// parse returns the only document of the file, without aliases and merges, or nil if it cannot be read. Comments alone are
// an empty document.
func (d *decoder) parse(data []byte) (root *yaml.Node) {
	start := &yaml.Node{Line: 1, Column: 1}
	defer func() {
		if recover() != nil { // a fault of the parser counts as a syntax error
			root = nil
			d.report(start, "", "cannot be read as YAML")
		}
	}()
	// The library reads YAML 1.2, but refuses its directive.
	data = regexp.MustCompile(`\A(\x{FEFF}?(?:#.*\n|\s*\n)*%YAML 1\.)2`).ReplaceAll(data, []byte("${1}1"))
	var documents []yaml.Node
	err := yaml.Load(data, &documents, yaml.WithAllDocuments(),
		yaml.WithPlugin(loaderlimits.New(loaderlimits.DepthValue(maxNesting)), anchors{}))
	switch {
	case err != nil:
		d.reportSyntax(err, data)
	case len(documents) > 1:
		d.report(documents[1].Content[0], "", "a second YAML document begins; one file is one document")
	case len(documents) == 0 || len(documents[0].Content) == 0:
		return nothingAt(start)
	default:
		root = d.resolve(documents[0].Content[0], "")
		if d.read > maxSettings { // and the rest was left out
			return nil
		}
	}
	return root
}

// reportSyntax reports the message and position of the parser. It drops what the message quotes, which may be a secret.
func (d *decoder) reportSyntax(err error, data []byte) {
	message, at := "cannot be read as YAML", yaml.Mark{}
	if problem, ok := errors.AsType[*yaml.LoadError](err); ok {
		message, _, _ = strings.Cut(problem.ContextMsg+": "+problem.Message, `"`)
		at = problem.Mark
		if problem.ContextMsg == "while scanning a quoted scalar" { // whose end is missing
			at = problem.ContextMark
		}
	}
	if at.Line == 0 { // a byte that no text has
		before := bytes.ToValidUTF8(data[:min(at.Index, len(data))], nil)
		at.Line, at.Column = bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])+1
	}
	d.report(&yaml.Node{Line: at.Line, Column: max(at.Column, 1)}, "", "not valid YAML: %s", strings.Trim(message, ": "))
}

// resolve replaces aliases by what they name, and merges by the keys that they add. Aliases share the node of their anchor,
// so a problem in it is reported at the text. An anchor counts once its value is complete, so none contains itself.
func (d *decoder) resolve(n *yaml.Node, path string) *yaml.Node {
	if d.size[n] > 0 { // an item of a list that is merged
		return n
	}
	size := max(d.size[n.Alias], 1)
	d.read += size
	switch {
	case d.read > maxSettings:
		if d.read-size <= maxSettings {
			d.report(n, path, "the file has more than %d settings", maxSettings)
		}
		return nothingAt(n)
	case n.Kind == yaml.AliasNode && d.size[n.Alias] == 0:
		d.report(n, path, "alias *%s has no anchor &%s before it", n.Value, n.Value)
		return nothingAt(n)
	case n.Kind == yaml.AliasNode:
		return n.Alias
	case n.Style&yaml.TaggedStyle != 0:
		d.report(n, path, "tags such as %s are not used here; leave it out", n.Tag)
	}
	if n.Kind == yaml.MappingNode {
		d.resolveSection(n, path)
	}
	for i, value := range n.Content {
		if n.Kind == yaml.SequenceNode {
			value = d.resolve(value, index(path, i))
			n.Content[i] = value
		}
		size += d.size[value]
	}
	d.size[n] = size
	return n
}

// resolveSection resolves keys and values, and adds those of merges behind them: an own key takes precedence.
func (d *decoder) resolveSection(n *yaml.Node, path string) {
	first := map[string]*yaml.Node{} // where each key is given: the key itself, or what merged it
	var merges []*yaml.Node
	pairs := slices.Collect(slices.Chunk(n.Content, 2))
	n.Content = nil
	for _, pair := range pairs {
		if pair[0].Tag == "!!merge" {
			merges = append(merges, pair[1])
			continue
		}
		key := *d.resolve(pair[0], path)
		if key.Kind != yaml.ScalarNode {
			d.report(pair[0], "", "a key must be plain text, found %s", shapeOf(&key))
			continue
		}
		key.Line, key.Column = pair[0].Line, pair[0].Column // of the alias, if it is one
		under := join(path, key.Value)
		value := d.resolve(pair[1], under)
		if value.Value == "" && shapeOf(value) == nothing { // the parser's position is that of the next token
			value.Line, value.Column = key.Line, key.Column+utf8.RuneCountInString(key.Value)+1
		}
		if earlier := first[key.Value]; earlier != nil {
			d.report(&key, under, "given twice, first at %d:%d", earlier.Line, earlier.Column)
			continue
		}
		first[key.Value] = &key
		n.Content = append(n.Content, &key, value)
	}
	for _, value := range merges {
		d.merge(n, value, first, path)
	}
}

// merge adds the keys of "<<: *base" or "<<: [*a, *b]" to a section. Two merged sections with one key are an error. at is the
// alias.
func (d *decoder) merge(n, at *yaml.Node, first map[string]*yaml.Node, path string) {
	base := at
	if at.Kind != yaml.SequenceNode { // whose items keep their own positions
		base = d.resolve(at, join(path, "<<"))
	}
	switch shapeOf(base) {
	case nothing: // an empty merge adds nothing; an unknown alias was reported
	case list:
		for _, item := range base.Content {
			d.merge(n, item, first, path)
		}
	case section:
		for pair := range slices.Chunk(base.Content, 2) {
			switch earlier := first[pair[0].Value]; {
			case earlier == nil:
				first[pair[0].Value] = at
				n.Content = append(n.Content, pair...)
			case earlier.Kind != yaml.ScalarNode: // no key of its own
				d.report(at, join(path, pair[0].Value), "given twice, by the sections merged at %d:%d and %d:%d",
					earlier.Line, earlier.Column, at.Line, at.Column)
			}
		}
	default:
		d.report(at, join(path, "<<"), "merges sections only: write <<: *anchor or <<: [*a, *b]")
	}
}
