package config

import "github.com/goccy/go-yaml/ast"

type shape uint8

const (
	nothing shape = iota // "key:" with no value, or null
	scalar
	section
	list
)

// node is a part of the file with its aliases and merges resolved. Aliases share the node of their anchor, so a
// problem in it is reported at the text.
type node struct {
	shape   shape
	at      place
	text    string  // of a scalar, without quotes
	entries []entry // of a section, in file order, each key once; added by add
	byKey   map[string]int
	items   []*node // of a list
}

// entry is one key of a section.
type entry struct {
	key   string
	at    place
	value *node
	// given says where a merged key came from: the alias of its section; zero if it stands in the section itself.
	given place
}

// entry returns the entry of a key, or nil.
func (n *node) entry(key string) *entry {
	if i, ok := n.byKey[key]; ok {
		return &n.entries[i]
	}
	return nil
}

func (n *node) add(e entry) {
	n.byKey[e.key] = len(n.entries)
	n.entries = append(n.entries, e)
}

// treeBuilder turns the parser's tree into nodes, and reports problems that do not depend on the struct.
type treeBuilder struct {
	source  *Source
	anchors map[string]*node
}

// buildTree returns the tree of the file. An empty file is an empty node.
func buildTree(source *Source, body ast.Node) *node {
	b := &treeBuilder{source: source, anchors: map[string]*node{}}
	return b.build(body, "")
}

func (b *treeBuilder) build(n ast.Node, path string) *node {
	at := startOf(n)
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return &node{at: at}
	case *ast.MappingNode:
		return b.buildSection(n.Values, at, path)
	case *ast.MappingValueNode:
		return b.buildSection([]*ast.MappingValueNode{n}, at, path)
	case *ast.SequenceNode:
		return b.buildList(n, at, path)
	case *ast.AnchorNode:
		built := b.build(n.Value, path)
		b.anchors[n.Name.GetToken().Value] = built
		return built
	case *ast.AliasNode:
		return b.resolve(n, path)
	case *ast.TagNode:
		b.source.report(at, path, "tags such as %s are not used here; leave it out", n.GetToken().Value)
		return b.build(n.Value, path)
	}
	if text, ok := scalarText(n); ok {
		return &node{shape: scalar, at: at, text: text}
	}
	b.source.report(at, path, "%s has no meaning here", describe(n))
	return &node{at: at}
}

func (b *treeBuilder) buildList(n *ast.SequenceNode, at place, path string) *node {
	built := &node{shape: list, at: at}
	for i, item := range n.Values {
		built.items = append(built.items, b.build(item, index(path, i)))
	}
	return built
}

// resolve returns the node of an alias. An anchor counts once its value is complete, so no anchor contains itself.
func (b *treeBuilder) resolve(n *ast.AliasNode, path string) *node {
	name := n.Value.GetToken().Value
	if built, ok := b.anchors[name]; ok {
		return built
	}
	b.source.report(startOf(n), path, "alias *%s has no anchor &%s before it", name, name)
	return &node{at: startOf(n)}
}

func (b *treeBuilder) buildSection(pairs []*ast.MappingValueNode, at place, path string) *node {
	built := &node{shape: section, at: at, byKey: map[string]int{}}
	var merges []*ast.MappingValueNode
	for _, pair := range pairs {
		if pair.Key.IsMergeKey() {
			merges = append(merges, pair)
			continue
		}
		b.addPair(built, pair, path)
	}
	for _, pair := range merges {
		b.addMerge(built, pair, path)
	}
	return built
}

func (b *treeBuilder) addPair(into *node, pair *ast.MappingValueNode, path string) {
	at := startOf(pair.Key)
	key, ok := b.keyText(pair.Key, path)
	if !ok {
		b.source.report(at, path, "a key must be plain text, found %s", describe(pair.Key))
		return
	}
	value := b.build(pair.Value, join(path, key))
	if first := into.entry(key); first != nil {
		b.source.report(at, join(path, key), "given twice, first at %d:%d", first.at.line, first.at.column)
		return
	}
	into.add(entry{key: key, at: at, value: value})
}

// keyText returns the text of a key, even if it has an anchor or is an alias.
func (b *treeBuilder) keyText(key ast.Node, path string) (string, bool) {
	switch k := key.(type) {
	case *ast.NullNode:
		return "null", true
	case *ast.MappingKeyNode:
		return b.keyText(k.Value, path)
	case *ast.AnchorNode, *ast.AliasNode:
		built := b.build(k, path)
		return built.text, built.shape == scalar
	default:
		return scalarText(key)
	}
}

// addMerge adds the keys of "<<: *base" or "<<: [*a, *b]" that the section does not have.
func (b *treeBuilder) addMerge(into *node, pair *ast.MappingValueNode, path string) {
	mergePath := join(path, "<<")
	base := b.build(pair.Value, mergePath)
	bases := []*node{base}
	if base.shape == list {
		bases = base.items
	}
	for i, base := range bases {
		if base.shape == nothing { // an empty merge adds nothing; an unknown alias was reported
			continue
		}
		if base.shape != section {
			b.source.report(mergedAt(pair.Value, i), mergePath, "merges sections only: write <<: *anchor or <<: [*a, *b]")
			continue
		}
		b.addBase(into, base, mergedAt(pair.Value, i), path)
	}
}

// mergedAt returns the position at which the i-th merged section is named.
func mergedAt(value ast.Node, i int) place {
	if names, ok := value.(*ast.SequenceNode); ok && i < len(names.Values) {
		return startOf(names.Values[i])
	}
	return startOf(value)
}

func (b *treeBuilder) addBase(into, base *node, at place, path string) {
	for _, e := range base.entries {
		first := into.entry(e.key)
		switch {
		case first == nil:
			into.add(entry{key: e.key, at: e.at, value: e.value, given: at})
		case first.given != place{}:
			b.source.report(at, join(path, e.key), "given twice, by the sections merged at %d:%d and %d:%d",
				first.given.line, first.given.column, at.line, at.column)
		}
	}
}
