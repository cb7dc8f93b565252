package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/gatewaytest"
	"usher/gateway/hls"
)

// ring is a live origin that states no lifetimes and uses names again. Segment n is published n target durations after the
// start.
type ring struct {
	// names is how many names the segments have; zero: each has its own. keyNames counts those of the keys, which change with
	// every third segment; zero: there are none.
	names, keyNames int
	mark            string // in each name, before the number
	listed          int
	target          time.Duration
	hasETag         bool
	isComplete      bool // the playlist is that of the start, for good

	start           time.Time
	full, unchanged atomic.Int32 // answers with media, and with 304
}

func (o *ring) name(kind string, n, names int) string {
	if names > 0 {
		n %= names
	}
	return kind + o.mark + strconv.Itoa(n)
}

// published returns the number of the newest segment.
func (o *ring) published() int {
	if o.isComplete {
		return o.listed - 1
	}
	return int(time.Since(o.start) / o.target)
}

func (o *ring) playlist() string {
	var b strings.Builder
	last := o.published()
	first := max(0, last-o.listed+1)
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-TARGETDURATION:%d\n#EXT-X-MEDIA-SEQUENCE:%d\n", int(o.target.Seconds()), first)
	for n := first; n <= last; n++ {
		if o.keyNames > 0 && (n == first || n%3 == 0) {
			fmt.Fprintf(&b, "#EXT-X-KEY:METHOD=AES-128,URI=\"%s.key\",IV=0x%032x\n", o.name("key", n/3, o.keyNames), n/3)
		}
		fmt.Fprintf(&b, "#EXTINF:%d,\n%s.ts\n", int(o.target.Seconds()), o.name("seg", n, o.names))
	}
	if o.isComplete {
		b.WriteString("#EXT-X-ENDLIST\n")
	}
	return b.String()
}

func (o *ring) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if strings.Contains(o.mark, "%") {
		file = r.URL.EscapedPath()[strings.LastIndexByte(r.URL.EscapedPath(), '/')+1:]
	}
	if file == "index.m3u8" {
		_, _ = io.WriteString(w, o.playlist())
		return
	}
	for n := o.published(); n >= 0; n-- { // the newest one of that name
		body := ""
		switch file {
		case o.name("seg", n, o.names) + ".ts":
			body = fmt.Sprint("segment ", n)
		case o.name("key", n/3, o.keyNames) + ".key":
			body = fmt.Sprint("key ", n/3)
		default:
			continue
		}
		if tag := strconv.Quote(body); o.hasETag {
			w.Header().Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				o.unchanged.Add(1)
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		o.full.Add(1)
		_, _ = io.WriteString(w, body)
		return
	}
	http.NotFound(w, r)
}

// serve starts the origin, and returns a way to it without sockets.
func (o *ring) serve(t *testing.T) gatewaytest.OriginFunc {
	o.start = time.Now()
	l := gatewaytest.NewListener()
	s := &http.Server{Handler: o, ReadHeaderTimeout: time.Hour, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.Serve(l) }()
	way := &http.Transport{DialContext: l.Dial, DisableCompression: true}
	t.Cleanup(func() { way.CloseIdleConnections(); _ = s.Close(); synctest.Wait() })
	return way.RoundTrip
}

// listedRing is what a viewer sees in a playlist: by what they get, the URL.
type listedRing struct {
	segments map[int]*url.URL
	keys     map[int]*url.URL
	last     int
}

// watchRing gets the playlist from a node.
func watchRing(t *testing.T, node *memoryServer) listedRing {
	t.Helper()
	entry := &url.URL{Scheme: "http", Host: "tv", Path: "/play/a001/index.m3u8", RawQuery: "token=1"}
	text := getFrom(t, node, entry)
	seen := listedRing{segments: map[int]*url.URL{}, keys: map[int]*url.URL{}}
	next := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if after, found := strings.CutPrefix(line, "#EXT-X-MEDIA-SEQUENCE:"); found {
			next, _ = strconv.Atoi(after)
		}
		if _, after, found := strings.Cut(line, ",IV=0x"); found {
			n, _ := strconv.ParseInt(after, 16, 0)
			seen.keys[int(n)] = resolve(t, entry, strings.Split(line, `"`)[1])
		}
		if line != "" && line[0] != '#' {
			seen.segments[next], seen.last = resolve(t, entry, line), next
			next++
		}
	}
	return seen
}

func getFrom(t *testing.T, node *memoryServer, u *url.URL) string {
	t.Helper()
	resp, err := node.Client(t).Get(u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %d %q, %v", u, resp.StatusCode, body, err)
	}
	return string(body)
}

// TestServe_NamesUsedAgain_NewBytes plays rings on one node. A viewer gets all that is listed, the oldest segments just before
// their names are used again.
func TestServe_NamesUsedAgain_NewBytes(t *testing.T) {
	t.Parallel()
	const duration, target = 3 * time.Minute, 4 * time.Second
	for name, o := range map[string]*ring{
		"segments":               {names: 5, listed: 4, target: target},
		"segments with an ETag":  {names: 5, listed: 4, target: target, hasETag: true},
		"twice as many segments": {names: 10, listed: 5, target: target},
		"a key at one URI":       {listed: 6, keyNames: 1, target: target},
		"both, with an ETag":     {names: 7, listed: 6, keyNames: 1, target: target, hasETag: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				node := newMemoryServer(t, nil, o.serve(t))
				for time.Since(o.start) < duration {
					seen := watchRing(t, node)
					for n, u := range seen.segments {
						if got, want := getFrom(t, node, u), fmt.Sprint("segment ", n); got != want {
							t.Fatalf("after %v: got %q, want %q", time.Since(o.start), got, want)
						}
					}
					if u := seen.keys[seen.last/3]; o.keyNames > 0 {
						if got, want := getFrom(t, node, u), fmt.Sprint("key ", seen.last/3); got != want {
							t.Fatalf("after %v: got %q, want %q", time.Since(o.start), got, want)
						}
					}
					advance(target / 2)
				}
				t.Logf("%d segments: %d bodies, %d times not modified", o.published(), o.full.Load(), o.unchanged.Load())
			})
		})
	}
}

// TestServe_Listed_StaysFresh counts the fetches of segments whose origin states no lifetime.
func TestServe_Listed_StaysFresh(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		ticketIn hls.TicketTransport
		mark     string
	}{
		"protected":                {hls.TicketInPath, ""},
		"unprotected":              {hls.TicketInNone, ""},
		"names that need escapes":  {hls.TicketInPath, " é"},
		"names that have escapes":  {hls.TicketInPath, "%20"},
		"unprotected, and escapes": {hls.TicketInNone, " "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &ring{listed: 5, target: 6 * time.Second, mark: tc.mark}
				node := newMemoryServer(t, func(c *Config) { c.Routes[0].TicketIn = tc.ticketIn }, o.serve(t))
				for time.Since(o.start) < 5*time.Minute {
					for _, u := range watchRing(t, node).segments {
						getFrom(t, node, u)
					}
					advance(time.Second)
				}
				if got, want := int(o.full.Load()), o.published()+1; got > want {
					t.Errorf("%d fetches of %d segments, want one each", got, want)
				}
			})
		})
	}
}

// TestServe_Complete_FreshForMediaTTL gets a complete playlist with a key once, and then its media again and again.
func TestServe_Complete_FreshForMediaTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &ring{listed: 5, keyNames: 5, target: 6 * time.Second, isComplete: true}
		node := newMemoryServer(t, nil, o.serve(t))
		seen := watchRing(t, node)
		for time.Since(o.start) < time.Minute {
			for _, u := range seen.segments {
				getFrom(t, node, u)
			}
			advance(time.Second)
		}
		if got := int(o.full.Load()); got != o.listed {
			t.Errorf("%d fetches of %d segments, want one each", got, o.listed)
		}
		for range 6 * 4 { // four target durations
			getFrom(t, node, seen.keys[0])
			advance(time.Second)
		}
		if got := int(o.full.Load()) - o.listed; got != 4 {
			t.Errorf("%d fetches of a key, want one in a target duration", got)
		}
	})
}

// TestServe_NamesUsedAgain_OtherNode has a viewer get playlists from one node and media from another.
func TestServe_NamesUsedAgain_OtherNode(t *testing.T) {
	t.Parallel()
	const target = 4 * time.Second
	for name, reuses := range map[string]bool{"as it is": false, "reuses_names": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &ring{names: 4, keyNames: 1, listed: 3, target: target}
				way := o.serve(t)
				edit := func(c *Config) { c.Origins["o"].ReusesNames = reuses }
				lists, media := newMemoryServer(t, edit, way), newMemoryServer(t, edit, way)
				oldest := 0 * time.Second
				// age returns for how long the node could have had the other bytes.
				age := func(published int, got, want string) time.Duration {
					if got == want {
						return 0
					}
					return time.Since(o.start) - time.Duration(published)*target
				}
				for time.Since(o.start) < 3*time.Minute {
					seen := watchRing(t, lists)
					for n, u := range seen.segments {
						oldest = max(oldest, age(n, getFrom(t, media, u), fmt.Sprint("segment ", n)))
					}
					key := seen.last / 3
					oldest = max(oldest, age(3*key, getFrom(t, media, seen.keys[key]), fmt.Sprint("key ", key)))
					advance(target / 4)
				}
				switch {
				case reuses && oldest > 0:
					t.Errorf("old bytes for %v, want none", oldest)
				case oldest > target:
					t.Errorf("old bytes for %v, want at most a target duration", oldest)
				}
			})
		})
	}
}
