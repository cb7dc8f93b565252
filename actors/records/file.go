package records

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	// fileSetting is the setting of the file.
	fileSetting = "records.file.path"
	// expiryInterval is how often old files are looked for.
	expiryInterval = time.Hour
	// rotations is how many files hold the records of the retention time.
	rotations = 24
	// maxFileAge is the age of a file's first record at which it is rotated, however long the retention time is.
	maxFileAge = 24 * time.Hour
	// maxLine is more than a record has bytes.
	maxLine = 1 << 20
	// rotatedAt is the time in the name of a rotated file.
	rotatedAt = "2006-01-02T15-04-05.000"
)

// file is a file of records. It is rotated by its size and by the age of its first record. It is safe for concurrent use.
type file struct {
	mu        sync.Mutex
	out       *lumberjack.Logger
	writeOut  func([]byte) (int, error) // out.Write, except in tests
	retention time.Duration
	log       *slog.Logger

	// isBroken and isNotRotated report what the last records met, and has been logged.
	isBroken, isNotRotated bool
}

func openFile(c FileConfig, retention time.Duration, log *slog.Logger) *file {
	out := &lumberjack.Logger{Filename: c.Path, MaxSize: int(c.MaxSize >> 20), MaxBackups: c.MaxFiles}
	return &file{out: out, writeOut: out.Write, retention: retention, log: log}
}

// write appends records. The first failure of a kind is logged, and that records are written again.
func (f *file) write(lines [][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lost, failure, notRotated := 0, error(nil), error(nil)
	for _, line := range lines {
		isWritten, err := f.append(append(slices.Clip(line), '\n'))
		switch {
		case !isWritten:
			lost, failure = lost+1, err
		case err != nil:
			notRotated = err
		}
	}
	f.report(lost, failure, notRotated)
}

// report logs what has become of records, if it is news.
func (f *file) report(lost int, failure, notRotated error) {
	setting, name := slog.String("setting", fileSetting), slog.String("file", f.out.Filename)
	switch {
	case failure != nil && !f.isBroken:
		f.log.Error("records not written, sessions miss in the file; check records.file.path", setting, name, slog.Int("records", lost),
			slog.Any("error", failure))
	case failure == nil && f.isBroken:
		f.log.Info("records are written again", name)
	}
	if notRotated != nil && !f.isNotRotated {
		f.log.Error("records file not rotated, it grows; let the node write to its folder", setting, name,
			slog.String("folder", filepath.Dir(f.out.Filename)), slog.Any("error", notRotated))
	}
	f.isBroken, f.isNotRotated = failure != nil, notRotated != nil
}

// append writes a line, also to a file that could not be rotated, which is the error then. What a full disk took of a line is
// removed, or the next record would be on the same line.
func (f *file) append(line []byte) (isWritten bool, err error) {
	n, err := f.writeOut(line)
	if err == nil {
		return true, nil
	}
	_ = f.out.Close() // it is opened again at its end
	if n == 0 {
		var failure error
		if n, failure = f.appendUnrotated(line); failure == nil {
			return true, err
		}
	}
	if n > 0 {
		info, failure := os.Stat(f.out.Filename)
		if failure == nil {
			failure = os.Truncate(f.out.Filename, info.Size()-int64(n))
		}
		err = errors.Join(err, failure)
	}
	return false, err
}

// appendUnrotated writes a line to the file as it is, if there is one.
func (f *file) appendUnrotated(line []byte) (int, error) {
	out, err := os.OpenFile(f.out.Filename, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	n, err := out.Write(line)
	return n, errors.Join(err, out.Close())
}

// run deletes old records until ctx ends, at once and every hour.
func (f *file) run(ctx context.Context) {
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for {
		if err := f.expire(time.Now()); err != nil {
			f.log.Error("old records not deleted; delete them, and let the node write to their folder",
				slog.String("setting", fileSetting), slog.String("file", f.out.Filename), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// fileAge is the age at which the file is rotated.
func (f *file) fileAge() time.Duration { return min(maxFileAge, f.retention/rotations) }

// expire rotates an old file, and deletes rotated ones before their first record is too old.
func (f *file) expire(now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	if at, ok := f.firstRecord(); ok && now.Sub(at) >= f.fileAge() {
		errs = append(errs, f.out.Rotate())
	}
	folder, name := filepath.Split(f.out.Filename)
	ext := filepath.Ext(name)
	entries, err := os.ReadDir(folder)
	errs = append(errs, err)
	// The first record was older than fileAge by an interval at most when the file was rotated, and the next look is after another.
	limit := now.Add(f.fileAge() + 2*expiryInterval - f.retention)
	for _, e := range entries {
		text, hasStem := strings.CutPrefix(e.Name(), strings.TrimSuffix(name, ext)+"-")
		text, hasExt := strings.CutSuffix(text, ext)
		at, err := time.Parse(rotatedAt, text)
		if hasStem && hasExt && err == nil && !at.After(limit) {
			errs = append(errs, os.Remove(filepath.Join(folder, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// firstRecord returns when the file's first record was written. A file that begins with anything else is old.
func (f *file) firstRecord() (at time.Time, ok bool) {
	in, err := os.Open(f.out.Filename)
	if err != nil {
		return at, !errors.Is(err, fs.ErrNotExist)
	}
	defer in.Close() //nolint:errcheck // it was read
	line, _ := bufio.NewReader(io.LimitReader(in, maxLine)).ReadBytes('\n')
	if len(line) == 0 {
		return at, false
	}
	return recordTime(line), true
}

// recordTime returns when a record was made, or zero.
func recordTime(record []byte) time.Time {
	var r struct {
		Time time.Time `json:"time"`
	}
	_ = json.Unmarshal(record, &r) // else it is zero
	return r.Time
}

// close closes the file. Each write went to the system.
func (f *file) close() { _ = f.out.Close() }
