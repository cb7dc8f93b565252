package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"usher/backends/setting"
)

// Print writes the settings of a struct, or of a pointer to one, as YAML that Parse reads back to the same values:
// defaults included, durations as texts, every secret that is set as [hidden]. A nil pointer's key is left out. It
// fails if w does, or on a type that no file can hold.
func Print(w io.Writer, settings any) error {
	v := pointedAt(reflect.ValueOf(settings))
	if v.Kind() != reflect.Struct {
		return fmt.Errorf("BUG: print %T, want a struct", settings)
	}
	n, err := encode(copyOf(v))
	if err != nil {
		return err
	}
	printed, err := yaml.Dump(n, yaml.WithLineWidth(-1), yaml.WithCompactSeqIndent(false), yaml.WithQuotePreference(yaml.QuoteDouble))
	if err == nil {
		_, err = w.Write(printed)
	}
	if err != nil {
		return fmt.Errorf("print the config: %w", err)
	}
	return nil
}

// encode returns the node of a setting; nil for a nil pointer.
func encode(v reflect.Value) (*yaml.Node, error) {
	t := v.Type()
	switch {
	case isScalar(t):
		return encodeScalar(v)
	case t.Kind() == reflect.Pointer && v.IsNil():
		return nil, nil
	case t.Kind() == reflect.Pointer:
		return encode(v.Elem())
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
	case reflect.Slice:
		n.Kind = yaml.SequenceNode
		if isScalar(t.Elem()) {
			n.Style = yaml.FlowStyle
		}
	default:
		return nil, fmt.Errorf("BUG: a setting cannot be of type %s", t)
	}
	for _, c := range childrenOf(v, "") {
		value, err := encode(c.value)
		switch {
		case err != nil:
			return nil, err
		case value == nil:
			continue
		case n.Kind == yaml.MappingNode:
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: c.key})
		}
		n.Content = append(n.Content, value)
	}
	return n, nil
}

func encodeScalar(v reflect.Value) (*yaml.Node, error) {
	var text string
	switch value := v.Addr().Interface().(type) {
	case *setting.Secret:
		if *value != "" {
			text = setting.Hidden
		}
	case *time.Duration:
		text = formatDuration(*value)
	case encoding.TextMarshaler:
		written, err := value.MarshalText()
		if err != nil {
			return nil, err
		}
		text = string(written)
	default:
		if v.Kind() != reflect.String {
			n := new(yaml.Node)
			return n, n.Encode(v.Interface())
		}
		text = v.String()
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: strings.ReplaceAll(text, "$", "$$")}, nil
}
