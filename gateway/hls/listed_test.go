package hls_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// listed returns what a playlist without its first line lists.
func listed(t *testing.T, body string, o hls.Options) []hls.Listed {
	t.Helper()
	var all []hls.Listed
	o.Locate = func(l hls.Listed) (string, bool) {
		all = append(all, l)
		return "", false
	}
	if _, err := hls.Parse([]byte("#EXTM3U\n"+body), o); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestParse_Listed_RoleByTag(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string // its last URI counts
		want hls.Role
	}{
		"a segment":                     {"#EXTINF:2,\na.m3u8", hls.Media},
		"a segment named as a key":      {"#EXTINF:2,\na.key", hls.Media},
		"a variant":                     {"#EXT-X-STREAM-INF:BANDWIDTH=1\na.ts", hls.Playlist},
		"a variant behind comments":     {"#EXT-X-STREAM-INF:BANDWIDTH=1\n\n# x\n#EXT-X-VENDOR\na", hls.Playlist},
		"a segment behind a variant":    {"#EXT-X-STREAM-INF:BANDWIDTH=1\nv\na", hls.Media},
		"a key":                         {`#EXT-X-KEY:METHOD=AES-128,URI="a.ts"`, hls.Key},
		"a session's key":               {`#EXT-X-SESSION-KEY:METHOD=AES-128,URI="a.m3u8"`, hls.Key},
		"an initialization section":     {`#EXT-X-MAP:URI="a"`, hls.Media},
		"a part":                        {`#EXT-X-PART:DURATION=1,URI="a"`, hls.Media},
		"a part that comes":             {`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="a"`, hls.Media},
		"a key that comes":              {`#EXT-X-PRELOAD-HINT:TYPE=KEY,URI="a.ts"`, hls.Key},
		"a segment that comes":          {"#EXT-X-PREFETCH:a.m3u8", hls.Media},
		"the same of Twitch":            {"#EXT-X-TWITCH-PREFETCH:a", hls.Media},
		"a rendition":                   {`#EXT-X-MEDIA:TYPE=AUDIO,URI="a.mp4"`, hls.Playlist},
		"I-frames":                      {`#EXT-X-I-FRAME-STREAM-INF:URI="a"`, hls.Playlist},
		"images":                        {`#EXT-X-IMAGE-STREAM-INF:URI="a"`, hls.Playlist},
		"a report":                      {`#EXT-X-RENDITION-REPORT:URI="a"`, hls.Playlist},
		"session data":                  {`#EXT-X-SESSION-DATA:DATA-ID="a",URI="a.json"`, hls.Media},
		"a steering manifest":           {`#EXT-X-CONTENT-STEERING:SERVER-URI="a"`, hls.Document},
		"an asset":                      {`#EXT-X-DATERANGE:ID="a",X-ASSET-URI="a.json"`, hls.Playlist},
		"an asset list":                 {`#EXT-X-DATERANGE:ID="a",X-ASSET-LIST="a.m3u8"`, hls.Document},
		"a schedule of date ranges":     {`#EXT-X-DATERANGE:ID="a",X-URI="a",CLASS="com.apple.hls.daterange-schedule"`, hls.Document},
		"what is loaded before":         {`#EXT-X-DATERANGE:ID="a",CLASS="com.apple.hls.preload",X-URI="a"`, hls.Document},
		"another class's own X-URI":     {"v\n" + `#EXT-X-DATERANGE:ID="a",CLASS="com.example.ad",X-URI="a"`, hls.Media},
		"both, in the order of the tag": {`#EXT-X-DATERANGE:X-ASSET-LIST="a",ID="a",X-ASSET-URI="b"`, hls.Playlist},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := listed(t, test.body, mode{}.options())
			if len(all) == 0 {
				t.Fatal("nothing is listed")
			}
			if got := all[len(all)-1].Role; got != test.want {
				t.Errorf("got role %v, want %v", got, test.want)
			}
		})
	}
}

func TestParse_Listed_HostByVariable(t *testing.T) {
	t.Parallel()
	const body = `#EXT-X-DEFINE:NAME="whole",VALUE="HTTPS://user@CDN.example:443/x/../play"
#EXT-X-DEFINE:NAME="host",VALUE="cdn.example:81"
#EXT-X-DEFINE:NAME="scheme",VALUE="https:"
#EXT-X-DEFINE:NAME="slashes",VALUE="//"
#EXT-X-DEFINE:IMPORT="imported"
#EXT-X-DEFINE:QUERYPARAM="asked"
{$whole}/a
http://{$host}/b
{$scheme}{$slashes}{$host}/c
/{$slashes}no-host
{$imported}/e
{$asked}/f
{$slashes}{$unknown}/g
`
	o := mode{}.options()
	o.Variables, o.Query = "imported=http%3A%2F%2Fimported.example", "asked=%2F%2Fasked.example"
	want := []string{
		"https cdn.example /play/a", "http cdn.example:81 /b", "https cdn.example:81 /c",
		"http imported.example /e", "http asked.example /f",
	}
	var got []string
	for _, l := range listed(t, body, o) {
		got = append(got, l.Scheme+" "+l.Host+" "+l.Ref)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListed_IsKnown(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]bool{
		"a": true, "a?b={c}": true, "a{$b}": false, "a?t={$b}": false, "a{$v}": true, "a#{$b}": true,
	} {
		all := listed(t, "#EXT-X-DEFINE:NAME=\"v\",VALUE=\"x\"\n"+uri, mode{}.options())
		if len(all) != 1 || all[0].IsKnown() != want {
			t.Errorf("%q: got %+v, want known: %t", uri, all, want)
		}
	}
}

// TestParse_ListedVariables_Imported gives a multivariant playlist's variables to the playlists that it lists, in the way in
// which the gateway does.
func TestParse_ListedVariables_Imported(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"plain": "a", "empty": "", "odd": "a&b=c;d%20+e{f}$", "text": "канал №1", "host": "http://10.0.0.5:8000/play/b", "Name_-9": "x",
	}
	var master, child strings.Builder
	for name, value := range values {
		fmt.Fprintf(&master, "#EXT-X-DEFINE:NAME=%q,VALUE=\"%s\"\n", name, value)
		fmt.Fprintf(&child, "#EXT-X-DEFINE:IMPORT=%q\n", name)
	}
	master.WriteString("#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n#EXT-X-DEFINE:NAME=\"late\",VALUE=\"x\"\n")
	child.WriteString("#EXT-X-DEFINE:IMPORT=\"late\"\n")
	want := maps.Clone(values)
	want["late"] = "{$late}"
	o := mode{}.options()
	o.Variables = listed(t, master.String(), o)[0].Variables
	got := map[string]string{}
	for name := range want {
		ref := listed(t, child.String()+"s?"+name+"={$"+name+"}", o)[0].Ref
		got[name] = strings.TrimPrefix(ref, "/play/a001/s?"+name+"=")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParse_ListedVariables_DefinedSoFar(t *testing.T) {
	t.Parallel()
	var got []string
	for _, l := range listed(t, `#EXT-X-MEDIA:URI="a"
#EXT-X-DEFINE:NAME="v",VALUE="1"
#EXT-X-MEDIA:URI="a"
#EXT-X-MEDIA:URI="a"
#EXT-X-DEFINE:NAME="w",VALUE="2"
#EXT-X-MEDIA:URI="a"
`, mode{}.options()) {
		got = append(got, l.Variables)
	}
	if diff := cmp.Diff([]string{"", "v=1", "v=1", "v=1&w=2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParse_ListedVariables_ByTag(t *testing.T) {
	t.Parallel()
	const define = "#EXT-X-DEFINE:NAME=\"b\",VALUE=\"2\"\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"1\"\n"
	tests := map[string]struct{ body, want string }{
		"a variant":                           {"#EXT-X-STREAM-INF:BANDWIDTH=1\nv", "a=1&b=2"},
		"a rendition":                         {`#EXT-X-MEDIA:TYPE=AUDIO,URI="a"`, "a=1&b=2"},
		"I-frames":                            {`#EXT-X-I-FRAME-STREAM-INF:URI="a"`, "a=1&b=2"},
		"a steering manifest, for its clones": {`#EXT-X-CONTENT-STEERING:SERVER-URI="a"`, "a=1&b=2"},
		"a sibling, by a report":              {`#EXT-X-RENDITION-REPORT:URI="a"`, "i=3"},
		"a segment":                           {"a", ""},
		"a key":                               {`#EXT-X-KEY:METHOD=AES-128,URI="a"`, ""},
		"an asset":                            {`#EXT-X-DATERANGE:X-ASSET-URI="a"`, ""},
		"an asset list":                       {`#EXT-X-DATERANGE:X-ASSET-LIST="a"`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := mode{}.options()
			o.Variables = "i=3"
			if got := listed(t, define+test.body, o)[0].Variables; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
