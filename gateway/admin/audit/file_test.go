package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/admin/audit"
)

// record returns a line as a Log writes it now.
func record(text string) []byte {
	return fmt.Appendf(nil, "{\"time\":%q,\"msg\":%q}\n", time.Now().Format(time.RFC3339Nano), text)
}

// lines returns the lines of all files of a folder.
func lines(t *testing.T, folder string) (all []string, files int) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	}
	return all, len(entries)
}

// TestFile_DeletesRecordsInTime writes a record an hour for two retention times: none is ever older than that, none is lost
// while it is younger than most of it, and few files are made.
func TestFile_DeletesRecordsInTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ retention, kept time.Duration }{
		"the shortest": {audit.MinRetention, 20 * time.Hour},
		"a month":      {720 * time.Hour, 28 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				f := audit.OpenFile(audit.Config{File: filepath.Join(folder, "audit.jsonl")}, test.retention, slog.New(slog.NewTextHandler(&log, nil)))
				ctx, end := context.WithCancel(t.Context())
				go f.Run(ctx)
				start := time.Now()
				for hour := 1; time.Since(start) < 2*test.retention; hour++ {
					if _, err := f.Write(record("kick")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(59*time.Minute + 31*time.Second) // never when Run works
					if hour%5 != 0 {                            // reading all files takes a while
						continue
					}
					all, files := lines(t, folder)
					var oldest time.Time
					for _, line := range all {
						at, err := time.Parse(time.RFC3339Nano, strings.SplitN(line, `"`, 5)[3])
						if err != nil {
							t.Fatal(err)
						}
						if oldest.IsZero() || at.Before(oldest) {
							oldest = at
						}
					}
					age := time.Since(oldest)
					if age > test.retention || age < min(test.kept, time.Since(start)) {
						t.Fatalf("after %v the oldest record is %v old", time.Since(start), age)
					}
					if files > 36 {
						t.Fatalf("after %v there are %d files", time.Since(start), files)
					}
				}
				end()
				synctest.Wait()
				if log.Len() > 0 {
					t.Errorf("it logged %s", log.String())
				}
			})
		})
	}
}

// TestFile_IdleNode_DeletesRecordsInTime writes one record at the worst time, just after a look at the file.
func TestFile_IdleNode_DeletesRecordsInTime(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	foreign := []string{"audit-notes.jsonl", "other-20000101T000000.000000000Z.jsonl", "audit-20000101T000000.000000000Z.txt"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		f := audit.OpenFile(audit.Config{File: filepath.Join(folder, "audit.jsonl")}, audit.MinRetention, slog.New(slog.DiscardHandler))
		ctx, end := context.WithCancel(t.Context())
		go f.Run(ctx)
		time.Sleep(time.Second)
		if _, err := f.Write(record("kick")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(audit.MinRetention)
		end()
		synctest.Wait()
		if all, _ := lines(t, folder); !slices.Equal(all, []string{"mine", "mine", "mine"}) {
			t.Errorf("the folder holds %q", all)
		}
	})
}

func TestFile_Age_Rotated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		age  time.Duration
		want int
	}{
		"young": {time.Hour - time.Nanosecond, 1},
		"old":   {time.Hour, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				f := audit.OpenFile(audit.Config{File: filepath.Join(folder, "audit.jsonl")}, audit.MinRetention, slog.New(slog.DiscardHandler))
				for range 2 {
					if _, err := f.Write(record("kick")); err != nil {
						t.Fatal(err)
					}
					time.Sleep(test.age)
				}
				if all, files := lines(t, folder); files != test.want || len(all) != 2 {
					t.Errorf("%d files with %q, want %d", files, all, test.want)
				}
			})
		})
	}
}

func TestFile_Mode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f := audit.OpenFile(audit.Config{File: path}, audit.MinRetention, slog.New(slog.DiscardHandler))
	if _, err := f.Write(record("kick")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
}

func TestFile_Full_Rotated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ room, files int }{"no room": {-1, 2}, "room for one": {0, 1}} {
		folder := t.TempDir()
		path := filepath.Join(folder, "audit.jsonl")
		if err := os.WriteFile(path, record("kick"), 0o600); err != nil {
			t.Fatal(err)
		}
		line := record("ban")
		if err := os.Truncate(path, 100<<20-int64(len(line)+test.room)); err != nil { // a hole takes no room on the disk
			t.Fatal(err)
		}
		f := audit.OpenFile(audit.Config{File: path}, audit.MinRetention, slog.New(slog.DiscardHandler))
		if _, err := f.Write(line); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(folder); err != nil || len(entries) != test.files {
			t.Errorf("%s: %d files, want %d, %v", name, len(entries), test.files, err)
		}
	}
}

// TestFile_Foreign_Rotated checks that a file whose age is unknown is not written to.
func TestFile_Foreign_Rotated(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"another text": "hello\n", "no time": `{"time":"soon","msg":"kick"}`, "a part": `{"time":"2026`} {
		folder := t.TempDir()
		path := filepath.Join(folder, "audit.jsonl")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := audit.OpenFile(audit.Config{File: path}, audit.MinRetention, slog.New(slog.DiscardHandler))
		if _, err := f.Write(record("ban")); err != nil {
			t.Fatal(err)
		}
		if all, files := lines(t, folder); files != 2 || len(all) != 2 {
			t.Errorf("%s: %d files with %q", name, files, all)
		}
	}
}

func TestFile_Unwritable_LoggedOnce(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "gone")
	path := filepath.Join(folder, "audit.jsonl")
	var log bytes.Buffer
	f := audit.OpenFile(audit.Config{File: path}, audit.MinRetention, slog.New(slog.NewTextHandler(&log, nil)))
	write := func(isWritten bool) {
		t.Helper()
		if _, err := f.Write(record("kick")); (err == nil) != isWritten {
			t.Errorf("written: %t, error %v", isWritten, err)
		}
	}
	write(false)
	write(false)
	want := `level=ERROR msg="audit file failed, changes are only in the log; make it writable" setting=admin.audit.file file=` + path +
		` error="no such file or directory"` + "\n"
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, want) {
		t.Errorf("the log has %s, want one line %s", got, want)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(true)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	write(false)
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("a second outage: %d lines", got)
	}
}

func TestConfig_Check(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	existing := filepath.Join(folder, "existing.jsonl")
	if err := os.WriteFile(existing, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ file, want string }{
		"none":                  {"", ""},
		"a new file":            {filepath.Join(folder, "new.jsonl"), ""},
		"one that exists":       {existing, ""},
		"a folder":              {folder, "admin.audit.file: " + folder + " is not writable: is a directory"},
		"in no folder":          {folder + "/none/a", "admin.audit.file: " + folder + "/none/a is not writable: no such file or directory"},
		"a file for its folder": {existing + "/a", "admin.audit.file: " + existing + "/a is not writable: not a directory"},
		"in a folder that takes no other file": {
			"/proc/self/comm", "admin.audit.file: /proc/self is not writable, so that /proc/self/comm cannot be rotated: no such file or directory",
		},
		"a device": {os.DevNull, ""},
	} {
		got := ""
		if err := (audit.Config{File: test.file}).Check(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 1 {
		t.Errorf("it left %v, %v", entries, err)
	}
	if audit.OpenFile(audit.Config{}, audit.MinRetention, nil) != nil {
		t.Error("there is a file without the setting")
	}
}

// TestFile_Write_NotRotated takes the name under which an old file would be kept. Records are written to the old file, and one line
// of log names the folder.
func TestFile_Write_NotRotated(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		path := filepath.Join(folder, "audit.jsonl")
		f := audit.OpenFile(audit.Config{File: path}, audit.MinRetention, slog.New(slog.NewTextHandler(&log, nil)))
		write := func() {
			t.Helper()
			if _, err := f.Write(record("kick")); err != nil {
				t.Error(err)
			}
		}
		write()
		time.Sleep(25 * time.Hour)
		taken := filepath.Join(folder, "audit-"+time.Now().UTC().Format("20060102T150405.000000000Z")+".jsonl")
		if err := os.Mkdir(taken, 0o700); err != nil {
			t.Fatal(err)
		}
		write()
		write()
		if text, err := os.ReadFile(path); err != nil || bytes.Count(text, []byte("\n")) != 3 {
			t.Errorf("the file holds %q, %v; want three records", text, err)
		}
		want := `level=ERROR msg="audit file not rotated, it grows and keeps old records; let the node write to its folder" setting=admin.audit.file file=` +
			path + " folder=" + folder
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
			t.Errorf("the log has %s, want one line %s", got, want)
		}
		time.Sleep(time.Second)
		write()
		if text, err := os.ReadFile(path); err != nil || bytes.Count(text, []byte("\n")) != 1 {
			t.Errorf("after the rotation the file holds %q, %v; want one record", text, err)
		}
	})
}
