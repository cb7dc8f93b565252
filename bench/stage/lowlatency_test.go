package stage

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTimelineLowLatencyPlaylist(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon, Window: 3, URIs: RootRelative})
	want := `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.000,CAN-SKIP-UNTIL=12.000
#EXT-X-PART-INF:PART-TARGET=0.200
#EXT-X-MEDIA-SEQUENCE:897544797
#EXT-X-MAP:URI="/ll/x/init.mp4"
`
	for n := 897544797; n < 897544800; n++ {
		second := 54 + 2*(n-897544797)
		want += "#EXT-X-PROGRAM-DATE-TIME:2026-11-19T11:59:" + strconv.Itoa(second) + ".000Z\n" + parts(n, 10) +
			"#EXTINF:2.000,\n/ll/x/" + strconv.Itoa(n) + ".m4s\n"
	}
	want += "#EXT-X-PROGRAM-DATE-TIME:2026-11-19T12:00:00.000Z\n" + parts(897544800, 7) +
		"#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"/ll/x/897544800.7.m4s\"\n"
	_, got := get(t, origin+"/ll/x/index.m3u8")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("playlist (-want +got):\n%s", diff)
	}
}

func parts(segment, count int) string {
	var b strings.Builder
	for i := range count {
		b.WriteString(`#EXT-X-PART:DURATION=0.200,URI="/ll/x/` + strconv.Itoa(segment) + "." + strconv.Itoa(i) + `.m4s"`)
		if i == 0 || i == 5 {
			b.WriteString(",INDEPENDENT=YES")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestTimelineLowLatencyPlaylist_DeltaUpdate(t *testing.T) {
	t.Parallel()
	// The end is 1.4 s into a segment, so the boundary lies at 12 - 1.4 s before the last complete segment's end:
	// of ten segments the first four are past it (8 s), the fifth is not.
	_, origin := serveOrigin(t, Config{Now: noon})
	_, full := get(t, origin+"/ll/x/index.m3u8")
	_, delta := get(t, origin+"/ll/x/index.m3u8?_HLS_skip=YES")
	head, rest, found := strings.Cut(delta, "#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n")
	if !found || strings.Contains(delta, "EXT-X-MAP") {
		t.Fatalf("no delta update that skips 4 segments:\n%s", delta)
	}
	if !strings.HasPrefix(full, head) || !strings.HasSuffix(full, rest) {
		t.Errorf("the delta update is not a part of the full playlist:\n%s", delta)
	}
	if got := strings.Count(full, "#EXTINF") - strings.Count(rest, "#EXTINF"); got != 4 {
		t.Errorf("%d segments are left out, want 4", got)
	}
}

func TestTimelineLowLatencyPlaylist_DeltaOfShortWindow_Full(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon, Window: 5})
	_, full := get(t, origin+"/ll/x/index.m3u8")
	if _, delta := get(t, origin+"/ll/x/index.m3u8?_HLS_skip=YES"); delta != full {
		t.Errorf("got\n%s", delta)
	}
}

// At noon segment 897544799 is the last complete one, and 897544800 has the parts 0 to 6.
func TestTimelineBlockedUntil(t *testing.T) {
	t.Parallel()
	const refused = -1
	tests := map[string]struct {
		query string
		want  time.Duration // from 12:00:01.5 on
	}{
		"nothing asked":                             {"", 0},
		"a segment of long ago":                     {"_HLS_msn=17", 0},
		"the last complete segment":                 {"_HLS_msn=897544799", 0},
		"a part that is there":                      {"_HLS_msn=897544800&_HLS_part=6", 0},
		"the part that is being made":               {"_HLS_msn=897544800&_HLS_part=7", 100 * time.Millisecond},
		"the part after that":                       {"_HLS_msn=897544800&_HLS_part=8", 300 * time.Millisecond},
		"the segment that is being made":            {"_HLS_msn=897544800", 500 * time.Millisecond},
		"a part past the end is the next's first":   {"_HLS_msn=897544800&_HLS_part=10", 700 * time.Millisecond},
		"and so is one far past it":                 {"_HLS_msn=897544800&_HLS_part=999", 700 * time.Millisecond},
		"the first part after the next segment":     {"_HLS_msn=897544801&_HLS_part=10", 2700 * time.Millisecond},
		"two segments after the last complete one":  {"_HLS_msn=897544801", 2500 * time.Millisecond},
		"three segments after it":                   {"_HLS_msn=897544802", refused},
		"a part without its segment":                {"_HLS_part=3", refused},
		"a segment that is no number":               {"_HLS_msn=x", refused},
		"a negative segment":                        {"_HLS_msn=-1", refused},
		"a part that is no number":                  {"_HLS_msn=897544800&_HLS_part=1.5", refused},
		"a number that would overflow the timeline": {"_HLS_msn=9223372036854775807", refused},
	}
	line := Config{}.timeline()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			query, err := url.ParseQuery(test.query)
			if err != nil {
				t.Fatal(err)
			}
			d, err := parseDirectives(query)
			until := noon()
			if err == nil {
				until, err = line.blockedUntil(d, noon())
			}
			if test.want == refused || err != nil {
				if (test.want == refused) != (err != nil) {
					t.Fatalf("got error %v", err)
				}
				return
			}
			if got := max(0, until.Sub(noon())); got != test.want {
				t.Errorf("answered after %s, want %s", got, test.want)
			}
		})
	}
}

// With segments of six seconds, noon is 1.5 s into segment 299181600, whose parts 0 to 6 are complete.
func TestTimelineBlockedUntil_BoundedAhead(t *testing.T) {
	t.Parallel()
	line := Config{SegmentDuration: 6 * time.Second}.timeline()
	until, err := line.blockedUntil(directives{blocking: true, segment: 299_181_600, part: 6 + 15}, noon())
	if want := 2900 * time.Millisecond; err != nil || until.Sub(noon()) != want {
		t.Errorf("fifteen parts ahead: held for %s, %v: want %s", until.Sub(noon()), err, want)
	}
	if _, err := line.blockedUntil(directives{blocking: true, segment: 299_181_600, part: 6 + 16}, noon()); err == nil {
		t.Error("sixteen parts ahead: not refused")
	}
}

// serveInBubble serves one request without a network, so that the clock is that of the synctest bubble.
func serveInBubble(t *testing.T, o *Origin, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	o.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

func TestOrigin_BlockingReload_WaitsForPart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := NewOrigin(Config{})
		began := time.Now()
		segment := strconv.FormatInt(began.Unix()/2, 10)
		w := serveInBubble(t, o, "/ll/x/index.m3u8?_HLS_msn="+segment+"&_HLS_part=3")
		if got := time.Since(began); got != 800*time.Millisecond {
			t.Errorf("answered after %s, want 800ms", got)
		}
		if !strings.Contains(w.Body.String(), `URI="`+segment+`.3.m4s"`) || strings.Contains(w.Body.String(), `PART:DURATION=0.200,URI="`+segment+`.4.m4s"`) {
			t.Errorf("the playlist does not end with part 3:\n%s", w.Body)
		}
	})
}

func TestOrigin_BlockingReload_StoppedClock_503(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped, began := noon(), time.Now()
		o := NewOrigin(Config{Now: func() time.Time { return stopped }})
		w := serveInBubble(t, o, "/ll/x/index.m3u8?_HLS_msn=897544800")
		if got := time.Since(began); w.Code != 503 || got != 6*time.Second {
			t.Errorf("got %d after %s, want 503 after three target durations", w.Code, got)
		}
	})
}

func TestOrigin_BlockingReload_TooFarAhead_Refused(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon})
	for _, query := range []string{"_HLS_msn=897544802", "_HLS_part=1", "_HLS_msn=x"} {
		if response, _ := get(t, origin+"/ll/x/index.m3u8?"+query); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", query, response.StatusCode)
		}
	}
}

// gate is a clock that a test advances.
type gate struct {
	times chan time.Time
	now   time.Time
}

func (g *gate) Now() time.Time {
	select {
	case g.now = <-g.times:
	default:
	}
	return g.now
}

func TestOrigin_HintedPart_Streamed(t *testing.T) {
	t.Parallel()
	g := &gate{times: make(chan time.Time, 1), now: noon()}
	_, origin := serveOrigin(t, Config{Now: g.Now})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, origin+"/ll/x/897544800.7.m4s", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	// The part stays incomplete because the origin's clock is stopped. Its first bytes arrive anyway.
	body := bufio.NewReader(response.Body)
	first, err := body.Peek(8)
	if err != nil || string(first[4:]) != "moof" {
		t.Fatalf("first bytes: %q, %v", first, err)
	}
	g.times <- noon().Add(time.Second)
	early, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	_, late := get(t, origin+"/ll/x/897544800.7.m4s")
	if string(early) != late {
		t.Errorf("%d bytes while it was made, %d bytes after: they differ", len(early), len(late))
	}
}

func TestOrigin_PartsEqualSegment(t *testing.T) {
	t.Parallel()
	_, origin := serveOrigin(t, Config{Now: noon})
	_, segment := get(t, origin+"/ll/x/897544799.m4s")
	var joined strings.Builder
	for i := range 10 {
		response, part := get(t, origin+"/ll/x/897544799."+strconv.Itoa(i)+".m4s")
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "video/mp4" {
			t.Fatalf("part %d: %s, %q", i, response.Status, response.Header.Get("Content-Type"))
		}
		joined.WriteString(part)
	}
	if joined.String() != segment {
		t.Errorf("parts of %d bytes, segment of %d: they differ", joined.Len(), len(segment))
	}
}

func TestOrigin_IncompletePart_BreaksConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stopped := noon()
		o := NewOrigin(Config{Now: func() time.Time { return stopped }})
		defer func() {
			if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("panicked with %v, want http.ErrAbortHandler", err)
			}
		}()
		serveInBubble(t, o, "/ll/x/897544800.7.m4s")
	})
}

// FuzzDirectives checks that any query is answered within the limit or rejected.
func FuzzDirectives(f *testing.F) {
	f.Add("_HLS_msn=897544800&_HLS_part=7&_HLS_skip=YES")
	f.Add("_HLS_part=1")
	f.Add("_HLS_msn=281474976710655&_HLS_part=281474976710655")
	line := Config{}.timeline()
	f.Fuzz(func(t *testing.T, raw string) {
		query, _ := url.ParseQuery(raw)
		d, err := parseDirectives(query)
		if err != nil {
			return
		}
		until, err := line.blockedUntil(d, noon())
		if err == nil && until.Sub(noon()) > 3*line.segmentDuration {
			t.Fatalf("%q is held for %s", raw, until.Sub(noon()))
		}
	})
}
