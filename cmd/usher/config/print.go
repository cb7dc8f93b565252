package config

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

// Print writes the settings of a struct, or of a pointer to one, as YAML that Parse reads back to the same values:
// defaults included, every secret that is set as [hidden]. It fails if w does, or on a
// type that no file can hold.
func Print(w io.Writer, settings any) error {
	return write(w, settings, func(text string) string { return text })
}

// PrintRedacted is Print for eyes that must see no credentials: it hides those in URLs too. Parse does not read the same values back.
func PrintRedacted(w io.Writer, settings any) error { return write(w, settings, redactURLs) }

// write writes the settings with every value that is a text edited.
func write(w io.Writer, settings any, edit func(string) string) error {
	var n yaml.Node
	var printed []byte
	err := n.Encode(settings)
	if err == nil {
		tidy(&n, edit)
		printed, err = yaml.Dump(&n, yaml.WithLineWidth(-1), yaml.WithCompactSeqIndent(false), yaml.WithQuotePreference(yaml.QuoteDouble))
	}
	if err == nil {
		_, err = w.Write(printed)
	}
	if err != nil {
		return fmt.Errorf("print the config: %w", err)
	}
	return nil
}

// redactURLs hides users, passwords, parameter values and fragments of the URL that a text ends with. It may hold spaces.
func redactURLs(text string) string {
	address := regexp.MustCompile(`(?is)[a-z][a-z0-9+.-]*://.*`)
	return address.ReplaceAllStringFunc(text, func(a string) string {
		a, fragment, hasFragment := strings.Cut(a, "#")
		a, query, hasQuery := strings.Cut(a, "?")
		a = regexp.MustCompile(`//[^/]*@`).ReplaceAllLiteralString(a, "//"+setting.Hidden+"@")
		if hasQuery {
			a += "?" + redactQuery(query)
		}
		if hasFragment && fragment != "" {
			a += "#" + setting.Hidden
		}
		return a
	})
}

// redactQuery hides the values of a query, and what has no name.
func redactQuery(query string) string {
	pieces := strings.Split(query, "&")
	for i, piece := range pieces {
		name, _, isNamed := strings.Cut(piece, "=")
		switch {
		case isNamed:
			pieces[i] = name + "=" + setting.Hidden
		case piece != "":
			pieces[i] = setting.Hidden
		}
	}
	return strings.Join(pieces, "&")
}

// tidy edits the values, escapes what Parse would expand, and puts lists of scalars on one line.
func tidy(n *yaml.Node, edit func(string) string) {
	n.Value = strings.ReplaceAll(edit(n.Value), "$", "$$")
	n.Style &^= yaml.SingleQuotedStyle // Dump quotes what needs it
	isFlat := n.Kind == yaml.SequenceNode
	for i, c := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 { // keys are not expanded
			tidy(c, edit)
		}
		isFlat = isFlat && c.Kind == yaml.ScalarNode
	}
	if isFlat {
		n.Style = yaml.FlowStyle
	}
}
