package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const lowLatencyPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n" +
	"#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:4,\nseg-17.ts\n#EXT-X-PART:DURATION=0.5,URI=\"part-18.0.ts\"\n"

func TestDirectives(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ query, want string }{
		"a blocking reload":       {"token=1&_HLS_msn=18&_HLS_part=1", "_HLS_msn=18&_HLS_part=1"},
		"in another order":        {"_HLS_part=1&token=1&_HLS_msn=18", "_HLS_msn=18&_HLS_part=1"},
		"a delta update":          {"token=1&_HLS_skip=YES&_HLS_msn=18", "_HLS_msn=18&_HLS_skip=YES"},
		"a delta update, second":  {"token=1&_HLS_skip=v2", "_HLS_skip=v2"},
		"OvenMediaEngine's":       {"token=1&_HLS_legacy=YES&_HLS_rewind=NO", "_HLS_legacy=YES&_HLS_rewind=NO"},
		"the same twice":          {"token=1&_HLS_msn=18&_HLS_msn=18", "_HLS_msn=18"},
		"two numbers":             {"token=1&_HLS_msn=19&_HLS_msn=18", "_HLS_msn=18"},
		"none":                    {"token=1", ""},
		"an unknown one":          {"token=1&_HLS_random=7&_HLS_msn=18", "_HLS_msn=18"},
		"a number that is none":   {"token=1&_HLS_msn=18x&_HLS_part=-1", ""},
		"an endless number":       {"token=1&_HLS_msn=99999999999", ""},
		"an empty number":         {"token=1&_HLS_msn=&_HLS_part", ""},
		"a made up value":         {"token=1&_HLS_skip=yes&_HLS_legacy=7", ""},
		"a name in another shape": {"token=1&%5FHLS_msn=18&_hls_msn=18", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.upstream.Files["/play/a001/index.m3u8"] = lowLatencyPlaylist
			g.want(t, 200, "/play/a001/index.m3u8?"+tc.query)
			want := "/play/a001/index.m3u8"
			if tc.want != "" {
				want += "?" + tc.want
			}
			if diff := cmp.Diff([]string{want}, g.upstream.RequestURIs()); diff != "" {
				t.Errorf("the origin was asked for (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServe_Reloads_BoundByTheLastVersion asks for one playlist by many numbers, with nothing cached before.
func TestServe_Reloads_BoundByTheLastVersion(t *testing.T) {
	t.Parallel()
	numbers := func(format string, first int) (all []string) {
		for i := range 20 {
			all = append(all, fmt.Sprintf(format, first+i))
		}
		return all
	}
	first := "_HLS_msn=18&_HLS_part=1"
	for name, tc := range map[string]struct {
		playlist string
		queries  []string
		want     []string // the directives that reach the origin
	}{
		"it offers no reloads":              {mediaPlaylist, numbers("_HLS_msn=%d", 19), []string{"_HLS_msn=19"}},
		"nor delta updates":                 {mediaPlaylist, numbers("_HLS_skip=YES&_HLS_msn=%d", 19), []string{"_HLS_msn=19&_HLS_skip=YES", "_HLS_skip=YES"}},
		"far ahead":                         {lowLatencyPlaylist, append([]string{first}, numbers("_HLS_msn=%d", 1_000_000)...), []string{first}},
		"the highest numbers":               {lowLatencyPlaylist, []string{first, "_HLS_msn=9999999999", "_HLS_msn=18&_HLS_part=9999999999"}, []string{first}},
		"parts without end":                 {lowLatencyPlaylist, append([]string{first}, numbers("_HLS_msn=18&_HLS_part=%d", 1000)...), []string{first}},
		"what is listed":                    {lowLatencyPlaylist, append([]string{first}, append(numbers("_HLS_msn=%d", -3), "_HLS_msn=18&_HLS_part=0")...), []string{first}},
		"the next part, and the one behind": {lowLatencyPlaylist, []string{first, "_HLS_msn=18&_HLS_part=2", "_HLS_msn=19&_HLS_part=0"}, []string{first, "_HLS_msn=18&_HLS_part=2", "_HLS_msn=19&_HLS_part=0"}},
		"the next segments":                 {lowLatencyPlaylist, []string{first, "_HLS_msn=18", "_HLS_msn=19"}, []string{first, "_HLS_msn=18", "_HLS_msn=19"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.upstream.Files["/play/a001/index.m3u8"] = tc.playlist
			ticket := g.ticket(t, "a001")
			for _, query := range tc.queries {
				g.want(t, 200, "/~"+ticket+"/play/a001/index.m3u8?"+query)
			}
			var got []string
			for _, uri := range g.upstream.RequestURIs() {
				if _, query, _ := strings.Cut(uri, "?"); query != "" && !slices.Contains(got, query) { // without, or again: after it was fresh
					got = append(got, query)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("the origin was asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServe_IdenticalBlockingReloads_ShareOneFetch(t *testing.T) {
	t.Parallel()
	const viewers = 100
	g := newTestGateway(t, nil)
	arrived, release := make(chan struct{}, viewers), make(chan struct{})
	g.upstream.Answer = func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = w.Write([]byte(lowLatencyPlaylist))
	}
	ticket := g.ticket(t, "a001")
	var all sync.WaitGroup
	for i := range viewers {
		query := "_HLS_msn=18&_HLS_part=1"
		if i%2 == 0 {
			query = "_HLS_part=1&_HLS_msn=18"
		}
		all.Go(func() {
			if got := g.get(t, "/~"+ticket+"/play/a001/index.m3u8?"+query); got.status != 200 || got.body != lowLatencyPlaylist {
				t.Errorf("reload: got %d %q", got.status, got.body)
			}
		})
	}
	<-arrived
	waitFor(t, "all others share the one request", func() bool { return g.options.Origins["o"].Stats().Coalesced == viewers-1 })
	close(release)
	all.Wait()
	if asked := g.upstream.RequestURIs(); len(asked) != 1 {
		t.Errorf("the origin was asked %d times, want once: %q", len(asked), asked)
	}
}
