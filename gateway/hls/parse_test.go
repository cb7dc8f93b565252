package hls_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/hls/hlscorpus"
)

// mode is a ticket transport, and whether the request is below a ticket.
type mode struct {
	carry  hls.TicketTransport
	ticket bool // requested below "/~<ticket>"
}

// modes returns all modes by name; the names are those of the files in testdata.
func modes() map[string]mode {
	return map[string]mode{
		"path":          {carry: hls.TicketInPath},
		"path-ticketed": {carry: hls.TicketInPath, ticket: true},
		"query":         {carry: hls.TicketInQuery},
		"cookie":        {carry: hls.TicketInCookie},
		"none":          {carry: hls.TicketInNone},
		"none-ticketed": {carry: hls.TicketInNone, ticket: true},
	}
}

// options returns the options of a route that serves an origin's /play/ under the same path.
func (m mode) options() hls.Options {
	return hls.Options{
		Origin:         "http://10.0.0.5:8000/play/a001/index.m3u8?x=1",
		Path:           "/play/a001/index.m3u8",
		TicketIn:       m.carry,
		UnderTicket:    m.ticket,
		QueryParameter: "ticket",
		Locate:         onOrigin(func(ref string) (string, bool) { return ref, strings.HasPrefix(ref, "/play/") }),
	}
}

// onOrigin locates what is on the origin of the tests.
func onOrigin(locate func(ref string) (string, bool)) func(hls.Listed) (string, bool) {
	return func(l hls.Listed) (string, bool) {
		isOurs := l.Scheme == "http" && l.Host == "10.0.0.5:8000" || l.Scheme == "https" && l.Host == "origin.example"
		if !isOurs {
			return "", false
		}
		return locate(l.Ref)
	}
}

// viewerCopy parses a playlist and returns the copy of a viewer with the ticket T.
func viewerCopy(t *testing.T, body string, o hls.Options) string {
	t.Helper()
	template, err := hls.Parse([]byte(body), o)
	if err != nil {
		t.Fatalf("Parse(%q): %v", body, err)
	}
	return string(template.Append(nil, []byte("T"), nil))
}

// rewriteURI returns the rewritten form of one URI on its own line.
func rewriteURI(t *testing.T, uri string, o hls.Options) string {
	t.Helper()
	const head = "#EXTM3U\n#EXTINF:2,\n"
	got, found := strings.CutPrefix(viewerCopy(t, head+uri, o), head)
	if !found {
		t.Fatalf("rewriting %q changed the lines before it", uri)
	}
	return got
}

// wants holds the rewritten forms of a URI by mode; both forms of none are equal.
type wants struct{ path, ticketed, query, cookie, none string }

// byMode returns the forms by the modes' names.
func (w wants) byMode() map[string]string {
	return map[string]string{
		"path": w.path, "path-ticketed": w.ticketed, "query": w.query,
		"cookie": w.cookie, "none": w.none, "none-ticketed": w.none,
	}
}

// untouched expects the unchanged URI in every mode.
func untouched(uri string) wants { return wants{uri, uri, uri, uri, uri} }

// formCase is a URI on its own line.
type formCase struct {
	uri  string
	want wants
}

// locatedForms are URIs on the origin.
func locatedForms() map[string]formCase {
	return map[string]formCase{
		"a file name beside the playlist": {"seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "seg.ts?ticket=T", "seg.ts", "/play/a001/seg.ts",
		}},
		"a name with a dot segment": {"./seg.ts", wants{
			"/~T/play/a001/seg.ts", "./seg.ts", "./seg.ts?ticket=T", "./seg.ts", "/play/a001/seg.ts",
		}},
		"a folder above": {"../b/seg.ts", wants{
			"/~T/play/b/seg.ts", "../b/seg.ts", "../b/seg.ts?ticket=T", "../b/seg.ts", "/play/b/seg.ts",
		}},
		"a climb beyond the root, which would leave the ticket": {"../../../play/a001/seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "../../../play/a001/seg.ts?ticket=T", "../../../play/a001/seg.ts", "/play/a001/seg.ts",
		}},
		"a rooted path, as Astra writes it": {"/play/a001/seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "/play/a001/seg.ts?ticket=T", "/play/a001/seg.ts", "/play/a001/seg.ts",
		}},
		"a rooted path into another folder": {"/play/b/c/seg.ts", wants{
			"/~T/play/b/c/seg.ts", "../b/c/seg.ts", "/play/b/c/seg.ts?ticket=T", "/play/b/c/seg.ts", "/play/b/c/seg.ts",
		}},
		"a rooted path with a colon in its name": {"/play/a001/seg:1.ts", wants{
			"/~T/play/a001/seg:1.ts", "./seg:1.ts", "/play/a001/seg:1.ts?ticket=T", "/play/a001/seg:1.ts", "/play/a001/seg:1.ts",
		}},
		"the folder of the playlist": {"/play/a001/", wants{
			"/~T/play/a001/", "./", "/play/a001/?ticket=T", "/play/a001/", "/play/a001/",
		}},
		"an absolute URL on the origin": {"http://10.0.0.5:8000/play/a001/seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "/play/a001/seg.ts?ticket=T", "/play/a001/seg.ts", "/play/a001/seg.ts",
		}},
		"an absolute URL in capitals, with a password": {"HTTP://admin:pw@10.0.0.5:8000/play/a001/seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "/play/a001/seg.ts?ticket=T", "/play/a001/seg.ts", "/play/a001/seg.ts",
		}},
		"a URL without scheme": {"//10.0.0.5:8000/play/a001/seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "/play/a001/seg.ts?ticket=T", "/play/a001/seg.ts", "/play/a001/seg.ts",
		}},
		"a query of the origin's own": {"seg.ts?a=b%2Bc&d", wants{
			"/~T/play/a001/seg.ts?a=b%2Bc&d", "seg.ts?a=b%2Bc&d", "seg.ts?a=b%2Bc&d&ticket=T", "seg.ts?a=b%2Bc&d", "/play/a001/seg.ts?a=b%2Bc&d",
		}},
		"a query alone": {"?part=2", wants{
			"/~T/play/a001/index.m3u8?part=2", "?part=2", "?part=2&ticket=T", "?part=2", "/play/a001/index.m3u8?part=2",
		}},
		"a fragment": {"seg.ts#t=1", wants{
			"/~T/play/a001/seg.ts#t=1", "seg.ts#t=1", "seg.ts?ticket=T#t=1", "seg.ts#t=1", "/play/a001/seg.ts#t=1",
		}},
		"a query that holds a URL and dot segments": {"seg.ts?u=http://x/../y", wants{
			"/~T/play/a001/seg.ts?u=http://x/../y", "seg.ts?u=http://x/../y", "seg.ts?u=http://x/../y&ticket=T", "seg.ts?u=http://x/../y", "/play/a001/seg.ts?u=http://x/../y",
		}},
		"percent-encoding, spaces and letters beyond ASCII": {"сег мент%20%e2%82%ac.ts", wants{
			"/~T/play/a001/сег мент%20%e2%82%ac.ts", "сег мент%20%e2%82%ac.ts", "сег мент%20%e2%82%ac.ts?ticket=T",
			"сег мент%20%e2%82%ac.ts", "/play/a001/сег мент%20%e2%82%ac.ts",
		}},
		"blanks around it":    {" seg.ts\t", wants{" /~T/play/a001/seg.ts\t", " seg.ts\t", " seg.ts?ticket=T\t", " seg.ts\t", " /play/a001/seg.ts\t"}},
		"a comment behind it": {"seg.ts\n#t=1", wants{"/~T/play/a001/seg.ts\n#t=1", "seg.ts\n#t=1", "seg.ts?ticket=T\n#t=1", "seg.ts\n#t=1", "/play/a001/seg.ts\n#t=1"}},
	}
}

// untouchedForms are URIs that stay unchanged.
func untouchedForms() map[string]formCase {
	return map[string]formCase{
		"a foreign host":                {"https://cdn.example.com/play/a001/seg.ts", untouched("https://cdn.example.com/play/a001/seg.ts")},
		"our host on another port":      {"http://10.0.0.5/play/a001/seg.ts", untouched("http://10.0.0.5/play/a001/seg.ts")},
		"our host as user information":  {"http://10.0.0.5:8000@evil.example/play/a001/seg.ts", untouched("http://10.0.0.5:8000@evil.example/play/a001/seg.ts")},
		"a foreign host without scheme": {"//cdn.example.com/play/a001/seg.ts", untouched("//cdn.example.com/play/a001/seg.ts")},
		"a host behind backslashes":     {`/\evil.example/play/a001/seg.ts`, untouched(`/\evil.example/play/a001/seg.ts`)},
		"a host behind two backslashes": {`\\evil.example\a.ts`, untouched(`\\evil.example\a.ts`)},
		"no host at all":                {"http:///play/a001/seg.ts", untouched("http:///play/a001/seg.ts")},
		"another scheme":                {"skd://key-id", untouched("skd://key-id")},
		"data":                          {"data:text/plain;base64,AAAA", untouched("data:text/plain;base64,AAAA")},
		"a scheme without slashes":      {"http:seg.ts", untouched("http:seg.ts")},
		"a path that no route serves":   {"/admin/seg.ts", untouched("/admin/seg.ts")},
		"control characters":            {"se\tg.ts", untouched("se\tg.ts")},
	}
}

func TestParse_RewritesEveryURIForm(t *testing.T) {
	t.Parallel()
	tests := locatedForms()
	maps.Copy(tests, untouchedForms())
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]string{}
			for name, m := range modes() {
				got[name] = rewriteURI(t, test.uri, m.options())
			}
			if diff := cmp.Diff(test.want.byMode(), got); diff != "" {
				t.Errorf("rewriting %q (-want +got):\n%s", test.uri, diff)
			}
		})
	}
}

func TestParse_RewritesEveryTagWithURI(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		line     string // %s is the URI
		uri      string
		playlist bool // or a document: its viewers need a ticket
	}{
		"segment":                     {line: "%s", uri: "seg.ts"},
		"segment named as a playlist": {line: "%s", uri: "sub.m3u8?a"},
		"variant of any name":         {line: "#EXT-X-STREAM-INF:BANDWIDTH=1\n\n# comment\n%s", uri: "variant", playlist: true},
		"key":                         {line: `#EXT-X-KEY:METHOD=AES-128,URI="%s",IV=0x01`, uri: "key.bin"},
		"session key":                 {line: `#EXT-X-SESSION-KEY:METHOD=AES-128,URI="%s"`, uri: "key.bin"},
		"map":                         {line: `#EXT-X-MAP:URI="%s",BYTERANGE="700@0"`, uri: "init.mp4"},
		"rendition":                   {line: `#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a,URI=b",NAME="x=y",URI="%s"`, uri: "audio", playlist: true},
		"I-frame variant":             {line: `#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="%s"`, uri: "iframes", playlist: true},
		"image variant":               {line: `#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,URI="%s"`, uri: "images", playlist: true},
		"part":                        {line: `#EXT-X-PART:DURATION=0.33334,URI="%s",INDEPENDENT=YES`, uri: "part.mp4"},
		"preload hint":                {line: `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="%s"`, uri: "part.mp4"},
		"rendition report":            {line: `#EXT-X-RENDITION-REPORT:URI="%s",LAST-MSN=1`, uri: "../b/live", playlist: true},
		"session data":                {line: `#EXT-X-SESSION-DATA:DATA-ID="a",URI="%s"`, uri: "data.json"},
		"content steering":            {line: `#EXT-X-CONTENT-STEERING:SERVER-URI="%s",PATHWAY-ID="a"`, uri: "steer?s=1", playlist: true},
		"interstitial asset":          {line: `#EXT-X-DATERANGE:ID="a",X-COM-URI="x.ts",X-ASSET-URI="%s"`, uri: "ad/index.m3u8", playlist: true},
		"interstitial asset list":     {line: `#EXT-X-DATERANGE:ID="a",X-ASSET-LIST="%s",DURATION=1.50`, uri: "ads.json", playlist: true},
		"key without quotes":          {line: `#EXT-X-KEY:METHOD=AES-128,URI=%s,IV=0x01`, uri: "key.bin"},
		"segment announced early":     {line: "#EXT-X-PREFETCH: %s ", uri: "seg.ts"},
		"the same, by Twitch":         {line: "#EXT-X-TWITCH-PREFETCH:%s", uri: "seg.ts?a,b"},
		"key with blanks":             {line: `#EXT-X-KEY: METHOD=AES-128 , URI = " %s " ,IV=0x01`, uri: "key.bin"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := "/play/a001/" + test.uri
			if rest, found := strings.CutPrefix(test.uri, "../"); found {
				target = "/play/" + rest
			}
			joint := map[bool]string{true: "&", false: "?"}[strings.Contains(test.uri, "?")]
			uris := map[string]string{
				"path": "/~T" + target, "path-ticketed": test.uri, "query": test.uri + joint + "ticket=T",
				"cookie": test.uri, "none": target, "none-ticketed": target,
			}
			if test.playlist {
				uris["none"], uris["none-ticketed"] = uris["path"], uris["path-ticketed"]
			}
			line := "#EXTM3U\r\n" + test.line + "\r\n#EXT-X-UNKNOWN:URI=\"seg.ts\""
			want, got := map[string]string{}, map[string]string{}
			for name, m := range modes() {
				want[name] = fmt.Sprintf(line, uris[name])
				got[name] = viewerCopy(t, fmt.Sprintf(line, test.uri), m.options())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestParse_Steering_FromElsewhere has players not be steered by a manifest that names hosts as they are.
func TestParse_Steering_FromElsewhere(t *testing.T) {
	t.Parallel()
	const off = "#EXT-X-X-CONTENT-STEERING:"
	for line, want := range map[string]string{
		`SERVER-URI="https://steer.foreign.example/m",PATHWAY-ID="A"`: off + `SERVER-URI="https://steer.foreign.example/m",PATHWAY-ID="A"`,
		`PATHWAY-ID="A",SERVER-URI="//steer.foreign.example/m"`:       off + `PATHWAY-ID="A",SERVER-URI="//steer.foreign.example/m"`,
		`SERVER-URI="data:application/json,{}"`:                       off + `SERVER-URI="data:application/json,{}"`,
		`SERVER-URI="\\steer.foreign.example/m"`:                      off + `SERVER-URI="\\steer.foreign.example/m"`,
		`SERVER-URI="{$unknown}/m"`:                                   off + `SERVER-URI="{$unknown}/m"`,
		`SERVER-URI="https://steer.foreign.example/m",SERVER-URI="m"`: off + `SERVER-URI="https://steer.foreign.example/m",SERVER-URI="/~T/play/a001/m"`,
		`SERVER-URI="m",SERVER-URI="https://steer.foreign.example/m"`: `#EXT-X-CONTENT-STEERING:SERVER-URI="/~T/play/a001/m",SERVER-URI=""`,
		`SERVER-URI="",PATHWAY-ID="A"`:                                `#EXT-X-CONTENT-STEERING:SERVER-URI="",PATHWAY-ID="A"`,
		`PATHWAY-ID="A"`:                                              `#EXT-X-CONTENT-STEERING:PATHWAY-ID="A"`,
	} {
		o := corpusOptions(mode{})
		o.Locate = func(l hls.Listed) (string, bool) { return l.Ref, l.Host == hlscorpus.OwnHost }
		body := "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI=\"https://foreign.example/a.m3u8\"\n#EXT-X-CONTENT-STEERING:" + line + "\n"
		got := parseAny(t, hlscorpus.Playlist{Name: line, Body: body}, o)
		if _, tag, _ := strings.Cut(got, "a.m3u8\"\n"); tag != want+"\n" {
			t.Errorf("%s: got %s, want %s", line, tag, want)
		}
	}
}

func TestParse_OtherText_Unchanged(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"an attribute whose name ends in URI":        `#EXT-X-KEY:METHOD=AES-128,X-URI="key.bin"`,
		"a URI inside another attribute's quotes":    `#EXT-X-MEDIA:TYPE=AUDIO,NAME="a,URI=b.m3u8,c",GROUP-ID="g"`,
		"an attribute name in small letters":         `#EXT-X-KEY:METHOD=AES-128,uri="key.bin"`,
		"quotes that are never closed":               `#EXT-X-KEY:METHOD=AES-128,URI="key.bin`,
		"an unclosed quote before the URI":           `#EXT-X-KEY:METHOD="AES-128,URI=key.bin`,
		"an empty URI":                               `#EXT-X-KEY:METHOD=NONE,URI=""`,
		"a fragment alone":                           `#EXT-X-KEY:METHOD=AES-128,URI="#k"`,
		"a name without value":                       `#EXT-X-KEY:URI`,
		"a tag without attributes":                   `#EXT-X-KEY:`,
		"a tag without colon":                        `#EXT-X-KEY`,
		"an attribute without value":                 `#EXT-X-KEY:URI=`,
		"the same before blanks":                     "#EXT-X-KEY:URI= \t ",
		"a quote that begins at the end":             `#EXT-X-KEY:URI="`,
		"a tag with a longer name":                   `#EXT-X-KEYS:URI="key.bin"`,
		"a FairPlay key":                             `#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://id",KEYFORMAT="com.apple.streamingkeydelivery"`,
		"a licence on a foreign host":                `#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI="https://drm.example.com/play/l?k=1",KEYFORMAT="urn:uuid:edef"`,
		"a Widevine key in the playlist":             `#EXT-X-KEY:METHOD=SAMPLE-AES,URI="data:text/plain;base64,AAAA=",KEYFORMAT="urn:uuid:edef"`,
		"a comment that names a file":                "# seg.ts",
		"a title that looks like a URI":              `#EXTINF:2.000,URI="seg.ts"`,
		"a definition":                               `#EXT-X-DEFINE:NAME="base",VALUE="/play/a001"`,
		"an unquoted value whose target has a comma": `#EXT-X-KEY:METHOD=AES-128,URI=key.bin`,
		"a URI that no comma separates":              `#EXT-X-KEY:METHOD="AES-128"URI="key.bin"`,
		"a line of blanks":                           " \t ",
		"an unknown tag of a vendor":                 `#EXT-X-VENDOR:URI="seg.ts"`,
		"a steering attribute that is not the URI":   `#EXT-X-CONTENT-STEERING:URI="x",PATHWAY-ID="a"`,
		"a date range's attribute that is not ours":  `#EXT-X-DATERANGE:ID="a",URI="x.m3u8",X-ASSET="y"`,
	}
	for name, line := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for name, m := range modes() {
				o := m.options()
				o.Path = "/play/a,b/index.m3u8"
				o.Locate = onOrigin(func(ref string) (string, bool) { return strings.Replace(ref, "/a001/", "/a,b/", 1), true })
				body := "#EXTM3U\n" + line
				if got := viewerCopy(t, body, o); got != body {
					t.Errorf("%s: got %q, want %q", name, got, body)
				}
			}
		})
	}
}

func TestParse_URIAfterStreamInf_IsPlaylist(t *testing.T) {
	t.Parallel()
	const body = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nvariant\nseg.ts\n"
	const want = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/~T/play/a001/variant\n/play/a001/seg.ts\n"
	if got := viewerCopy(t, body, modes()["none"].options()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAttributes_NameInsideQuotes_Ignored(t *testing.T) {
	t.Parallel()
	const body = "#EXTM3U\n" + `#EXT-X-MEDIA:NAME="URI=x,",URI="a.m3u8",LANGUAGE="en"`
	const want = "#EXTM3U\n" + `#EXT-X-MEDIA:NAME="URI=x,",URI="/~T/play/a001/a.m3u8",LANGUAGE="en"`
	if got := viewerCopy(t, body, mode{}.options()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestParse_LineEnds has the lines of each playlist end in other ways, also each in its own. They say and list the same.
func TestParse_LineEnds(t *testing.T) {
	t.Parallel()
	ends := [][]string{{"\r\n"}, {"\r"}, {"\n\r"}, {"\r\r\n"}, {"\r", "\n"}, {"\n", "\r\n", "\r", "\r"}}
	for name, body := range corpus(t) {
		body = strings.ReplaceAll(body, "\r\n", "\n")
		wantInfo, err := hls.Scan([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(viewerCopy(t, body, mode{}.options()), "\n")
		for _, cycle := range ends {
			var other, wantText strings.Builder
			for i, line := range strings.Split(body, "\n") {
				if i > 0 {
					other.WriteString(cycle[i%len(cycle)])
					wantText.WriteString(cycle[i%len(cycle)])
				}
				other.WriteString(line)
				wantText.WriteString(want[i])
			}
			if got, err := hls.Scan([]byte(other.String())); err != nil || got != wantInfo {
				t.Errorf("%s, %q: got %+v, %v; want %+v", name, cycle, got, err, wantInfo)
			}
			if diff := cmp.Diff(wantText.String(), viewerCopy(t, other.String(), mode{}.options())); diff != "" {
				t.Errorf("%s, %q (-want +got):\n%s", name, cycle, diff)
			}
		}
	}
}
