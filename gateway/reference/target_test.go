package reference

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"usher/gateway/hls"
)

// parse parses a copy of an encoding.
func parse(text, name string) (Target, bool) {
	t, _, ok := parseTarget([]byte(text), name)
	return t, ok
}

// TestAppendTarget_Encoding pins the encoding, which is below the tag.
func TestAppendTarget_Encoding(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		target     Target
		name, want string
	}{
		"a path alone":                   {Target{Path: "/x/a.ts"}, "", "\x00/x/a.ts"},
		"the name left out":              {Target{Path: "/x/a.ts"}, "a.ts", "\x80/x/"},
		"a path of the name alone":       {Target{Path: "/a.ts"}, "a.ts", "\x80/"},
		"another name":                   {Target{Path: "/x/a.ts"}, "b.ts", "\x00/x/a.ts"},
		"the end of a name":              {Target{Path: "/x/aa.ts"}, "a.ts", "\x00/x/aa.ts"},
		"an escaped name":                {Target{Path: "/x/a%20b"}, "a b", "\x00/x/a%20b"},
		"an escape that names itself":    {Target{Path: "/x/a%20b"}, "a%20b", "\x80/x/"},
		"a folder":                       {Target{Path: "/x/"}, "", "\x00/x/"},
		"a name with a slash":            {Target{Path: "/x/a/b"}, "a/b", "\x00/x/a/b"},
		"a name that begins with one":    {Target{Path: "/x//b"}, "/b", "\x00/x//b"},
		"a path without slash":           {Target{Path: "a.ts"}, "a.ts", "\x00a.ts"},
		"a name longer than the path":    {Target{Path: "/a"}, "aaaaaa", "\x00/a"},
		"an origin":                      {Target{Origin: "cdn", Path: "/"}, "", "\x04\x03cdn/"},
		"a base":                         {Target{Base: "http://b", Path: "/"}, "", "\x08\x08http://b/"},
		"a query":                        {Target{Query: "q", Path: "/"}, "", "\x10\x01q/"},
		"variables":                      {Target{Variables: "v=1", Path: "/"}, "", "\x20\x03v=1/"},
		"a version":                      {Target{Version: 300, Path: "/"}, "", "\x40\xac\x02/"},
		"all in order, under their name": {Target{hls.Document, "o", "b", "/x/n", "q", "v", 1}, "n", "\xff\x01o\x01b\x01q\x01v\x01/x/"},
	} {
		if got := string(appendTarget(nil, &tc.target, tc.name)); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		got, ok := parse(tc.want, tc.name)
		if isValid := strings.HasPrefix(tc.target.Path, "/"); ok != isValid || ok && got != tc.target {
			t.Errorf("%s: parse: got %+v %v, want %+v %v", name, got, ok, tc.target, isValid)
		}
	}
}

func TestParseTarget_ReadsWhatWasEncoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := drawText(t, "name")
		want := drawTarget(t, name)
		before := rapid.SampledFrom([]string{"", "before"}).Draw(t, "before")
		text, found := strings.CutPrefix(string(appendTarget([]byte(before), &want, name)), before)
		if !found {
			t.Fatal("what stood before was changed")
		}
		if got, ok := parse(text, name); !ok || got != want {
			t.Fatalf("parse(%q): got %+v %v, want %+v", text, got, ok, want)
		}
	})
}

func TestParseTarget_Refuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, name string }{
		"nothing":                           {"", ""},
		"a head alone":                      {"\x00", ""},
		"a head alone, for a name":          {"\x80", "a"},
		"a head alone, for a path":          {"\x80", "/a"},
		"a path without slash":              {"\x00a", ""},
		"no path behind a version":          {"\x40\x01", ""},
		"a name that was to be left out":    {"\x00/x/a", "a"},
		"a name left out of no folder":      {"\x80/x", "a"},
		"a name left out that is empty":     {"\x80/x/", ""},
		"a name left out that has a slash":  {"\x80/x/", "a/b"},
		"an empty field":                    {"\x04\x00/", ""},
		"no length":                         {"\x04", ""},
		"an unfinished length":              {"\x04\x80", ""},
		"a length of two bytes for one":     {"\x04\x81\x00a/", ""},
		"a length beyond the end":           {"\x04\x03a/", ""},
		"a length of 64 bits":               {"\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a/", ""},
		"a length beyond 64 bits":           {"\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02a/", ""},
		"a field that reaches into a name":  {"\x84\x02/", "aaaa"},
		"a field up to the end":             {"\x04\x02a/", ""},
		"a version of 0":                    {"\x40\x00/", ""},
		"a version of two bytes for one":    {"\x40\x81\x00/", ""},
		"a version beyond 64 bits":          {"\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02/", ""},
		"an unfinished version":             {"\x40\xff", ""},
		"a version that reaches into names": {"\xc0\x80", "\x01/"},
	} {
		if got, ok := parse(tc.text, tc.name); ok || got != (Target{}) {
			t.Errorf("%s: got %+v %v", name, got, ok)
		}
	}
	if got, ok := parse("\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01/", ""); !ok || got.Version != math.MaxUint64 {
		t.Errorf("the greatest version: got %+v %v", got, ok)
	}
}
