package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	filePrefix = "file:"
	// maxSecretBytes bounds a secret's file. Keys and tokens are far smaller; a log or a device is not read to its end.
	maxSecretBytes = 64 << 10
	// everybodyReads is the permission bit for reading by all users.
	everybodyReads = 0o004
)

// readSecret reads file:PATH without the newline that editors end a file with. The warning, if any, is about the
// file's permissions. Neither holds a byte of the file.
func (e Environment) readSecret(path string) (secret, warning string, err error) {
	if path == "" {
		return "", "", fmt.Errorf("file: names no file, want file:PATH")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(e.Folder, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", "", fmt.Errorf("read the secret: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", "", fmt.Errorf("read the secret: %s is no regular file", path)
	}
	secret, err = readBounded(path)
	if err != nil {
		return "", "", fmt.Errorf("read the secret: %w", err)
	}
	if info.Mode().Perm()&everybodyReads != 0 {
		warning = fmt.Sprintf("every user of this machine can read %s; take that away with chmod o-r", path)
	}
	return secret, warning, nil
}

func readBounded(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read from: nothing can be lost
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxSecretBytes {
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxSecretBytes)
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}
