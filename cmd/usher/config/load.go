package config

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFileBytes bounds the file. No hand-written file is that large.
const maxFileBytes = 1 << 20

// Environment is what settings may come from besides the file. The zero value has no variables and takes relative paths
// from the working directory.
type Environment struct {
	// Variables are "NAME=value", as os.Environ gives them; the last of a name counts.
	Variables []string
	// Folder is what file:PATH is relative to; Load sets it to the folder of the file.
	Folder string
	// Reserved are USHER_ variables of the command line, which are not settings.
	Reserved []string
}

// Load reads the file at path over into, as Parse does. Paths of secrets are relative to the file's folder. An error
// is [Problems], unless the file itself cannot be read.
func Load(path string, into any, environment Environment) (*Source, error) {
	data, _, err := readFile(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read the config: %w", err)
	}
	environment.Folder = filepath.Dir(path)
	return Parse(path, data, into, environment)
}

// readFile reads a regular file of at most limit bytes. Of another one, such as a pipe, a reload could wait for the end.
func readFile(path string, limit int64) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }() // it was only read from: nothing can be lost
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, info.Mode(), err
}

// Parse reads data, the text of the file called name, over into: a pointer to a struct that holds the defaults. Then
// it applies the overrides of the environment and calls Validate of every section. The error is [Problems]; into is then
// incomplete and must not be used. The Source is never nil.
func Parse(name string, data []byte, into any, environment Environment) (*Source, error) {
	d := newDecoder(name, data, environment)
	if d.decodeFile(data, into) {
		for _, check := range d.checks {
			check()
		}
		d.reportUnknownVariables()
	}
	return d.Source, d.problems.err()
}

// Decode reads data over into, as Parse does, but without an environment and without Validate.
func Decode(data []byte, into any) error {
	d := newDecoder("settings", data, Environment{})
	d.decodeFile(data, into)
	return d.problems.err()
}

func newDecoder(name string, data []byte, environment Environment) *decoder {
	d := &decoder{
		Source: &Source{file: name, places: map[string]Problem{}, isSetting: map[string]bool{}},
		folder: environment.Folder, size: map[*yaml.Node]int{},
		variables: map[string]string{}, isReferred: map[string]bool{}, isRead: map[string]bool{},
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		d.hints = append(d.hints, explainCharacter(line))
	}
	for _, variable := range environment.Variables {
		name, value, _ := strings.Cut(variable, "=")
		d.variables[name] = value
	}
	for _, name := range environment.Reserved {
		d.isReferred[name] = true
	}
	return d
}

// decodeFile reports whether the file could be read at all.
func (d *decoder) decodeFile(data []byte, into any) bool {
	tree := d.parse(data)
	if tree != nil {
		d.decode(reflect.ValueOf(into).Elem(), tree, "")
	}
	return tree != nil
}
