package origin

import (
	"math"
	"net/http"
	"testing"
)

func TestParseRange_Bounds(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]byteRange{
		"bytes=0-0":                   {true, 0, 0},
		"bytes=0-1":                   {true, 0, 1},
		"bytes=5-5":                   {true, 5, 5},
		"bytes=9-10":                  {true, 9, 10},
		"bytes=\t1-2 ":                {true, 1, 2},
		"bytes=0-":                    {true, 0, -1},
		"bytes=-0":                    {true, -1, 0},
		"bytes=-5":                    {true, -1, 5},
		"bytes=0-9223372036854775806": {true, 0, math.MaxInt64 - 1},
		"bytes=0-9223372036854775807": {true, 0, -1},
		"bytes=7-9223372036854775807": {true, 7, -1},
		"bytes=-9223372036854775807":  {true, -1, math.MaxInt64},
		"bytes=9223372036854775807-":  {true, math.MaxInt64, -1},
		"":                            {},
		"bytes":                       {},
		"bytes=":                      {},
		"bytes=5":                     {},
		"bytes=-":                     {},
		"bytes=1-0":                   {},
		"bytes=5-4":                   {},
		"bytes=x-4":                   {},
		"bytes=4-x":                   {},
		"bytes=+1-4":                  {},
		"bytes=1-+4":                  {},
		"bytes=--4":                   {},
		"bytes=1 -4":                  {},
		"bytes=9223372036854775808-":  {},
		"bytes=1-9223372036854775808": {},
		"bits!=1-2":                   {},
	} {
		if got := parseRange(field); got != want {
			t.Errorf("%q: got %+v, want %+v", field, got, want)
		}
	}
}

func TestByteRange_IsWhole(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		b    byteRange
		want bool
	}{
		{byteRange{true, 0, -1}, true},
		{byteRange{false, 0, -1}, false},
		{byteRange{true, 1, -1}, false},
		{byteRange{true, -1, 5}, false},
		{byteRange{true, 0, 0}, false},
		{byteRange{true, 0, 1}, false},
		{byteRange{}, false},
	} {
		if got := test.b.isWhole(); got != test.want {
			t.Errorf("%+v: got %v, want %v", test.b, got, test.want)
		}
	}
}

func TestByteRange_String_Bounds(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]byteRange{
		"bytes=0-0": {true, 0, 0}, "bytes=0-": {true, 0, -1}, "bytes=-0": {true, -1, 0}, "bytes=-7": {true, -1, 7}, "bytes=3-8": {true, 3, 8},
	} {
		if got := b.String(); got != want {
			t.Errorf("%+v: got %q, want %q", b, got, want)
		}
	}
}

func TestByteRange_Resolve_Bounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		asked          string
		length, lo, hi int64
		want           bool
	}{
		{"bytes=0-0", 10, 0, 1, true},
		{"bytes=0-0", 1, 0, 1, true},
		{"bytes=0-0", 0, 0, 0, false},
		{"bytes=0-", 1, 0, 1, true},
		{"bytes=0-", 0, 0, 0, false},
		{"bytes=5-", 5, 5, 5, false},
		{"bytes=5-", 6, 5, 6, true},
		{"bytes=5-9", 11, 5, 10, true},
		{"bytes=5-9", 10, 5, 10, true},
		{"bytes=5-9", 9, 5, 9, true},
		{"bytes=5-9", 6, 5, 6, true},
		{"bytes=5-9", 5, 5, 5, false},
		{"bytes=-10", 11, 1, 11, true},
		{"bytes=-10", 10, 0, 10, true},
		{"bytes=-10", 9, 0, 9, true},
		{"bytes=-10", 0, 0, 0, false},
		{"bytes=-1", 10, 9, 10, true},
		{"bytes=-0", 10, 10, 10, false},
	} {
		lo, hi, ok := parseRange(test.asked).resolve(test.length)
		if lo != test.lo || hi != test.hi || ok != test.want {
			t.Errorf("%s of %d: got [%d, %d), %v; want [%d, %d), %v", test.asked, test.length, lo, hi, ok, test.lo, test.hi, test.want)
		}
	}
}

func TestParseContentRange_Bounds(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]contentRange{
		"bytes 0-0/1":                   {0, 1, 1},
		"bytes 0-0/*":                   {0, 1, -1},
		"bytes 0-0/":                    {0, 1, -1},
		"bytes 4-9/10":                  {4, 10, 10},
		"bytes 4-9/11":                  {4, 10, 11},
		"bytes 9-9223372036854775806/*": {9, math.MaxInt64, -1},
	} {
		if got, ok := parseContentRange(field); !ok || got != want {
			t.Errorf("%q: got %+v, %t; want %+v", field, got, ok, want)
		}
	}
	for _, field := range []string{
		"bytes ", "bytes 5/10", "bytes x-9/10", "bytes 0-x/10", "bytes 0-9/x", "bytes 0-0/0", "bytes -0/5", "bytes 0-/5", "bytes -/*",
		"bytes 5-4/10", "bytes 4-9/9", "bytes +0-9/10",
	} {
		if got, ok := parseContentRange(field); ok || got != (contentRange{}) {
			t.Errorf("%q: got %+v, %t; want none", field, got, ok)
		}
	}
}

func TestContentRange_IsValid_Bounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		c    contentRange
		want bool
	}{
		{contentRange{0, 1, 1}, true},
		{contentRange{0, 1, -1}, true},
		{contentRange{4, 5, 5}, true},
		{contentRange{4, 5, 6}, true},
		{contentRange{4, 5, 4}, false},
		{contentRange{0, 1, 0}, false},
		{contentRange{0, 0, 0}, false},
		{contentRange{4, 4, 9}, false},
		{contentRange{5, 4, 9}, false},
		{contentRange{-1, 4, 9}, false},
		{contentRange{-1, 4, -1}, false},
	} {
		if got := test.c.isValid(); got != test.want {
			t.Errorf("%+v: got %v, want %v", test.c, got, test.want)
		}
	}
}

func TestContentRange_Satisfies_Bounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		asked string
		c     contentRange
		want  bool
	}{
		{"bytes=0-0", contentRange{0, 1, 5}, true},
		{"bytes=0-0", contentRange{0, 2, 5}, false},
		{"bytes=0-9", contentRange{0, 10, 10}, true},
		{"bytes=0-9", contentRange{1, 10, 10}, false},
		{"bytes=0-", contentRange{0, 10, 10}, true},
		{"bytes=0-", contentRange{0, 10, -1}, true},
		{"bytes=-5", contentRange{5, 10, 10}, true},
		{"bytes=-5", contentRange{5, 9, 10}, false},
		{"bytes=-5", contentRange{4, 10, 10}, false},
		{"bytes=-5", contentRange{0, 3, 3}, true},
		{"bytes=-5", contentRange{1, 3, 3}, false},
		{"bytes=-5", contentRange{0, 2, 3}, false},
		{"bytes=-5", contentRange{0, 5, 0}, false},
		{"bytes=-5", contentRange{7, 12, -1}, true},
		{"bytes=-5", contentRange{7, 11, -1}, true},
		{"bytes=-5", contentRange{7, 13, -1}, false},
	} {
		if got := test.c.satisfies(parseRange(test.asked)); got != test.want {
			t.Errorf("%s answered by %+v: got %v, want %v", test.asked, test.c, got, test.want)
		}
	}
}

func TestContentRange_String_Bounds(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]contentRange{
		"bytes 0-0/1": {0, 1, 1}, "bytes 5-9/0": {5, 10, 0}, "bytes 5-9/*": {5, 10, -1}, "bytes 7-9/10": {7, 10, 10},
	} {
		if got := c.String(); got != want {
			t.Errorf("%+v: got %q, want %q", c, got, want)
		}
	}
	if got := unsatisfied(12); got != "bytes */12" {
		t.Errorf("of a 416: got %q", got)
	}
}

func TestEvaluate_Bounds(t *testing.T) {
	t.Parallel()
	h := &Header{ETag: `"v1"`, LastModified: modified}
	for name, test := range map[string]struct {
		r      Request
		asked  string
		length int64
		want   outcome
	}{
		"no range":                     {Request{}, "", 10, outcome{200, "", 0, 10}},
		"no range, of unknown length":  {Request{}, "", -1, outcome{200, "", 0, -1}},
		"no range, of nothing":         {Request{}, "", 0, outcome{200, "", 0, 0}},
		"a range":                      {Request{}, "bytes=2-4", 10, outcome{206, "bytes 2-4/10", 2, 5}},
		"a range of unknown length":    {Request{}, "bytes=2-4", -1, outcome{200, "", 0, -1}},
		"a range of nothing":           {Request{}, "bytes=0-", 0, outcome{416, "bytes */0", 0, 0}},
		"a range beyond":               {Request{}, "bytes=10-", 10, outcome{416, "bytes */10", 0, 0}},
		"the last byte":                {Request{}, "bytes=9-", 10, outcome{206, "bytes 9-9/10", 9, 10}},
		"only the head":                {Request{Head: true}, "bytes=2-4", 10, outcome{200, "", 0, 10}},
		"a range of another version":   {Request{IfRange: `"v0"`}, "bytes=2-4", 10, outcome{200, "", 0, 10}},
		"a range of this version":      {Request{IfRange: `"v1"`}, "bytes=2-4", 10, outcome{206, "bytes 2-4/10", 2, 5}},
		"what the viewer has":          {Request{IfNoneMatch: `"v1"`}, "bytes=2-4", 10, outcome{status: 304}},
		"what the viewer has by date":  {Request{IfModifiedSince: modified}, "", 10, outcome{status: 304}},
		"another version than it has":  {Request{IfNoneMatch: `"v0"`}, "", 10, outcome{200, "", 0, 10}},
		"another, though of that date": {Request{IfNoneMatch: `"v0"`, IfModifiedSince: modified}, "", 10, outcome{200, "", 0, 10}},
	} {
		if got := evaluate(&test.r, parseRange(test.asked), h, test.length); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

func TestEvaluatePart(t *testing.T) {
	t.Parallel()
	h := &Header{ETag: `"v1"`}
	const field = "bytes 2-4/10"
	if got, want := evaluatePart(&Request{}, h, field, 3), (outcome{http.StatusPartialContent, field, 0, 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := evaluatePart(&Request{IfNoneMatch: `"v1"`}, h, field, 3), (outcome{status: http.StatusNotModified}); got != want {
		t.Errorf("what the viewer has: got %+v, want %+v", got, want)
	}
}

func TestNotModified_Bounds(t *testing.T) {
	t.Parallel()
	const before, after = "Mon, 02 Nov 2020 09:59:59 GMT", "Mon, 02 Nov 2020 10:00:01 GMT"
	for name, test := range map[string]struct {
		r    Request
		h    Header
		want bool
	}{
		"no condition":                     {Request{}, Header{ETag: `"v"`, LastModified: modified}, false},
		"the same date":                    {Request{IfModifiedSince: modified}, Header{LastModified: modified}, true},
		"the same date, unreadable":        {Request{IfModifiedSince: "today"}, Header{LastModified: "today"}, true},
		"the same date, in another format": {Request{IfModifiedSince: "Mon Nov  2 10:00:00 2020"}, Header{LastModified: modified}, true},
		"a second later":                   {Request{IfModifiedSince: after}, Header{LastModified: modified}, true},
		"a second earlier":                 {Request{IfModifiedSince: before}, Header{LastModified: modified}, false},
		"no date":                          {Request{IfModifiedSince: modified}, Header{}, false},
		"not asked for a date":             {Request{}, Header{LastModified: modified}, false},
		"its date is unreadable":           {Request{IfModifiedSince: modified}, Header{LastModified: "today"}, false},
		"the viewer's is unreadable":       {Request{IfModifiedSince: "today"}, Header{LastModified: modified}, false},
		"the viewer's is an old date":      {Request{IfModifiedSince: "yesterday"}, Header{LastModified: "Mon, 01 Jan 0001 00:00:00 GMT"}, false},
	} {
		if got := notModified(&test.r, &test.h); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func TestMatchesAny_Bounds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		list, etag string
		want       bool
	}{
		{"*", `"a"`, true},
		{" * ", `"a"`, true},
		{"*", "", true},
		{`"a"`, `"a"`, true},
		{`"a"`, `W/"a"`, true},
		{`W/"a"`, `"a"`, true},
		{`W/"a"`, `W/"a"`, true},
		{`"b","a"`, `"a"`, true},
		{` "b" ,	W/"a"`, `"a"`, true},
		{`"b","c"`, `"a"`, false},
		{`""`, `""`, true},
		{`""`, `"a"`, false},
		{`"","a"`, `"a"`, true},
		{`"a`, `"a"`, false},
		{`"`, `"`, false},
		{`a`, `a`, false},
		{`a,"a"`, `"a"`, false},
		{`"ab"`, `"a"`, false},
		{`"a"`, "", false},
		{"", `"a"`, false},
		{",", `"a"`, false},
	} {
		if got := matchesAny(test.list, test.etag); got != test.want {
			t.Errorf("%s in %s: got %v, want %v", test.etag, test.list, got, test.want)
		}
	}
}

func TestSameVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		ifRange string
		h       Header
		want    bool
	}{
		{"", Header{}, true},
		{"", Header{ETag: `"v1"`}, true},
		{`"v1"`, Header{ETag: `"v1"`}, true},
		{`"v1"`, Header{ETag: `W/"v1"`}, false},
		{`"v1"`, Header{LastModified: `"v1"`}, false},
		{`W/"v1"`, Header{ETag: `W/"v1"`}, false},
		{`W/"v1"`, Header{LastModified: `W/"v1"`}, false},
		{modified, Header{LastModified: modified}, true},
		{modified, Header{ETag: modified}, false},
		{modified, Header{}, false},
	} {
		if got := sameVersion(test.ifRange, &test.h); got != test.want {
			t.Errorf("If-Range %s of %+v: got %v, want %v", test.ifRange, test.h, got, test.want)
		}
	}
}

func TestCutPrefixFold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		s, want string
		wantOK  bool
	}{
		{"bytes=", "", true}, {"BYTES=1", "1", true}, {"bytes", "", false}, {"", "", false}, {"bites=1", "", false}, {" bytes=1", "", false},
	} {
		if got, ok := cutPrefixFold(test.s, "bytes="); got != test.want || ok != test.wantOK {
			t.Errorf("%q: got %q, %v", test.s, got, ok)
		}
	}
}
