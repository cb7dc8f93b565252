package stage

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// tests closes the browser before the check for leaks.
type tests struct{ *testing.M }

func (r tests) Run() int { return chromium.Run(r.M) }

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

// noon is a time at which a two-second segment is 1.5 s old: 2026-11-19 12:00:01.5 UTC.
func noon() time.Time { return time.Date(2026, 11, 19, 12, 0, 1, 500_000_000, time.UTC) }

// serveOrigin serves an origin by HTTP over a real socket.
func serveOrigin(t testing.TB, cfg Config) (*Origin, string) {
	t.Helper()
	o := NewOrigin(cfg)
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	return o, server.URL
}

// get fetches with a separate client that does not decompress.
func get(t testing.TB, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, r)
}

func do(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// listedURIs returns the lines of a playlist that are not tags, and the URI attributes of its tags.
func listedURIs(playlist string) []string {
	var found []string
	for line := range strings.Lines(playlist) {
		line = strings.TrimSpace(line)
		if _, attribute, ok := strings.Cut(line, `URI="`); ok {
			uri, _, _ := strings.Cut(attribute, `"`)
			found = append(found, uri)
		} else if line != "" && line[0] != '#' {
			found = append(found, line)
		}
	}
	return found
}

func TestOrigin_Playlists(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon, Window: 3})
	tests := map[string]struct{ path, want string }{
		"a multivariant playlist": {"/play/a001/index.m3u8", `#EXTM3U
#EXT-X-VERSION:3
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-STREAM-INF:BANDWIDTH=211312,AVERAGE-BANDWIDTH=201410,CODECS="avc1.4d401e,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=25.000
high.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=154912,AVERAGE-BANDWIDTH=145637,CODECS="avc1.4d401e,mp4a.40.2",RESOLUTION=320x180,FRAME-RATE=25.000
low.m3u8
`},
		"a media playlist": {"/play/a001/low.m3u8", `#EXTM3U
#EXT-X-VERSION:3
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:897544797
#EXT-X-PROGRAM-DATE-TIME:2026-11-19T11:59:54.000Z
#EXTINF:2.000,
low-897544797.ts
#EXT-X-PROGRAM-DATE-TIME:2026-11-19T11:59:56.000Z
#EXTINF:2.000,
low-897544798.ts
#EXT-X-PROGRAM-DATE-TIME:2026-11-19T11:59:58.000Z
#EXTINF:2.000,
low-897544799.ts
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response, body := get(t, origin+test.path)
			if got := response.Header.Get("Content-Type"); got != "application/vnd.apple.mpegurl" {
				t.Errorf("Content-Type: got %q", got)
			}
			if diff := cmp.Diff(test.want, body); diff != "" {
				t.Errorf("playlist (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOrigin_ServesEveryListedURI(t *testing.T) {
	t.Parallel()
	tests := map[string]Config{
		"as it comes":            {},
		"relative, compressed":   {Gzip: true},
		"root-relative":          {URIs: RootRelative},
		"absolute":               {URIs: Absolute},
		"six-second segments":    {SegmentDuration: 6 * time.Second, Window: 3},
		"one-second segments":    {SegmentDuration: time.Second, Window: 30},
		"segments stuffed to 1M": {StuffTo: 1 << 20, Window: 3},
	}
	for name, cfg := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, origin := serveOrigin(t, cfg)
			seen := map[string]bool{}
			for _, path := range []string{"/play/a%20b/index.m3u8", "/single/x/index.m3u8", "/ll/y/index.m3u8"} {
				crawl(t, origin+path, seen)
			}
			if len(seen) < 20 {
				t.Fatalf("found only %d URLs", len(seen))
			}
		})
	}
}

func crawl(t *testing.T, address string, seen map[string]bool) {
	t.Helper()
	if seen[address] {
		return
	}
	seen[address] = true
	response, body := get(t, address)
	if response.StatusCode != http.StatusOK || body == "" {
		t.Fatalf("%s: %s, %d bytes", address, response.Status, len(body))
	}
	if !strings.Contains(address, ".m3u8") {
		return
	}
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, uri := range listedURIs(body) {
		child, err := base.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		crawl(t, child.String(), seen)
	}
}

func TestOrigin_URIStyles(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		style URIStyle
		want  func(origin string) string
	}{
		"relative":      {Relative, func(string) string { return "high.m3u8" }},
		"root-relative": {RootRelative, func(string) string { return "/play/a%22b/high.m3u8" }},
		"absolute":      {Absolute, func(origin string) string { return origin + "/play/a%22b/high.m3u8" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, origin := serveOrigin(t, Config{URIs: test.style})
			_, body := get(t, origin+"/play/a%22b/index.m3u8")
			if got := listedURIs(body)[0]; got != test.want(origin) {
				t.Errorf("got %q, want %q", got, test.want(origin))
			}
		})
	}
}

func TestOrigin_ConsecutiveSegments(t *testing.T) {
	t.Parallel()
	tests := map[string]Config{
		"two-second segments":      {Now: noon, Window: 20},
		"three-second segments":    {Now: noon, Window: 14, SegmentDuration: 3 * time.Second},
		"stuffed segments":         {Now: noon, Window: 20, StuffTo: 100_000},
		"a loop in a single piece": {Now: noon, Window: 4, SegmentDuration: 12 * time.Second},
	}
	for name, cfg := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, origin := serveOrigin(t, cfg)
			_, playlist := get(t, origin+"/single/x/index.m3u8")
			r := newTSReader(t)
			for _, uri := range listedURIs(playlist) {
				_, body := get(t, origin+"/single/x/"+uri)
				if len(body) < cfg.StuffTo {
					t.Fatalf("%s: %d bytes, want %d at least", uri, len(body), cfg.StuffTo)
				}
				r.read(uri, []byte(body))
			}
			if r.frames[videoPID] < 3*300 {
				t.Fatalf("%d frames of video, want three rounds of 300", r.frames[videoPID])
			}
		})
	}
}

func TestOrigin_TwoOrigins_SameBytes(t *testing.T) {
	t.Parallel()
	_, one := serveOrigin(t, Config{Now: noon})
	_, other := serveOrigin(t, Config{Now: noon})
	number := strconv.FormatInt(noon().Unix()/2-1, 10)
	for _, path := range []string{"/play/a/high.m3u8", "/ll/a/index.m3u8", "/play/a/high-" + number + ".ts", "/ll/a/" + number + ".m4s"} {
		_, a := get(t, one+path)
		_, b := get(t, other+path)
		if a != b || len(a) < 100 {
			t.Errorf("%s: %d bytes and %d bytes that differ", path, len(a), len(b))
		}
	}
}

func TestOrigin_OutsideLiveWindow_NotFound(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon})
	live := noon().Unix() / 2
	segment := func(back int64) string { return strconv.FormatInt(live-back, 10) }
	tests := map[string]struct {
		path string
		want int
	}{
		"the newest segment":              {"/play/a/high-" + segment(1) + ".ts", 200},
		"the oldest listed segment":       {"/play/a/high-" + segment(10) + ".ts", 200},
		"the oldest one that is kept":     {"/play/a/high-" + segment(20) + ".ts", 200},
		"one that has left":               {"/play/a/high-" + segment(21) + ".ts", 404},
		"one that is being made":          {"/play/a/high-" + segment(0) + ".ts", 404},
		"a low-latency segment that left": {"/ll/a/" + segment(21) + ".m4s", 404},
		"a part that has left":            {"/ll/a/" + segment(21) + ".0.m4s", 404},
		"the newest part":                 {"/ll/a/" + segment(0) + ".6.m4s", 200},
		"a part after the hinted one":     {"/ll/a/" + segment(0) + ".8.m4s", 404},
		"a part that no segment has":      {"/ll/a/" + segment(1) + ".10.m4s", 404},
		"a part without a number":         {"/ll/a/" + segment(1) + ".x.m4s", 404},
		"a segment without a number":      {"/play/a/high-.ts", 404},
		"a negative segment":              {"/play/a/high--7.ts", 404},
		"a number that overflows":         {"/play/a/high-99999999999999999999.ts", 404},
		"a rendition that is not there":   {"/play/a/medium.m3u8", 404},
		"a kind that is not there":        {"/vod/a/index.m3u8", 404},
		"a channel without a name":        {"/play//index.m3u8", 404},
		"the root":                        {"/", 404},
		"a low-latency file of no kind":   {"/ll/a/whatever", 404},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if response, _ := get(t, origin+test.path); response.StatusCode != test.want {
				t.Errorf("%s: got %d, want %d", test.path, response.StatusCode, test.want)
			}
		})
	}
}

func TestOrigin_MethodsRangesAndHead(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon})
	segment := origin + "/play/a/high-" + strconv.FormatInt(noon().Unix()/2-1, 10) + ".ts"
	_, whole := get(t, segment)
	if response, body := get(t, segment, "Range", "bytes=188-375"); response.StatusCode != http.StatusPartialContent || body != whole[188:376] {
		t.Errorf("range: got %s and %d bytes", response.Status, len(body))
	}
	for path, want := range map[string]int64{segment: int64(len(whole)), origin + "/play/a/index.m3u8": -2} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, body := do(t, r)
		if response.StatusCode != http.StatusOK || body != "" || (want > 0 && response.ContentLength != want) {
			t.Errorf("HEAD %s: %s, length %d, %d bytes", path, response.Status, response.ContentLength, len(body))
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, segment, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, _ := do(t, r); response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s, Allow %q", response.Status, response.Header.Get("Allow"))
	}
}

func TestOrigin_Gzip_OnlyIfEnabledAndAccepted(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		on     bool
		accept string
		want   string
	}{
		"on and asked":     {true, "deflate, gzip", "gzip"},
		"on and not asked": {true, "identity", ""},
		"off":              {false, "gzip", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, origin := serveOrigin(t, Config{Gzip: test.on})
			response, body := get(t, origin+"/play/a/index.m3u8", "Accept-Encoding", test.accept)
			if got := response.Header.Get("Content-Encoding"); got != test.want {
				t.Fatalf("Content-Encoding: got %q, want %q", got, test.want)
			}
			if test.want == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				body = string(plain)
			}
			if !strings.HasPrefix(body, "#EXTM3U\n") {
				t.Fatalf("no playlist: %.40q", body)
			}
		})
	}
}
