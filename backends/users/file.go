package users

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxFileBytes bounds what is read: some 500,000 accounts.
const maxFileBytes = 64 << 20

// mtimeResolution is how old a change must be for the file's time to tell the next one from it. File systems count time in
// steps, and some in steps of two seconds.
const mtimeResolution = 2 * time.Second

// file is the file of accounts, and what it was when it was last read. Not safe for concurrent use.
type file struct {
	path     string
	lastInfo os.FileInfo // nil: it could not be read, or never was
	// isSettled: a later change would show in seen.
	isSettled bool
	sum       [sha256.Size]byte // zero: never read
}

// readIfChanged reads the file if it is not what it was, by its time, size and identity, so that one that was moved into its
// place counts as well. data is nil if there is nothing new.
func (f *file) readIfChanged(now time.Time) (data []byte, err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		f.lastInfo = nil
		return nil, err
	}
	if f.isUnchanged(info) {
		return nil, nil
	}
	f.lastInfo = nil
	if !info.Mode().IsRegular() { // to open a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a file", f.path)
	}
	data, info, err = read(f.path)
	if err != nil {
		return nil, err
	}
	f.lastInfo, f.isSettled = info, now.Sub(info.ModTime()).Abs() > mtimeResolution
	sum := sha256.Sum256(data)
	if sum == f.sum {
		return nil, nil
	}
	f.sum = sum
	return data, nil
}

func (f *file) isUnchanged(info os.FileInfo) bool {
	return f.lastInfo != nil && f.isSettled && os.SameFile(f.lastInfo, info) &&
		f.lastInfo.ModTime().Equal(info.ModTime()) && f.lastInfo.Size() == info.Size()
}

// read gives the file's content, never nil, and what the file was before.
func read(path string) (data []byte, info os.FileInfo, err error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = opened.Close() }() // it was only read from
	if info, err = opened.Stat(); err != nil {
		return nil, nil, err
	}
	if data, err = io.ReadAll(io.LimitReader(opened, maxFileBytes+1)); err != nil {
		return nil, nil, err
	}
	if len(data) > maxFileBytes {
		return nil, nil, errors.New(path + ": is larger than 64 MiB")
	}
	return data, info, nil
}
