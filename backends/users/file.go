package users

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxFileBytes bounds the file: some 500,000 accounts.
const maxFileBytes = 64 << 20

// mtimeResolution is how old a change must be so that the next one has another modification time. File systems store
// that time with a limited resolution, some of two seconds.
const mtimeResolution = 2 * time.Second

var errTooLarge = errors.New("is larger than 64 MiB")

// file is the file of accounts and its state at the last read. Not safe for concurrent use.
type file struct {
	path     string
	lastInfo os.FileInfo // nil: not read, or not readable
	// isSettled means that a later change would differ from lastInfo.
	isSettled bool
	sum       [sha256.Size]byte // of the content; zero: never read
}

// readIfChanged returns the file's content if its time, size or identity changed since the last read, so a file renamed
// to this path counts as well. data is nil if the content is unchanged.
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
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
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

// read returns the file's content, never nil, and its state before the read.
func read(path string) (data []byte, info os.FileInfo, err error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = opened.Close() }() // only read from
	if info, err = opened.Stat(); err != nil {
		return nil, nil, err
	}
	if info.Size() > maxFileBytes {
		return nil, nil, fmt.Errorf("%s: %w", path, errTooLarge)
	}
	if data, err = readAtMost(opened, maxFileBytes); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, info, nil
}

// readAtMost reads all of r, and fails beyond limit bytes: a file can grow while it is read.
func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return data, nil
}
