package hls_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// versions returns the versions of what a playlist lists, by path and query.
func versions(t *testing.T, body string) map[string]uint64 {
	t.Helper()
	found := map[string]uint64{}
	for _, l := range listed(t, body, mode{}.options()) {
		ref := strings.TrimPrefix(l.Ref, "/play/a001/")
		if before, isThere := found[ref]; isThere && before != l.Version && l.Role != hls.Key {
			t.Errorf("%s: two versions in one playlist", ref)
		}
		found[ref] = l.Version
	}
	return found
}

// keysOf returns the tags of the keys that apply to a segment of the live playlist. Every third segment has another key.
// The order of the tags differs.
func keysOf(segment int) string {
	aes := fmt.Sprintf("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k%d\",KEYFORMAT=\"identity\"\n", segment/3)
	fairplay := "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://same\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n"
	if segment%2 == 0 {
		return aes + fairplay
	}
	return fairplay + aes
}

// sliding returns a live playlist of five segments, from the given one on: with keys where they change and before the
// first, and with what is announced of the segment that comes.
func sliding(first int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#EXT-X-MEDIA-SEQUENCE:%d\n", first)
	for i := first; i < first+5; i++ {
		if i == first || i%3 == 0 {
			b.WriteString(keysOf(i))
		}
		fmt.Fprintf(&b, "#EXT-X-PART:DURATION=1,URI=\"p%d.0\"\n#EXT-X-PART:DURATION=1,URI=\"p%d.1\"\n#EXTINF:2,\ns%d\n", i, i, i)
	}
	next := first + 5
	if next%3 == 0 {
		b.WriteString(keysOf(next))
	}
	fmt.Fprintf(&b, "#EXT-X-PART:DURATION=1,URI=\"p%d.0\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p%d.1\"\n#EXT-X-PREFETCH:s%d\n", next, next, next)
	return b.String()
}

func TestParse_Version_SameInEveryReload(t *testing.T) {
	t.Parallel()
	all, times, distinct := map[string]uint64{}, map[string]int{}, map[uint64]string{}
	for first := range 20 {
		for ref, version := range versions(t, sliding(first)) {
			if before, isThere := all[ref]; isThere && before != version {
				t.Errorf("from %d on: %s has another version", first, ref)
			}
			all[ref] = version
			times[ref]++
			if strings.HasPrefix(ref, "s") {
				if other, isThere := distinct[version]; isThere && other != ref || version == 0 {
					t.Errorf("%s and %s have the version %d", ref, other, version)
				}
				distinct[version] = ref
			}
		}
	}
	if times["s10"] != 6 || times["p10.1"] != 6 || all["s10"] != all["p10.1"] || all["p10.0"] != all["p10.1"] {
		t.Errorf("segment 10 was listed %d times, part 1 of it %d times", times["s10"], times["p10.1"])
	}
}

// TestParse_Version_SameInDeltaUpdates compares a playlist with a delta update that leaves out the key of the segments that
// it skips.
func TestParse_Version_SameInDeltaUpdates(t *testing.T) {
	t.Parallel()
	const head = "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=12.0\n#EXT-X-MEDIA-SEQUENCE:40\n"
	const tail = `#EXTINF:2,
s42
#EXT-X-KEY:METHOD=AES-128,URI="k2"
#EXT-X-MAP:URI="init2"
#EXTINF:2,
s43
#EXT-X-PART:DURATION=1,URI="p44"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p45"
`
	full := versions(t, head+"#EXT-X-KEY:METHOD=AES-128,URI=\"k1\"\n#EXTINF:2,\ns40\n#EXTINF:2,\ns41\n"+tail)
	delta := versions(t, head+"#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n"+tail)
	for ref, version := range delta {
		if full[ref] != version {
			t.Errorf("%s: the delta update gives version %d, the playlist %d", ref, version, full[ref])
		}
	}
	if len(delta) != 6 || delta["s42"] == delta["s43"] || delta["s42"] == 0 {
		t.Errorf("got %v", delta)
	}
}

func TestParse_Version(t *testing.T) {
	t.Parallel()
	const k1, k2 = `#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1` + "\n", `#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x2` + "\n"
	const other = `#EXT-X-KEY:METHOD=SAMPLE-AES,URI="o",KEYFORMAT="o"` + "\n"
	const none = "#EXT-X-KEY:METHOD=NONE\n"
	tests := map[string]struct {
		one, two string // playlists that list "s"
		isSame   bool
	}{
		"a ring under the next number":       {"s", "#EXT-X-MEDIA-SEQUENCE:5\ns", false},
		"the same number after a gap":        {"#EXT-X-MEDIA-SEQUENCE:4\na\ns", "#EXT-X-MEDIA-SEQUENCE:5\ns", true},
		"the number tells late":              {"a\ns\n#EXT-X-MEDIA-SEQUENCE:4\n", "#EXT-X-MEDIA-SEQUENCE:5\ns", true},
		"the number tells late, with titles": {"#EXTINF:2,\na\n#EXTINF:2,\ns\n#EXT-X-MEDIA-SEQUENCE:4\n", "#EXT-X-MEDIA-SEQUENCE:5\ns", true},
		"the number tells late, with parts":  {"#EXT-X-PART:URI=\"a\"\na\ns\n#EXT-X-MEDIA-SEQUENCE:4\n", "#EXT-X-MEDIA-SEQUENCE:5\ns", true},
		"the number tells after a part":      {`#EXT-X-PART:URI="s"` + "\n#EXT-X-MEDIA-SEQUENCE:5\n", "#EXT-X-MEDIA-SEQUENCE:5\n" + `#EXT-X-PART:URI="s"`, true},
		"a key behind skipped segments":      {"#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n" + k1 + "s", "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\ns", true},
		"another key":                        {k1 + "s", k2 + "s", false},
		"a key and none":                     {k1 + "s", "s", false},
		"a key that ended":                   {k1 + none + "s", "s", true},
		"keys that ended, of two formats":    {k1 + other + none + "s", "s", true},
		"the last key of a format counts":    {k1 + k2 + "s", k2 + "s", true},
		"keys of two formats apply together": {k1 + other + "s", k2 + other + "s", false},
		"in any order":                       {k1 + other + "s", other + k1 + "s", true},
		"a format that ended with another":   {k1 + other + k2 + "s", k2 + other + "s", true},
		"a key that comes back":              {k1 + k2 + k1 + "s", k1 + "s", true},
		"the default format by its name":     {k1 + `#EXT-X-KEY:METHOD=AES-128,URI="k",KEYFORMAT="identity"` + "\ns", `#EXT-X-KEY:METHOD=AES-128,URI="k",KEYFORMAT="identity"` + "\ns", true},
		"byte ranges of one file":            {"#EXT-X-BYTERANGE:1@0\ns", "a\n#EXT-X-BYTERANGE:1@1\ns", true},
		"byte ranges under another key":      {k1 + "#EXT-X-BYTERANGE:1@0\ns", k2 + "#EXT-X-BYTERANGE:1@0\ns", false},
		"a byte range ends with its segment": {"#EXT-X-BYTERANGE:1@0\na\ns", "a\ns", true},
		"a map under another number":         {`#EXT-X-MAP:URI="s"`, "a\n" + `#EXT-X-MAP:URI="s"`, true},
		"a map under another key":            {k1 + `#EXT-X-MAP:URI="s"`, k2 + `#EXT-X-MAP:URI="s"`, false},
		"a map that comes":                   {k1 + `#EXT-X-MAP:URI="s"`, k1 + `#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="s"`, true},
		"a segment that comes":               {"a\ns", "a\n#EXT-X-PREFETCH:s", true},
		"a segment that comes second":        {"a\nb\ns", "a\n#EXT-X-PREFETCH:b\n#EXT-X-TWITCH-PREFETCH:s", true},
		"a segment behind one that came":     {"a\nb\ns", "#EXT-X-PREFETCH:x\na\nb\ns", true},
		"a part and its segment":             {"a\n" + `#EXT-X-PART:URI="s"`, "a\ns", true},
		"skipped segments count":             {"#EXT-X-SKIP:SKIPPED-SEGMENTS=2\ns", "a\nb\ns", true},
		"the variant has none":               {"#EXT-X-STREAM-INF:BANDWIDTH=1\ns", "#EXT-X-MEDIA-SEQUENCE:5\n" + `#EXT-X-MEDIA:URI="s"`, true},
		"the key itself, rotated":            {`#EXT-X-KEY:METHOD=AES-128,URI="s",IV=0x1`, `#EXT-X-KEY:METHOD=AES-128,URI="s",IV=0x2`, false},
		"the key itself, as it was":          {k1 + `#EXT-X-KEY:METHOD=AES-128,URI="s"`, "a\n" + `#EXT-X-KEY:METHOD=AES-128,URI="s"`, true},
		"a key that comes, as it was":        {`#EXT-X-PRELOAD-HINT:TYPE=KEY,URI="s"`, k1 + "a\n" + `#EXT-X-PRELOAD-HINT:TYPE=KEY,URI="s"`, true},
		"the highest number":                 {"#EXT-X-MEDIA-SEQUENCE:18446744073709551615\na\ns", "s", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, two := versions(t, test.one)["s"], versions(t, test.two)["s"]
			if (one == two) != test.isSame {
				t.Errorf("got versions %d and %d, want the same: %t", one, two, test.isSame)
			}
		})
	}
}

func TestParse_Version_ZeroIfUntold(t *testing.T) {
	t.Parallel()
	got := versions(t, `#EXT-X-MAP:URI="map"
segment
#EXT-X-BYTERANGE:1@0
range
#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="map2"
#EXT-X-RENDITION-REPORT:URI="report"
#EXT-X-SESSION-KEY:METHOD=AES-128,URI="session-key"
#EXT-X-SESSION-DATA:DATA-ID="a",URI="data"
#EXT-X-DATERANGE:X-ASSET-URI="asset",X-ASSET-LIST="assets"
`)
	for ref, version := range got {
		if (version != 0) != (ref == "segment") {
			t.Errorf("%s has version %d", ref, version)
		}
	}
	if len(got) != 9 {
		t.Errorf("%d URIs are listed", len(got))
	}
}

// TestParse_Version_OfRanges lists a file by ranges while it grows, then as a segment, and its name again by the ranges of another one.
func TestParse_Version_OfRanges(t *testing.T) {
	t.Parallel()
	const part, hint = `#EXT-X-PART:URI="f",BYTERANGE="9@0"`, `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="f",BYTERANGE-START=9`
	want := listed(t, "a\n"+part, mode{}.options())[1]
	for name, test := range map[string]struct {
		body            string // its last URI counts
		isSame, mayGrow bool
	}{
		"the next part":                {"a\n" + part + "\n" + `#EXT-X-PART:URI="f",BYTERANGE="9@9"`, true, true},
		"the one that comes":           {"a\n" + hint, true, true},
		"the first that comes":         {"a\n" + `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="f",BYTERANGE-LENGTH=9`, true, true},
		"the segment":                  {"a\nf", false, false},
		"a part that is a file":        {"a\n" + `#EXT-X-PART:URI="f"`, false, false},
		"a file that comes":            {"a\n" + `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="f"`, false, true},
		"a map that comes":             {"a\n" + `#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="f"`, false, true},
		"a segment that comes":         {"a\n#EXT-X-PREFETCH:f", false, true},
		"a part of another segment":    {"a\nb\n" + part, false, true},
		"a part under another key":     {"a\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n" + part, false, true},
		"a segment that is a range":    {"a\n#EXT-X-BYTERANGE:9@0\nf", false, true},
		"one behind it, that is none":  {"a\n#EXT-X-BYTERANGE:9@0\nb\nf", false, false},
		"a map that is a range":        {`#EXT-X-MAP:URI="f",BYTERANGE="9@0"`, false, true},
		"a map":                        {`#EXT-X-MAP:URI="f"`, false, false},
		"the first part of the stream": {"#EXT-X-MEDIA-SEQUENCE:1\n" + part, true, true},
	} {
		all := listed(t, test.body, mode{}.options())
		got := all[len(all)-1]
		if got.MayGrow != test.mayGrow || (got.Version == want.Version) != test.isSame {
			t.Errorf("%s: version %d and growing %t, want version %d: %t, growing %t", name, got.Version, got.MayGrow, want.Version, test.isSame, test.mayGrow)
		}
	}
	if want.Version == 0 || !want.MayGrow {
		t.Errorf("the part: version %d, growing %t", want.Version, want.MayGrow)
	}
}

func TestParse_ManyKeys_AllocationsDoNotGrow(t *testing.T) {
	body := []byte("#EXTM3U\n" + strings.Repeat("#EXT-X-KEY:METHOD=AES-128,IV=0x1\n#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT=\"x\"\n", 200))
	o := mode{}.options()
	if got := testing.AllocsPerRun(20, func() {
		if _, err := hls.Parse(body, o); err != nil {
			t.Fatal(err)
		}
	}); got > 10 {
		t.Errorf("%v allocations for 400 keys", got)
	}
}

func TestParse_LateSequence_EachURIIsLocatedOnce(t *testing.T) {
	t.Parallel()
	var got []string
	for _, l := range listed(t, "#EXTINF:2,\na\n#EXTINF:2,\nb\n#EXT-X-MEDIA-SEQUENCE:9\n", mode{}.options()) {
		got = append(got, l.Ref)
	}
	if diff := cmp.Diff([]string{"/play/a001/a", "/play/a001/b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
