package urlpath

import (
	"strings"
	"testing"
)

func TestMergeSlashes(t *testing.T) {
	for path, want := range map[string]string{
		"": "", "/": "/", "//": "/", "/a/b": "/a/b", "//a": "/a", "/a///b//c/": "/a/b/c/", "/a/b//": "/a/b/", "a//b": "a/b",
	} {
		if got := MergeSlashes(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { MergeSlashes("/play/a001/seg-1.ts") }); n != 0 {
		t.Errorf("%v allocations for a plain path, want none", n)
	}
}

func TestUnmergedSuffix(t *testing.T) {
	t.Parallel()
	for _, test := range [][3]string{
		{"/a/b", "b", "b"},
		{"/a//b", "b", "/b"},
		{"/a///x//y.ts", "x/y.ts", "//x//y.ts"},
		{"/a//x//", "x/", "/x//"},
		{"/a/", "", ""},
		{"/a//", "", "/"},
		{"/a///b/c", "c", "c"},
	} {
		if got := UnmergedSuffix(test[0], test[1]); got != test[2] {
			t.Errorf("%q, %q: got %q, want %q", test[0], test[1], got, test[2])
		}
	}
}

func FuzzUnmergedSuffix(f *testing.F) {
	f.Add("/play//a001///x//seg.ts", 11)
	f.Fuzz(func(t *testing.T, path string, at int) {
		merged := MergeSlashes(path)
		if strings.Contains(merged, "//") || MergeSlashes(merged) != merged {
			t.Fatalf("%q: merged %q", path, merged)
		}
		if at < 1 || at > len(merged) || merged[at-1] != '/' {
			return
		}
		suffix := UnmergedSuffix(path, merged[at:])
		if MergeSlashes("/"+suffix) != "/"+merged[at:] || !strings.HasSuffix(path, "/"+suffix) || strings.HasSuffix(path, "//"+suffix) {
			t.Fatalf("%q, %q: got %q", path, merged[at:], suffix)
		}
	})
}
