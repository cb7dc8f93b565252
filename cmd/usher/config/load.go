package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// maxFileBytes bounds the file. No hand-written file is that large.
const maxFileBytes = 1 << 20

// Load reads the file at path over into, as Parse does. Paths of secrets are relative to the file's folder. An error
// is [Problems], unless the file itself cannot be read.
func Load(path string, into any, environment Environment) (*Source, error) {
	data, err := readFile(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	environment.Folder = filepath.Dir(path)
	return Parse(path, data, into, environment)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read from: nothing can be lost
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}

// Parse reads data, the text of the file called name, over into: a pointer to a struct that holds the defaults. Then
// it applies the overrides of the environment and calls Validate of every section. The error is [Problems]; into is then
// incomplete and must not be used. The Source is never nil.
func Parse(name string, data []byte, into any, environment Environment) (*Source, error) {
	d := newDecoder(name, environment)
	d.source.lines = strings.Split(string(data), "\n")
	if root := d.decodeFile(data, into); root.IsValid() {
		d.reportUnknownVariables()
		v := &validation{source: d.source}
		v.walk(root, "")
	}
	return d.source, sorted(d.source.problems)
}

// Decode reads data over into, as Parse does, but without an environment and without Validate.
func Decode(data []byte, into any) error {
	d := newDecoder("settings", Environment{})
	d.decodeFile(data, into)
	return sorted(d.source.problems)
}

func newDecoder(name string, environment Environment) *decoder {
	d := &decoder{
		source: &Source{file: name, places: map[string]Problem{}}, environment: environment,
		referred: map[string]bool{}, variables: map[string]string{},
	}
	for _, variable := range environment.Variables {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, variablePrefix) {
			d.variables[name] = value
		}
	}
	return d
}

// decodeFile returns the struct that was written over; the zero Value if the file cannot be read at all.
func (d *decoder) decodeFile(data []byte, into any) (root reflect.Value) {
	if tree := parse(d.source, data); tree != nil {
		root = reflect.ValueOf(into).Elem()
		d.decode(root, tree, spot{variable: strings.TrimSuffix(variablePrefix, "_")})
	}
	return root
}
