package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

const lowLatencyPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n" +
	"#EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:4,\nseg-17.ts\n#EXT-X-PART:DURATION=0.5,URI=\"part-18.0.ts\"\n"

func TestDirectives(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"token=1&_HLS_msn=18&_HLS_part=1":        "_HLS_msn=18&_HLS_part=1",
		"_HLS_part=1&token=1&_HLS_msn=18":        "_HLS_msn=18&_HLS_part=1",
		"token=1&_HLS_skip=YES&_HLS_msn=18":      "_HLS_msn=18&_HLS_skip=YES",
		"token=1&_HLS_skip=v2":                   "_HLS_skip=v2",
		"token=1&_HLS_legacy=YES&_HLS_rewind=NO": "_HLS_legacy=YES&_HLS_rewind=NO", // OvenMediaEngine's
		"token=1&_HLS_msn=18&_HLS_msn=18":        "_HLS_msn=18",
		"token=1&_HLS_msn=19&_HLS_msn=18":        "_HLS_msn=18",
		"token=1":                                "",
		"token=1&_HLS_random=7&_HLS_msn=18":      "_HLS_msn=18",
		"_HLS_primary_id=7&_HLS_msn=18":          "_HLS_msn=18", // of each viewer
		"token=1&_HLS_msn=18x&_HLS_part=-1":      "",
		"token=1&_HLS_msn=99999999999":           "",
		"token=1&_HLS_msn=&_HLS_part":            "",
		"token=1&_HLS_skip=yes&_HLS_legacy=7":    "",
		"token=1&%5FHLS_msn=18&_hls_msn=18":      "",
	} {
		if got := directives(query); got != want {
			t.Errorf("directives(%q): got %q, want %q", query, got, want)
		}
	}
}

// deltaPlaylist offers delta updates, and no parts.
const deltaPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=24\n" +
	"#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:4,\nseg-17.ts\n"

// TestServe_Reloads_BoundByTheLastVersion asks for one playlist by many numbers. They reach the origin as far as its last version lets
// expect that it waits.
func TestServe_Reloads_BoundByTheLastVersion(t *testing.T) {
	t.Parallel()
	numbers := func(format string, first int) (all []string) {
		for i := range 20 {
			all = append(all, fmt.Sprintf(format, first+i))
		}
		return all
	}
	for name, tc := range map[string]struct {
		playlist string
		isNew    bool // nothing is known of it
		queries  []string
		want     []string // the directives that reach the origin
	}{
		"it is not known":                   {lowLatencyPlaylist, true, []string{"_HLS_msn=18&_HLS_part=1"}, nil},
		"nor are delta updates":             {deltaPlaylist, true, []string{"_HLS_msn=18&_HLS_skip=YES"}, nil},
		"it offers no reloads":              {mediaPlaylist, false, numbers("_HLS_msn=%d", 19), nil},
		"nor delta updates":                 {mediaPlaylist, false, numbers("_HLS_skip=YES&_HLS_msn=%d", 19), nil},
		"it is complete":                    {lowLatencyPlaylist + "#EXT-X-ENDLIST\n", false, numbers("_HLS_msn=%d", 18), nil},
		"far ahead":                         {lowLatencyPlaylist, false, append(numbers("_HLS_msn=%d", 20), numbers("_HLS_msn=%d", 1_000_000)...), nil},
		"the highest numbers":               {lowLatencyPlaylist, false, []string{"_HLS_msn=9999999999", "_HLS_msn=18&_HLS_part=9999999999"}, nil},
		"parts without end":                 {lowLatencyPlaylist, false, numbers("_HLS_msn=18&_HLS_part=%d", 12), nil},
		"parts without a segment":           {lowLatencyPlaylist, false, numbers("_HLS_part=%d", 0), nil},
		"what is listed":                    {lowLatencyPlaylist, false, append(numbers("_HLS_msn=%d", -3), "_HLS_msn=18&_HLS_part=0"), []string{"_HLS_msn=18&_HLS_part=0"}},
		"segments that are listed":          {deltaPlaylist, false, numbers("_HLS_msn=%d", -2), []string{"_HLS_msn=17"}},
		"the next part, and the one behind": {lowLatencyPlaylist, false, []string{"_HLS_msn=18&_HLS_part=1", "_HLS_msn=18&_HLS_part=2", "_HLS_msn=19&_HLS_part=0"}, []string{"_HLS_msn=18&_HLS_part=1", "_HLS_msn=18&_HLS_part=2", "_HLS_msn=19&_HLS_part=0"}},
		"the last parts of segments":        {lowLatencyPlaylist, false, []string{"_HLS_msn=18&_HLS_part=7", "_HLS_msn=19&_HLS_part=7"}, []string{"_HLS_msn=18&_HLS_part=7", "_HLS_msn=19&_HLS_part=7"}},
		"more parts than their target lets expect": {
			strings.Replace(lowLatencyPlaylist, "#EXT-X-PART:DURATION=0.5", strings.Repeat("#EXT-X-PART:DURATION=0.25,URI=\"p.ts\"\n", 11)+"#EXT-X-PART:DURATION=0.25", 1),
			false, numbers("_HLS_msn=18&_HLS_part=%d", 12),
			[]string{"_HLS_msn=18&_HLS_part=12"},
		},
		"the next segments": {lowLatencyPlaylist, false, []string{"_HLS_msn=18", "_HLS_msn=19"}, []string{"_HLS_msn=18", "_HLS_msn=19"}},
		"in other figures":  {lowLatencyPlaylist, false, []string{"_HLS_msn=018&_HLS_part=001", "_HLS_msn=0018&_HLS_part=1"}, []string{"_HLS_msn=18&_HLS_part=1"}},
		"delta updates":     {deltaPlaylist, false, []string{"_HLS_msn=18&_HLS_skip=YES", "_HLS_skip=v2&_HLS_msn=19", "_HLS_skip=YES"}, []string{"_HLS_msn=18&_HLS_skip=YES", "_HLS_msn=19&_HLS_skip=v2", "_HLS_skip=YES"}},
		"another playlist":  {lowLatencyPlaylist, false, numbers("_HLS_legacy=YES&_HLS_rewind=NO&_HLS_msn=%d", 18), []string{"_HLS_legacy=YES&_HLS_rewind=NO"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newTestGateway(t, nil)
			g.upstream.Files["/play/a001/index.m3u8"] = tc.playlist
			ticket := g.ticket(t, "a001")
			if !tc.isNew {
				g.want(t, 200, "/~"+ticket+"/play/a001/index.m3u8")
			}
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

// TestServe_DirectivesOfAReference_Bounded reloads a playlist whose URI was listed with directives that choose it: the origin gets those,
// and waits for what it has told of this playlist.
func TestServe_DirectivesOfAReference_Bounded(t *testing.T) {
	t.Parallel()
	g := newTestGateway(t, nil)
	g.upstream.Files["/play/a001/index.m3u8"] = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8?s=1&_HLS_rewind=YES\n"
	g.upstream.Files["/play/a001/low.m3u8"] = lowLatencyPlaylist
	uri, _, _ := strings.Cut(uris(g.want(t, 200, "/play/a001/index.m3u8").body)[0], "?")
	for _, query := range []string{"&_HLS_msn=18", "", "&_HLS_msn=18&_HLS_part=1", "&_HLS_msn=99"} {
		g.want(t, 200, uri+"?s=1&_HLS_rewind=YES"+query)
	}
	var got []string
	for _, asked := range g.upstream.RequestURIs()[1:] {
		if !slices.Contains(got, asked) {
			got = append(got, asked)
		}
	}
	const want = "/play/a001/low.m3u8?s=1&_HLS_rewind=YES"
	if diff := cmp.Diff([]string{want, want + "&_HLS_msn=18&_HLS_part=1"}, got); diff != "" {
		t.Errorf("the origin was asked for (-want +got):\n%s", diff)
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
	first := make(chan struct{})
	go func() {
		defer close(first)
		g.get(t, "/~"+ticket+"/play/a001/index.m3u8")
	}()
	<-arrived
	release <- struct{}{}
	<-first
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
	if asked := g.upstream.RequestURIs()[1:]; len(asked) != 1 {
		t.Errorf("the origin was asked %d times, want once: %q", len(asked), asked)
	}
}

// blockingOrigin is a low-latency origin as RFC 8216bis describes it, with segments of a second: it holds a reload until it has the
// version, and refuses what is too far ahead.
type blockingOrigin struct {
	start time.Time
	// partsPerSegment is zero for a playlist of whole segments.
	partsPerSegment int
	// canSkip has it offer delta updates.
	canSkip bool
	// delay is how long each response takes besides.
	delay time.Duration

	mu      sync.Mutex
	queries []string // of all requests
	held    int      // now
	maxHeld int
}

// version returns the number of the first segment that is not whole yet, and how many of its parts are.
func (o *blockingOrigin) version() (sequence, parts int) {
	passed := time.Since(o.start)
	return 100 + int(passed/time.Second), int(passed % time.Second * time.Duration(o.partsPerSegment) / time.Second)
}

func (o *blockingOrigin) count(query string, held int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if held >= 0 {
		o.queries = append(o.queries, query)
	}
	o.held += held
	o.maxHeld = max(o.maxHeld, o.held)
}

func (o *blockingOrigin) respond(r *http.Request) (*http.Response, error) {
	time.Sleep(o.delay)
	q := r.URL.Query()
	wanted, err := strconv.Atoi(q.Get("_HLS_msn"))
	if err != nil {
		o.count(r.URL.RawQuery, 0)
	} else {
		o.count(r.URL.RawQuery, 1)
		defer o.count("", -1)
		if next, _ := o.version(); wanted > next+1 {
			resp := gatewaytest.OriginResponse(r, 0, strings.NewReader(""))
			resp.StatusCode = http.StatusBadRequest
			return resp, nil
		}
		part, err := strconv.Atoi(q.Get("_HLS_part"))
		for sequence, parts := o.version(); sequence < wanted || sequence == wanted && (err != nil || parts <= part); sequence, parts = o.version() {
			select {
			case <-time.After(time.Millisecond):
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
	}
	list := o.playlist(q.Get("_HLS_skip") != "")
	return gatewaytest.OriginResponse(r, int64(len(list)), strings.NewReader(list)), nil
}

// playlist returns the last twenty segments, of which a delta update skips ten.
func (o *blockingOrigin) playlist(isDelta bool) string {
	next, parts := o.version()
	first := next - 20
	control := "CAN-BLOCK-RELOAD=YES"
	if o.canSkip {
		control += ",CAN-SKIP-UNTIL=6"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-SERVER-CONTROL:%s\n#EXT-X-MEDIA-SEQUENCE:%d\n", control, first)
	if o.partsPerSegment > 0 {
		fmt.Fprintf(&b, "#EXT-X-PART-INF:PART-TARGET=%g\n", 1/float64(o.partsPerSegment))
	}
	if isDelta && o.canSkip {
		b.WriteString("#EXT-X-SKIP:SKIPPED-SEGMENTS=10\n")
		first += 10
	}
	for ; first < next; first++ {
		fmt.Fprintf(&b, "#EXTINF:1,\nseg-%d.ts\n", first)
	}
	for part := range parts {
		fmt.Fprintf(&b, "#EXT-X-PART:DURATION=0.25,URI=\"part-%d.%d.ts\"\n", next, part)
	}
	return b.String()
}

// reload gets a playlist and returns the version that it is: the number of the first segment that is not whole, and how many of its
// parts are.
func (n *memoryServer) reload(t *testing.T, query string) (sequence uint64, parts int) {
	t.Helper()
	resp, err := n.Client(t).Get("http://tv/~" + n.ticket + "/play/a001/index.m3u8?" + query)
	if err != nil {
		t.Errorf("%s: %v", query, err)
		return 0, 0
	}
	defer resp.Body.Close()
	body, errBody := io.ReadAll(resp.Body)
	info, err := hls.Scan(body)
	if errBody != nil || err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: got %d %q, %v, %v", query, resp.StatusCode, body, errBody, err)
	}
	return info.Next()
}

// TestServe_Reloads_WaitForTheNextVersion has a player ask for the next version again and again, as hls.js and AVPlayer do: by delta
// updates alone, if the origin offers them.
func TestServe_Reloads_WaitForTheNextVersion(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string]int{"segments": 0, "parts": 4} {
		for skip, canSkip := range map[string]bool{"": false, "&_HLS_skip=YES": true} {
			t.Run(name+skip, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					o := &blockingOrigin{start: time.Now(), partsPerSegment: parts, canSkip: canSkip}
					node := newMemoryServer(t, nil, o.respond)
					sequence, part := node.reload(t, "")
					for i := range 120 {
						if i == 60 {
							advance(10 * time.Minute) // nobody watches
						}
						query := fmt.Sprintf("_HLS_msn=%d", sequence)
						if parts > 0 {
							query += fmt.Sprintf("&_HLS_part=%d", part)
						}
						wantSequence, wantPart := sequence, part
						sequence, part = node.reload(t, query+skip)
						if isListed := sequence > wantSequence || parts > 0 && sequence == wantSequence && part > wantPart; !isListed {
							t.Fatalf("reload %d: asked for %d.%d, got what comes before %d.%d", i, wantSequence, wantPart, sequence, part)
						}
					}
				})
			})
		}
	}
}

// TestServe_LateReloads_ShareTheNewestVersion has players ask for versions that others got as delta updates. The answers list them, also
// where an older playlist is cached, and most are one response of the origin.
func TestServe_LateReloads_ShareTheNewestVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &blockingOrigin{start: time.Now(), canSkip: true}
		node := newMemoryServer(t, nil, o.respond)
		node.reload(t, "")
		advance(900 * time.Millisecond)
		node.reload(t, "") // fresh for half a second
		if sequence, _ := node.reload(t, "_HLS_msn=100&_HLS_skip=YES"); sequence != 101 {
			t.Fatalf("the next version: got what comes before %d, want before 101", sequence)
		}
		before := len(o.queries)
		for late := range 20 {
			for _, skip := range []string{"", "&_HLS_skip=YES"} {
				if sequence, _ := node.reload(t, fmt.Sprintf("_HLS_msn=%d%s", 100-late, skip)); sequence != 101 {
					t.Errorf("segment %d%s: got what comes before %d, want before 101", 100-late, skip, sequence)
				}
			}
		}
		if diff := cmp.Diff([]string{"_HLS_msn=100"}, o.queries[before:]); diff != "" {
			t.Errorf("the origin was asked for (-want +got):\n%s", diff)
		}
	})
}

// TestServe_Reloads_OfOneViewer_LeaveConnections has a viewer ask for all that a reload may be for, at once and with the directives of
// OvenMediaEngine. The origin holds a few of them, and there is always room for players.
func TestServe_Reloads_OfOneViewer_LeaveConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &blockingOrigin{start: time.Now(), partsPerSegment: 4, canSkip: true}
		node := newMemoryServer(t, nil, o.respond)
		node.reload(t, "")
		var all sync.WaitGroup
		for _, number := range []int{101, 100, 102, 1000} {
			for part := range 30 {
				for _, skip := range []string{"", "&_HLS_skip=YES", "&_HLS_skip=v2"} {
					for _, other := range []string{"", "&_HLS_legacy=NO", "&_HLS_legacy=YES", "&_HLS_rewind=NO"} {
						all.Go(func() { node.reload(t, fmt.Sprintf("_HLS_msn=%d&_HLS_part=%d%s%s", number, part, skip, other)) })
					}
				}
			}
		}
		synctest.Wait()
		for range 8 { // a player all the while
			sequence, part := o.version()
			if got, parts := node.reload(t, fmt.Sprintf("_HLS_msn=%d&_HLS_part=%d", sequence, part)); got == uint64(sequence) && parts <= part {
				t.Errorf("the player asked for %d.%d, got what comes before %d.%d", sequence, part, got, parts)
			}
		}
		all.Wait()
		if o.maxHeld > 2*maxHeld {
			t.Errorf("the origin held %d reloads at once, want at most %d", o.maxHeld, 2*maxHeld)
		}
	})
}

// TestServe_Reloads_OfChosenPlaylists_LeaveConnections has a viewer reload any number of playlists: those that a parameter of the origin's
// chooses, and spellings of one path.
func TestServe_Reloads_OfChosenPlaylists_LeaveConnections(t *testing.T) {
	t.Parallel()
	for name, choose := range map[string]func(i int) (path, query string){
		"by a parameter": func(i int) (string, string) { return "index.m3u8", fmt.Sprintf("region=%d&", i) },
		"by slashes":     func(i int) (string, string) { return strings.Repeat("/", i) + "index.m3u8", "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &blockingOrigin{start: time.Now(), partsPerSegment: 4}
				node := newMemoryServer(t, func(c *Config) { c.Routes[0].ForwardQuery = []string{"region"} }, o.respond)
				var all sync.WaitGroup
				for i := range 30 {
					path, query := choose(i)
					at := "http://tv/~" + node.ticket + "/play/a001/" + path + "?" + query
					for _, reload := range []string{"", "_HLS_msn=100&_HLS_part=0", "_HLS_msn=100&_HLS_part=1"} {
						get := func() {
							resp, err := node.Client(t).Get(at + reload)
							if err != nil {
								t.Error(err)
								return
							}
							_ = resp.Body.Close()
						}
						if reload == "" {
							get() // so that the playlist is known
							continue
						}
						all.Go(get)
					}
				}
				all.Wait()
				if o.maxHeld == 0 || o.maxHeld > 2*maxHeld {
					t.Errorf("the origin held %d reloads at once, want at most %d", o.maxHeld, 2*maxHeld)
				}
			})
		})
	}
}

// TestServe_Reloads_OfChosenPlaylists_ByAgents has one address reload any number of playlists, as viewers whom only their User-Agent tells
// apart. Another address still has its reload held.
func TestServe_Reloads_OfChosenPlaylists_ByAgents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &blockingOrigin{start: time.Now(), partsPerSegment: 4}
		c := testConfig("http://origin.example.com")
		c.Routes[0].Credentials, c.Routes[0].ForwardQuery, c.Routes[0].IdentityFields = []string{"token"}, []string{"region"}, []string{"user_agent"}
		g, _ := newBareGateway(t, c, origin.WithTransport(gatewaytest.OriginFunc(o.respond)))
		get := func(address, agent, query string) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/play/a001/index.m3u8?"+query, nil)
			r.RemoteAddr = address + ":1234"
			r.Header.Set("User-Agent", agent)
			req, resp := newTestRequest(r), &Response{}
			defer resp.Reset()
			if err := g.Serve(t.Context(), &req, resp); err != nil || resp.Status != http.StatusOK {
				t.Errorf("%s: got %d, %v", query, resp.Status, err)
			}
		}
		var all sync.WaitGroup
		reload := func(address string, agent, region int) {
			query := fmt.Sprintf("region=%d-%d", agent, region)
			get(address, fmt.Sprint(agent), query) // so that the playlist is known
			all.Go(func() { get(address, fmt.Sprint(agent), query+"&_HLS_msn=100&_HLS_part=0") })
		}
		for agent := range 20 {
			for region := range 2 * maxHeld {
				reload("192.0.2.1", agent, region)
			}
		}
		synctest.Wait()
		held := origin.DefaultConfig().Fetch.MaxConns / 4
		if o.maxHeld != held {
			t.Errorf("the origin held %d reloads at once, want %d", o.maxHeld, held)
		}
		reload("192.0.2.2", 100, 0)
		all.Wait()
		if o.maxHeld != held+1 {
			t.Errorf("with another address it held %d reloads at once, want one more", o.maxHeld)
		}
	})
}

// TestServe_Documents_OfOneViewer_LeaveConnections has a viewer tell a steering server any number of throughputs at once.
func TestServe_Documents_OfOneViewer_LeaveConnections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked, askedAtOnce atomic.Int32
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			body := "#EXTM3U\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steer\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"
			if strings.HasSuffix(r.URL.Path, "steer") {
				body = "{}"
			}
			if r.URL.RawQuery != "" {
				asked.Add(1)
				advance(time.Second)
				askedAtOnce.Store(max(askedAtOnce.Load(), asked.Load()))
				asked.Add(-1)
			}
			return gatewaytest.OriginResponse(r, int64(len(body)), strings.NewReader(body)), nil
		})
		at := &url.URL{Scheme: "http", Host: "tv", Path: "/~" + node.ticket + "/play/a001/index.m3u8"}
		_, uri, _ := strings.Cut(getFrom(t, node, at), `SERVER-URI="`)
		uri, _, _ = strings.Cut(uri, `"`)
		at = resolve(t, at, uri)
		var all sync.WaitGroup
		for i := range 50 {
			of := *at
			of.RawQuery = fmt.Sprintf("_HLS_throughput=%d", i)
			all.Go(func() {
				if got := getFrom(t, node, &of); got != "{}" {
					t.Errorf("got %q", got)
				}
			})
		}
		all.Wait()
		if got := askedAtOnce.Load(); got == 0 || got > maxHeld {
			t.Errorf("the steering server was told %d throughputs at once, want at most %d", got, maxHeld)
		}
	})
}

// TestServe_ReloadsOfTheUnknown_AnsweredAtOnce asks for numbers that the origin refuses, where nothing is known of the playlist.
func TestServe_ReloadsOfTheUnknown_AnsweredAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &blockingOrigin{start: time.Now()}
		node := newMemoryServer(t, nil, o.respond)
		for i := range 20 {
			node.reload(t, fmt.Sprintf("_HLS_msn=%d", 1000+i))
		}
		if diff := cmp.Diff([]string{""}, o.queries); diff != "" {
			t.Errorf("the origin was asked for (-want +got):\n%s", diff)
		}
	})
}

// TestServe_LateReloads_StaleIfTheOriginFails asks for what is listed while the origin is down. Of what comes next there is no copy.
func TestServe_LateReloads_StaleIfTheOriginFails(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]int{
		"_HLS_msn=17":             http.StatusOK,
		"_HLS_msn=18&_HLS_part=0": http.StatusOK,
		"_HLS_skip=YES":           http.StatusOK,
		"_HLS_msn=18&_HLS_part=1": http.StatusBadGateway,
		"_HLS_msn=19":             http.StatusBadGateway,
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var isDown atomic.Bool
				list := strings.Replace(lowLatencyPlaylist, "YES,", "YES,CAN-SKIP-UNTIL=24,", 1)
				node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
					if isDown.Load() {
						return nil, io.ErrUnexpectedEOF
					}
					return gatewaytest.OriginResponse(r, int64(len(list)), strings.NewReader(list)), nil
				})
				node.getRange(t, "index.m3u8", "")
				advance(time.Second)
				isDown.Store(true)
				status, body := node.getRange(t, "index.m3u8?"+query, "")
				if status != want || status == http.StatusOK && string(body) != list {
					t.Errorf("got %d %q, want %d", status, body, want)
				}
			})
		})
	}
}

// TestServe_LateReloads_StaleIfTheOriginHangs asks for what is listed while the origin does not answer. Those who come later need not wait
// for it.
func TestServe_LateReloads_StaleIfTheOriginHangs(t *testing.T) {
	t.Parallel()
	const target = 4 * time.Second
	for name, test := range map[string]struct {
		known time.Duration   // how old the copy is
		waits []time.Duration // of one reload after another
	}{
		"until the response timeout": {time.Second, []time.Duration{origin.DefaultConfig().Fetch.ResponseTimeout, 0}},
		"until the copy expires":     {5 * time.Second, []time.Duration{3*target - 5*time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hangs atomic.Bool
				node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
					if hangs.Load() {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return gatewaytest.OriginResponse(r, int64(len(lowLatencyPlaylist)), strings.NewReader(lowLatencyPlaylist)), nil
				})
				node.getRange(t, "index.m3u8", "")
				advance(test.known)
				hangs.Store(true)
				for _, want := range test.waits {
					start := time.Now()
					status, body := node.getRange(t, "index.m3u8?_HLS_msn=17", "")
					if status != http.StatusOK || string(body) != lowLatencyPlaylist || time.Since(start) != want {
						t.Errorf("got %d %q after %v, want the playlist after %v", status, body, time.Since(start), want)
					}
				}
			})
		})
	}
}

// TestServe_LateReloads_SlowOrigin asks for what is listed while the origin is slow. The copy without directives is of before it, because
// players have got delta updates since.
func TestServe_LateReloads_SlowOrigin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &blockingOrigin{start: time.Now(), canSkip: true}
		node := newMemoryServer(t, nil, o.respond)
		sequence, _ := node.reload(t, "")
		for range 3 {
			advance(500 * time.Millisecond)
			sequence, _ = node.reload(t, "_HLS_skip=YES")
		}
		o.delay = 1400 * time.Millisecond // less than the copy may be served for
		if got, _ := node.reload(t, fmt.Sprintf("_HLS_msn=%d&_HLS_skip=YES", sequence-1)); got < sequence {
			t.Errorf("got what comes before %d, want before %d", got, sequence)
		}
	})
}

// TestServe_Reloads_AfterTheNumbersBeganAnew has a packager restart while a player waits for its next version, which it refuses from then
// on: it is too far ahead.
func TestServe_Reloads_AfterTheNumbersBeganAnew(t *testing.T) {
	t.Parallel()
	for _, skip := range []string{"", "&_HLS_skip=YES"} {
		t.Run(skip, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &blockingOrigin{start: time.Now(), canSkip: true}
				node := newMemoryServer(t, nil, o.respond)
				sequence, _ := node.reload(t, "")
				for range 20 {
					sequence, _ = node.reload(t, fmt.Sprintf("_HLS_msn=%d%s", sequence, skip))
				}
				o.start = time.Now()
				for range 20 {
					advance(100 * time.Millisecond)
					sequence, _ = node.reload(t, fmt.Sprintf("_HLS_msn=%d%s", sequence, skip))
				}
				if latest, _ := o.version(); sequence != uint64(latest) {
					t.Errorf("the player is at %d, the packager at %d", sequence, latest)
				}
			})
		})
	}
}
