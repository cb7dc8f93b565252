package urlpath

import (
	"math/bits"
	"strconv"
	"strings"
	"testing"
)

func TestIsCleanPath(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		path string
		want bool
	}{
		"an ordinary path":              {"/play/a001/index.m3u8", true},
		"names with dots":               {"/play/a.b/.hidden/seg.1.ts", true},
		"empty segments":                {"/play//a001/", true},
		"an escaped space":              {"/play/a%20b/x.ts", true},
		"an escaped letter of another":  {"/play/%D0%B0/x.ts", true},
		"an escaped tilde":              {"/play/%7Ea/x.ts", true},
		"parameters of a segment":       {"/play/a;b=c/x.ts", true},
		"the empty path":                {"", true},
		"a segment of a dot":            {"/play/./x.ts", false},
		"a segment of two dots":         {"/play/a001/../a002/x.ts", false},
		"two dots at the end":           {"/play/a001/..", false},
		"a dot at the end":              {"/play/a001/.", false},
		"three dots":                    {"/play/a001/.../x.ts", false},
		"two dots with a parameter":     {"/play/a001/..;/a002/x.ts", false},
		"a dot with a parameter":        {"/play/a001/.;x/x.ts", false},
		"two dots with an escaped one":  {"/play/a001/..%3B/a002/x.ts", false},
		"an escaped dot":                {"/play/a001/%2e%2e/a002/x.ts", false},
		"an escaped slash":              {"/play/a001%2Fx.ts", false},
		"an escaped slash, small":       {"/play/a001%2fx.ts", false},
		"an escaped backslash":          {"/play/a001%5C..%5Cx.ts", false},
		"a backslash":                   {`/play/a001\..\x.ts`, false},
		"an escaped percent sign":       {"/play/a001/%252e%252e/x.ts", false},
		"an escaped null":               {"/play/a001/x.m3u8%00.ts", false},
		"an escaped newline":            {"/play/a001%0d%0aHost:x/x.ts", false},
		"an escaped delete":             {"/play/a001%7f/x.ts", false},
		"a control character":           {"/play/a001\x01/x.ts", false},
		"an escaped letter":             {"/play/%61001/x.ts", false},
		"an escaped capital":            {"/play/%41001/x.ts", false},
		"an escaped digit":              {"/play/a%3001/x.ts", false},
		"an escaped hyphen":             {"/play/a001/seg%2D1.ts", false},
		"an escaped underscore":         {"/play/a001/seg%5F1.ts", false},
		"the last digit, escaped":       {"/play/a00%39/x.ts", false},
		"the last letter, escaped":      {"/play/%7A001/x.ts", false},
		"the last capital, escaped":     {"/play/%5A001/x.ts", false},
		"an escape at the end":          {"/play/a001/x%7E", true},
		"half an escape":                {"/play/a001%2", false},
		"a percent sign alone":          {"/play/a001/x%", false},
		"an escape of no hex":           {"/play/a001/%zz", false},
		"an escape of half a hex digit": {"/play/a001/%2g", false},

		"Cyrillic":                         {"/play/Первый канал/индекс.m3u8", true},
		"Cyrillic with spaces, escaped":    {"/play/%D0%9F%D0%B5%D1%80%D0%B2%D1%8B%D0%B9%20%D0%BA%D0%B0%D0%BD%D0%B0%D0%BB/x.ts", true},
		"Cyrillic in Windows-1251":         {"/play/%C0%EF%F0%E5%EB%FC/%E0%85.ts", true},
		"the last capital of a word in it": {"/play/%CA%C0/%C0.ts", true},
		"before an n":                      {"/play/%CAn/x.ts", true},
		"before an o":                      {"/play/%CAox/x.ts", true},
		"with what begins like overlong":   {"/play/%E0%82%80/x.ts", true},
		"a name that ends in a plus":       {"/play/canal+/x+y.ts", true},
		"an ellipsis within a title":       {"/play/a001/wait… for it.m3u8", true},
		"a full-width dot within a title":  {"/play/第１．集/x．ts", true},
		"a heart, which ends ignored":      {"/play/love❤\ufe0f/x.ts", true},
		"parameters without a name":        {"/play/a001/;v=1.5/x.ts", true},

		"an overlong dot":                      {"/play/a001/%c0%ae%c0%ae/a002/x.ts", false},
		"one in a name":                        {"/play/a001/x%c0%aets", false},
		"an overlong slash":                    {"/play/a001/x%C0%AFy.ts", false},
		"an overlong backslash":                {"/play/a001/x%c1%9cy.ts", false},
		"an overlong letter":                   {"/play/%c1%a1001/x.ts", false},
		"an overlong null":                     {"/play/a001/x.m3u8%c0%80.ts", false},
		"overlong dots of three bytes":         {"/play/a001/%e0%80%ae%e0%80%ae/x.ts", false},
		"of four bytes":                        {"/play/a001/%f0%80%80%ae%f0%80%80%ae/x.ts", false},
		"of five bytes":                        {"/play/a001/%f8%80%80%80%ae/x.ts", false},
		"of six bytes":                         {"/play/a001/%fc%80%80%80%80%ae/x.ts", false},
		"unescaped":                            {"/play/a001/\xc0\xae\xc0\xae/x.ts", false},
		"overlong dots with ASCII behind":      {"/play/a001/%c0n%c0n/x.ts", false},
		"overlong dots with dots behind":       {"/play/a001/%c0.%c0./x.ts", false},
		"an overlong slash with ASCII behind":  {"/play/a001/x%c0oy.ts", false},
		"full-width dots":                      {"/play/a001/．．/a002/x.ts", false},
		"full-width dots, escaped":             {"/play/a001/%EF%BC%8E%EF%BC%8E/a002/x.ts", false},
		"a full-width dot and a plain one":     {"/play/a001/．./x.ts", false},
		"one-dot leaders":                      {"/play/a001/%E2%80%A4%E2%80%A4/x.ts", false},
		"a two-dot leader":                     {"/play/a001/‥/x.ts", false},
		"small full stops":                     {"/play/a001/﹒﹒/x.ts", false},
		"an ellipsis alone":                    {"/play/a001/…/x.ts", false},
		"a full-width slash":                   {"/play/a001／x.ts", false},
		"a fraction slash":                     {"/play/a001⁄x.ts", false},
		"a full-width backslash":               {"/play/a001＼x.ts", false},
		"a yen sign, a backslash in Shift JIS": {"/play/a001¥x.ts", false},
		"a full-width percent sign":            {"/play/a001/％2e％2e/x.ts", false},
		"a space before dots":                  {"/play/a001/%20../x.ts", false},
		"an unescaped one":                     {"/play/a001/ ../x.ts", false},
		"a space behind dots":                  {"/play/a001/..%20/x.ts", false},
		"a space between dots":                 {"/play/a001/.%20./x.ts", false},
		"a plus before dots":                   {"/play/a001/+../x.ts", false},
		"a wide space before dots":             {"/play/a001/%E3%80%80../x.ts", false},
		"a zero-width space between dots":      {"/play/a001/.%E2%80%8B./x.ts", false},
		"a space before dots, and a parameter": {"/play/a001/%20..;x/x.ts", false},
		"dots before a full-width semicolon":   {"/play/a001/．．；x/x.ts", false},
		"a dot at the end of a name":           {"/play/a001./x.ts", false},
		"a full-width dot at its end":          {"/play/a001．/x.ts", false},
		"a space at its end":                   {"/play/a001%20/x.ts", false},
		"a space at the end of the path":       {"/play/a001/x.m3u8 ", false},
		"a dot before a parameter":             {"/play/a001.;x/x.ts", false},
		"a control of ISO 6429":                {"/play/a001%C2%85/x.ts", false},
		"full-width dots alone":                {"．．", false},
		"a space alone":                        {" ", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := IsClean(tc.path); got != tc.want {
				t.Errorf("IsClean(%q): got %v, want %v", tc.path, got, tc.want)
			}
		})
	}
}

// TestIsClean_Unseen has the first and the last of the characters that nobody sees, and their neighbors.
func TestIsClean_Unseen(t *testing.T) {
	t.Parallel()
	for r, want := range map[rune]struct{ behindName, behindDot bool }{
		'+': {true, false}, 0xad: {true, false}, 0x180e: {true, false}, 0xfeff: {true, false}, // ignored
		0x200b: {true, false}, 0x200f: {true, false}, 0x2060: {true, false}, 0x206f: {true, false},
		0xfe00: {true, false}, 0xfe0f: {true, false},
		' ': {false, false}, 0xa0: {false, false}, 0x3000: {false, false}, 0x2000: {false, false}, 0x200a: {false, false}, // blank
		0x1fff: {true, true}, 0x2010: {true, true}, 0x205e: {true, true}, 0x2070: {true, true}, // letters
		0xfdff: {true, true}, 0xfe10: {true, true}, 0xac: {true, true}, 0xa1: {true, true},
	} {
		if got := IsClean("/a001" + string(r) + "/x.ts"); got != want.behindName {
			t.Errorf("%U at the end of a name: clean %v, want %v", r, got, want.behindName)
		}
		if got := IsClean("/." + string(r) + "/x.ts"); got != want.behindDot {
			t.Errorf("%U behind a dot: clean %v, want %v", r, got, want.behindDot)
		}
	}
}

func TestUnescapeByte(t *testing.T) {
	t.Parallel()
	const digits = "0123456789abcdefABCDEF"
	for high := range 256 {
		for low := range 256 {
			text := "%" + string([]byte{byte(high), byte(low)})
			want, err := strconv.ParseUint(text[1:], 16, 8)
			isEscape := err == nil && strings.IndexByte(digits, byte(high)) >= 0
			if got, ok := unescapeByte(text); ok != isEscape || ok && got != byte(want) {
				t.Fatalf("unescapeByte(%q): got %d, %v; want %d, %v", text, got, ok, want, isEscape)
			}
		}
	}
}

func TestIsClean_PlainPath_DoesNotAllocate(t *testing.T) {
	for _, path := range []string{"/play/a001/hd/seg-17.ts", "/play/%D0%BA%D0%B0%D0%BD%D0%B0%D0%BB+/x.ts"} {
		if n := testing.AllocsPerRun(100, func() { IsClean(path); Escape(path) }); n != 0 {
			t.Errorf("IsClean and Escape of %q: %v allocations, want 0", path, n)
		}
	}
}

func TestHasLookAlike(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		path string
		want bool
	}{
		"a name that a playlist escaped": {"/a001/seg%2D17%5F%41.ts", false},
		"a percent sign":                 {"/a001/100%25.ts", false},
		"an escaped slash":               {"/a001/x%2Fy.ts", false},
		"dots between escaped slashes":   {"/a001/x%2F..%2Fy.ts", true},
		"dots that a pattern set free":   {"/．．/x.ts", true},
		"a null":                         {"/a001/x%00.ts", true},
		"a delete":                       {"/a001/x%7F.ts", true},
		"the last control of ISO 6429":   {"/a001/x%C2%9F.ts", true},
		"what begins no escape":          {"/a001/100%zz.ts", false},
		"a path of no length":            {"", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := HasLookAlike(tc.path); got != tc.want {
				t.Errorf("HasLookAlike(%q): got %v, want %v", tc.path, got, tc.want)
			}
		})
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/play/a001/x.ts":  "/play/a001/x.ts",
		"/a b/ä%c3%a4\"x^": "/a%20b/%C3%A4%c3%a4%22x%5E",
		"/x／y;z=1":         "/x%EF%BC%8Fy;z=1",
		"/\x7f/\x00":       "/%7F/%00",
		"":                 "",
	} {
		if got := Escape(path); got != want || Escape(got) != got {
			t.Errorf("Escape(%q): got %q, want %q", path, got, want)
		}
	}
}

// loose decodes a path once more than it should, by the bits of UTF-8 alone, with wide characters as ASCII.
func loose(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if n, err := strconv.ParseUint(path[i+1:min(len(path), i+3)], 16, 8); c == '%' && err == nil && i+2 < len(path) {
			c, i = byte(n), i+2
		}
		b.WriteByte(c)
	}
	text, out := b.String(), []rune{}
	for i := 0; i < len(text); {
		value, size := rune(text[i]), 1
		if ones := bits.LeadingZeros8(^text[i]); ones >= 2 && ones <= 6 && i+ones <= len(text) {
			value = value & (1<<(7-ones) - 1)
			for size < ones && text[i+size]&0xc0 == 0x80 {
				value = value<<6 | rune(text[i+size]&0x3f)
				size++
			}
			if size < ones {
				value, size = rune(text[i]), 1
			}
		}
		out = append(out, value)
		i += size
	}
	return strings.NewReplacer("．", ".", "․", ".", "﹒", ".", "‥", "..", "…", "...", "／", "/", "⁄", "/", "∕", "/",
		"＼", `\`, "∖", `\`, "％", "%", "；", ";", "\u3000", " ", "\u200b", "", "\ufeff", "", "+", " ").Replace(string(out))
}

func FuzzIsClean(f *testing.F) {
	for _, seed := range []string{
		"/play/a001/index.m3u8", "/play/%D0%BA/x y.ts", "/a/%c0%ae%c0%ae/b", "/a/．．/b", "/a/%20../b", "/a/.%20/b", "/a/..;x/b",
		"/a/%252e/b", "/a／b", `/a\b`, "/a/%e0%80%ae/b", "/a./b", "/a+/b", "/a/.%e2%80%8b./b", "/a/%c0n/b", "/\xf0\x80\x80\xaf",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !IsClean(path) {
			return
		}
		read := loose(path)
		if strings.Count(read, "/") != strings.Count(path, "/") || strings.ContainsAny(read, "\\%\x00") {
			t.Fatalf("IsClean(%q): an origin may read %q", path, read)
		}
		for segment := range strings.SplitSeq(read, "/") {
			name, _, _ := strings.Cut(segment, ";")
			if trimmed := strings.TrimSpace(name); trimmed != "" && strings.Trim(trimmed, ". ") == "" {
				t.Errorf("IsClean(%q): an origin may read the segment %q", path, segment)
			}
		}
	})
}
