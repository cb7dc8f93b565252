package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// fileSetting is the setting of the file.
	fileSetting = "admin.audit.file"
	// MinRetention is the shortest time for which records can be kept.
	MinRetention = 24 * time.Hour
	// maxFileBytes is the size at which a file is rotated before its time.
	maxFileBytes = 100 << 20
	// expiryInterval is how often old files are looked for.
	expiryInterval = time.Hour
	// rotations is how many files hold the records of the retention time.
	rotations = 24
	// maxFileAge is the age of a file's first record at which it is rotated, however long the retention time is.
	maxFileAge = 24 * time.Hour
	// rotatedAt is the time in the name of a rotated file.
	rotatedAt = "20060102T150405.000000000Z"
)

// Config configures the stream of records.
type Config struct {
	// File is the path of the file of JSON lines. Empty: only the log has the records.
	File string `yaml:"file"`
}

// Check returns why no records could be written to the file, or why it could not be rotated. It changes nothing. The error begins
// with the setting.
func (c Config) Check() error {
	if c.File == "" {
		return nil
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_APPEND, 0)
	isNew := errors.Is(err, os.ErrNotExist)
	if err == nil {
		defer func() { _ = f.Close() }()
		if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
			return nil // it has no size, so that it is never rotated
		}
	} else if !isNew {
		return fmt.Errorf("%s: %s is not writable: %w", fileSetting, c.File, unwrapPath(err))
	}
	folder := filepath.Dir(c.File)
	other, err := os.CreateTemp(folder, "usher-check-")
	switch {
	case err != nil && isNew:
		return fmt.Errorf("%s: %s is not writable: %w", fileSetting, c.File, unwrapPath(err))
	case err != nil:
		return fmt.Errorf("%s: %s is not writable, so that %s cannot be rotated: %w", fileSetting, folder, c.File, unwrapPath(err))
	}
	return errors.Join(other.Close(), os.Remove(other.Name()))
}

// unwrapPath drops the path of an error, which may be one that the operator does not know.
func unwrapPath(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// File is a file of records. It is opened for each record, so that it may be moved away at any time. It is safe for concurrent
// use.
//
// Records are deleted before they are older than the retention time, as long as Run runs: a file is rotated when its first
// record is old, and a rotated file deleted while its first record is not too old.
type File struct {
	path      string
	retention time.Duration
	logger    *slog.Logger
	writeTo   func(*os.File, []byte) (int, error) // (*os.File).Write, except in tests

	mu           sync.Mutex
	isFailed     bool // since the last success
	isNotRotated bool // since the last success
}

// OpenFile returns the file, or nil if there is to be none. It does not touch the disk.
func OpenFile(c Config, retention time.Duration, logger *slog.Logger) *File {
	if c.File == "" {
		return nil
	}
	return &File{path: c.File, retention: retention, logger: logger, writeTo: (*os.File).Write}
}

// Write appends a record, also to a file that cannot be rotated. The first failure is logged as an error, and those that follow it
// are not.
func (f *File) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	notRotated := f.rotate(len(line))
	err := f.append(line)
	f.report(err, notRotated)
	if err != nil {
		return 0, err
	}
	return len(line), nil
}

// append writes a line to the file, which it makes if there is none. What a full disk took of it is removed, or the next record
// would be on the same line.
func (f *File) append(line []byte) error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	n, err := f.writeTo(file, line)
	if err != nil && n > 0 {
		info, failure := file.Stat()
		if failure == nil {
			failure = file.Truncate(info.Size() - int64(n))
		}
		err = errors.Join(err, failure)
	}
	return errors.Join(err, file.Close())
}

// report logs the first error of each kind after a success. A file that cannot be written is said to be that alone.
func (f *File) report(err, notRotated error) {
	switch {
	case err != nil && !f.isFailed:
		f.logger.Error("audit file failed, changes are only in the log; make it writable", slog.String("setting", fileSetting),
			slog.String("file", f.path), slog.Any("error", unwrapPath(err)))
	case err == nil && notRotated != nil && !f.isNotRotated:
		f.logger.Error("audit file not rotated, it grows and keeps old records; let the node write to its folder",
			slog.String("setting", fileSetting), slog.String("file", f.path), slog.String("folder", filepath.Dir(f.path)), slog.Any("error", notRotated))
	}
	f.isFailed, f.isNotRotated = err != nil, err == nil && notRotated != nil
}

// fileAge is the age at which the file is rotated.
func (f *File) fileAge() time.Duration { return min(maxFileAge, f.retention/rotations) }

// rotate renames the file if it is old, or has no room for more bytes.
func (f *File) rotate(more int) error {
	begun, size, err := f.first()
	if err != nil || size == 0 || time.Since(begun) < f.fileAge() && size+int64(more) <= maxFileBytes {
		return err
	}
	stem, ext := f.nameParts()
	return os.Rename(f.path, stem+time.Now().UTC().Format(rotatedAt)+ext)
}

// nameParts returns what stands before and behind the time in the names of rotated files.
func (f *File) nameParts() (stem, ext string) {
	ext = filepath.Ext(f.path)
	return strings.TrimSuffix(f.path, ext) + "-", ext
}

// first returns the time of the first record, and the size of the file. A file that begins with anything else is old.
func (f *File) first() (begun time.Time, size int64, err error) {
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return time.Time{}, 0, nil
	} else if err != nil {
		return time.Time{}, 0, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return time.Time{}, 0, err
	}
	head := make([]byte, 256)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return time.Time{}, 0, err
	}
	return recordTime(head[:n]), info.Size(), nil
}

// recordTime returns the time that a record begins with, or zero.
func recordTime(head []byte) (at time.Time) {
	text, isRecord := bytes.CutPrefix(head, []byte(`{"time":`))
	if text, _, isWhole := bytes.Cut(text, []byte(",")); isRecord && isWhole {
		_ = json.Unmarshal(text, &at) // else it is zero
	}
	return at
}

// Run deletes old records until ctx ends, at once and every hour.
func (f *File) Run(ctx context.Context) {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		f.expire()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// expire rotates an old file, and deletes rotated ones before their first record is too old.
func (f *File) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := []error{f.rotate(0)}
	entries, err := os.ReadDir(filepath.Dir(f.path))
	errs = append(errs, err)
	stem, ext := f.nameParts()
	// The first record was older than fileAge by an interval at most when the file was rotated, and the next look is after another.
	limit := time.Now().Add(f.fileAge() + 2*expiryInterval - f.retention)
	for _, e := range entries {
		text, hasStem := strings.CutPrefix(e.Name(), filepath.Base(stem))
		text, hasExt := strings.CutSuffix(text, ext)
		at, err := time.Parse(rotatedAt, text)
		if hasStem && hasExt && err == nil && !at.After(limit) {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(f.path), e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		f.logger.Error("old audit records not deleted; delete them, and let the node write to their folder",
			slog.String("setting", fileSetting), slog.String("file", f.path), slog.Any("error", err))
	}
}
