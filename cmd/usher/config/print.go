package config

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Print writes the settings of a struct, or of a pointer to one, as YAML that Parse reads back to the same values:
// defaults included, every secret that is set as [hidden]. It fails if w does, or on a
// type that no file can hold.
func Print(w io.Writer, settings any) error {
	var n yaml.Node
	var printed []byte
	err := n.Encode(settings)
	if err == nil {
		tidy(&n)
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

// tidy escapes what Parse would expand, and puts lists of scalars on one line.
func tidy(n *yaml.Node) {
	n.Value = strings.ReplaceAll(n.Value, "$", "$$")
	n.Style &^= yaml.SingleQuotedStyle // Dump quotes what needs it
	isFlat := n.Kind == yaml.SequenceNode
	for i, c := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 { // keys are not expanded
			tidy(c)
		}
		isFlat = isFlat && c.Kind == yaml.ScalarNode
	}
	if isFlat {
		n.Style = yaml.FlowStyle
	}
}
