package audit

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFile_Write_DiskFull has the disk take half a record. The next one stands on a line of its own.
func TestFile_Write_DiskFull(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f := OpenFile(Config{File: path}, MinRetention, slog.New(slog.DiscardHandler))
	line := []byte(`{"time":"` + time.Now().Format(time.RFC3339Nano) + `","msg":"kick"}` + "\n")
	write := f.writeTo
	for i, isFull := range []bool{false, true, true, false} {
		f.writeTo = write
		if isFull {
			f.writeTo = func(file *os.File, line []byte) (int, error) {
				n, _ := write(file, line[:len(line)/2])
				return n, syscall.ENOSPC
			}
		}
		if _, err := f.Write(line); (err != nil) != isFull {
			t.Errorf("record %d: %v, want an error: %t", i, err, isFull)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != string(line)+string(line) {
		t.Errorf("the file holds %q, %v; want two records", got, err)
	}
}
