package setting

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(strings.Repeat("k", size)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		path string
		size int
		says string
	}{
		"no file":           {"", 0, ""},
		"a key":             {write("key", 5), 5, ""},
		"the largest":       {write("largest", maxFileBytes), maxFileBytes, ""},
		"larger":            {write("larger", maxFileBytes+1), 0, "is larger than 65536 bytes"},
		"one that is away":  {filepath.Join(folder, "none"), 0, "no such file"},
		"a folder":          {folder, 0, "is no regular file"},
		"an endless device": {"/dev/zero", 0, "is no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f File
			if err := f.UnmarshalText([]byte(test.path)); err != nil {
				t.Fatal(err)
			}
			switch {
			case test.says != "" && (f.Err == nil || !strings.Contains(f.Err.Error(), test.says)):
				t.Errorf("got error %v, want %q", f.Err, test.says)
			case test.says == "" && (f.Err != nil || len(f.Text) != test.size):
				t.Errorf("got %d bytes and error %v, want %d", len(f.Text), f.Err, test.size)
			}
			if text, err := f.MarshalText(); err != nil || string(text) != test.path {
				t.Errorf("printed %q, %v, want %q", text, err, test.path)
			}
		})
	}
}

// TestFile_DiffersOnceChanged: a file that is read twice is the same until it changes. What it holds is never printed.
func TestFile_DiffersOnceChanged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	absent := ReadFile(path)
	if !reflect.DeepEqual(absent, ReadFile(path)) {
		t.Error("a file that is away differs from itself")
	}
	for _, text := range []string{"5ecret", "another 5ecret"} {
		before := ReadFile(path)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		after := ReadFile(path)
		if reflect.DeepEqual(before, after) || !reflect.DeepEqual(after, ReadFile(path)) {
			t.Errorf("before %q was written it is %+v, then %+v", text, before, after)
		}
		if shown := fmt.Sprintf("%v %+v %#v", after, after, after); strings.Contains(shown, "5ecret") {
			t.Errorf("%s shows what the file holds", shown)
		}
	}
}
