package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// maxFileBytes bounds the file. The parser takes seconds for a megabyte, and no hand-written file is that large.
const maxFileBytes = 1 << 20

// Load reads the file at path over into, as Parse does. Paths of secrets are relative to the file's folder. An error
// is [Problems], unless the file itself cannot be read.
func Load(path string, into any, environment Environment) (*Source, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	environment.Folder = filepath.Dir(path)
	return Parse(path, data, into, environment)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read from: nothing can be lost
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return data, nil
}

// Parse reads data, the text of the file called name, over into: a pointer to a struct that holds the defaults. Then
// it applies the overrides of the environment and calls Validate of every section. The error is [Problems]; into is then
// incomplete and must not be used. The Source is never nil.
func Parse(name string, data []byte, into any, environment Environment) (*Source, error) {
	source := newSource(name)
	root := reflect.ValueOf(into)
	if root.Kind() != reflect.Pointer || root.IsNil() || root.Elem().Kind() != reflect.Struct {
		return source, fmt.Errorf("BUG: parse %s into %T, want a pointer to a struct", name, into)
	}
	// A byte order mark would become part of the first key.
	body := parseDocument(source, []byte(strings.TrimPrefix(string(data), "\ufeff")))
	if len(source.problems) > 0 {
		return source, sorted(source.problems)
	}
	tree := buildTree(source, body)
	d := &decoder{source: source, environment: environment, referred: map[string]bool{}}
	if tree.shape == nothing || tree.shape == section {
		d.decode(root.Elem(), tree, "")
	} else {
		source.report(tree.at, "", "found %s, want %s", foundShape(tree), example(root.Elem().Type()))
	}
	d.override(root.Elem())
	validate(source, root.Elem())
	return source, sorted(source.problems)
}
