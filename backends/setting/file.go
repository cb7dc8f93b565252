package setting

import (
	"fmt"
	"io"
	"os"
)

// maxFileBytes bounds a file that a setting names. Keys are far smaller; a log is not read to its end.
const maxFileBytes = 64 << 10

// File is a file with what it held when the setting was read, so that a reload finds a change of the file as it finds one of the
// setting. The zero value names no file.
type File struct {
	Path string
	// Text is what the file held. It is not shown: a private key may be in the place of a public one.
	Text Secret
	// Err is why the file could not be read; nil: it could.
	Err error
}

// ReadFile reads the file at a path. An empty path names none.
func ReadFile(path string) File {
	if path == "" {
		return File{}
	}
	text, err := readRegular(path)
	return File{Path: path, Text: Secret(text), Err: err}
}

// MarshalText writes the path.
func (f File) MarshalText() ([]byte, error) { return []byte(f.Path), nil }

// UnmarshalText reads the file at the path. That it cannot be read is kept in Err, for the package whose setting it is.
func (f *File) UnmarshalText(path []byte) error {
	*f = ReadFile(string(path))
	return nil
}

// readRegular reads a regular file. Of another one, such as a pipe, a reload could wait for the end.
func readRegular(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	opened, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = opened.Close() }() // it was only read from: nothing can be lost
	text, err := io.ReadAll(io.LimitReader(opened, maxFileBytes+1))
	if err == nil && len(text) > maxFileBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFileBytes)
	}
	return string(text), err
}
