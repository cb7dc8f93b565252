package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/gatewaytest"
)

// growingFile is an origin of a playlist, and of files that are listed by ranges while they are written.
type growingFile struct {
	mu    sync.Mutex
	list  string
	files map[string][]byte // by name
}

// set changes the playlist and the size of the segment fs11.mp4.
func (o *growingFile) set(list string, size int) { o.write(list, "fs11.mp4", make([]byte, size)) }

func (o *growingFile) write(list, name string, body []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.files == nil {
		o.files = map[string][]byte{}
	}
	o.list, o.files[name] = list, body
}

func (o *growingFile) respond(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, ".m3u8") {
		return gatewaytest.OriginResponse(r, int64(len(o.list)), strings.NewReader(o.list)), nil
	}
	written := &writtenFile{header: http.Header{"Content-Type": {"video/mp4"}}, status: http.StatusOK}
	http.ServeContent(written, r, "", time.Time{}, bytes.NewReader(o.files[path.Base(r.URL.Path)]))
	resp := gatewaytest.OriginResponse(r, int64(written.body.Len()), &written.body)
	resp.StatusCode, resp.Header = written.status, written.header
	return resp, nil
}

// writtenFile is a response in memory.
type writtenFile struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *writtenFile) Header() http.Header         { return w.header }
func (w *writtenFile) WriteHeader(status int)      { w.status = status }
func (w *writtenFile) Write(b []byte) (int, error) { return w.body.Write(b) }

// getRange gets a file, or a range of it, and returns its bytes.
func (n *memoryServer) getRange(t *testing.T, name, field string) (status int, body []byte) {
	t.Helper()
	r, _ := http.NewRequest(http.MethodGet, "http://tv/~"+n.ticket+"/play/a001/"+name, nil)
	if strings.HasPrefix(name, "/") {
		r.URL.Path = name
	}
	r.Header.Set("Range", field)
	resp, err := n.Client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Errorf("%s %s: %v", name, field, err)
	}
	synctest.Wait() // what was fetched is stored
	return resp.StatusCode, body
}

// TestServe_PartsOfAGrowingFile has a stranger get the file before it is whole. Players get their parts, and the segment, all the same.
func TestServe_PartsOfAGrowingFile(t *testing.T) {
	t.Parallel()
	const (
		head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3\n#EXT-X-PART-INF:PART-TARGET=1\n" +
			"#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:4,\nfs10.mp4\n"
		part1 = "#EXT-X-PART:DURATION=1,URI=\"fs11.mp4\",BYTERANGE=\"1000@0\",INDEPENDENT=YES\n"
		part2 = "#EXT-X-PART:DURATION=1,URI=\"fs11.mp4\",BYTERANGE=\"1200@1000\"\n"
	)
	for name, key := range map[string]string{"plain": "", "encrypted": "#EXT-X-KEY:METHOD=AES-128,URI=\"k\",IV=0x1\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var o growingFile
				node := newMemoryServer(t, nil, o.respond)
				want := func(path, field string, status, size int) {
					t.Helper()
					if got, body := node.getRange(t, path, field); got != status || size >= 0 && len(body) != size {
						t.Errorf("%s %s: got %d and %d bytes, want %d and %d", path, field, got, len(body), status, size)
					}
				}
				o.set(head+key+part1, 1000)
				want("index.m3u8", "", 200, -1)
				want("fs11.mp4", "", 200, 1000)
				want("fs11.mp4", "bytes=500-1499", 206, 500)
				advance(time.Second)
				o.set(head+key+part1+part2, 2200)
				want("index.m3u8", "", 200, -1)
				want("fs11.mp4", "bytes=500-1499", 206, 1000)
				want("fs11.mp4", "bytes=1000-2199", 206, 1200)
				advance(time.Second)
				o.set(head+key+part1+part2+"#EXTINF:4,\nfs11.mp4\n", 4000)
				want("index.m3u8", "", 200, -1)
				want("fs11.mp4", "", 200, 4000)
				want("fs11.mp4", "bytes=3000-3999", 206, 1000)
			})
		})
	}
}

// TestServe_PartsUnderAUsedName has an origin use four names in turn. A part gets the bytes of its segment, although the one that had the
// name before is cached.
func TestServe_PartsUnderAUsedName(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Config){
		"by its number": nil,
		"by its URI":    func(c *Config) { c.Origins["o"].ReusesNames = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var o growingFile
				node := newMemoryServer(t, edit, o.respond)
				// list returns the playlist of three segments up to the newest, and of parts of the next one.
				list := func(newest int, parts string) string {
					text := fmt.Sprintf("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MEDIA-SEQUENCE:%d\n", newest-2)
					for n := newest - 2; n <= newest; n++ {
						text += fmt.Sprintf("#EXTINF:4,\nf%d.mp4\n", n%4)
					}
					return text + parts
				}
				segment := func(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 4000) }
				play := func(path, field string, want []byte) {
					t.Helper()
					if _, got := node.getRange(t, path, field); !bytes.Equal(got, want) {
						t.Errorf("%s %s: got %d bytes of segment %d, want %d of %d", path, field, len(got), got[:1], len(want), want[0])
					}
				}
				last := func() string { // the URI of f2.mp4 that the playlist lists last
					_, body := node.getRange(t, "index.m3u8", "")
					all := regexp.MustCompile(`[^"\n]*f2\.mp4`).FindAll(body, -1)
					if len(all) == 0 {
						return ""
					}
					return string(all[len(all)-1])
				}
				o.write(list(10, ""), "f2.mp4", segment(10))
				play(last(), "", segment(10))
				advance(4 * time.Second)
				o.write(list(13, ""), "f1.mp4", segment(13))
				last()
				advance(time.Second)
				const part = "#EXT-X-PART:DURATION=1,URI=\"f2.mp4\",BYTERANGE=\"1000@0\"\n"
				o.write(list(13, part), "f2.mp4", segment(14)[:1000])
				uri := last()
				play(uri, "bytes=0-999", segment(14)[:1000])
				play(uri, "", segment(14)[:1000]) // a stranger
				advance(time.Second)
				o.write(list(13, part+"#EXT-X-PART:DURATION=1,URI=\"f2.mp4\",BYTERANGE=\"1000@1000\"\n"), "f2.mp4", segment(14)[:2000])
				play(last(), "bytes=1000-1999", segment(14)[:1000])
				advance(2 * time.Second)
				o.write(list(14, ""), "f2.mp4", segment(14))
				play(last(), "", segment(14))
			})
		})
	}
}

// TestServe_OpenRangeOfAGrowingFile follows a hint to the rest of a file, of which a stranger has got the beginning, and resumes once it is
// whole.
func TestServe_OpenRangeOfAGrowingFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:4,\nfs10.mp4\n"
		const parts = "#EXT-X-PART:DURATION=1,URI=\"fs11.mp4\",BYTERANGE=\"1000@0\"\n" +
			"#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"fs11.mp4\",BYTERANGE-START=1000\n"
		var o growingFile
		var requests atomic.Int32
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return o.respond(r)
		})
		want := func(field string, status, size int) {
			t.Helper()
			if got, body := node.getRange(t, "fs11.mp4", field); got != status || len(body) != size {
				t.Errorf("%s: got %d and %d bytes, want %d and %d", field, got, len(body), status, size)
			}
		}
		for _, list := range []string{head + parts, head} { // also where the playlist says nothing of it
			o.set(list, 1100)
			node.getRange(t, "index.m3u8", "")
			want("", 200, 1100)
			advance(time.Second)
			o.set(list, 4000)
			want("bytes=1000-", 206, 3000)
			want("bytes=1000-9223372036854775807", 206, 3000)
			o.set(list, 4500)
			want("bytes=1000-", 206, 3500)
			advance(time.Minute)
		}
		o.set(head+parts+"#EXTINF:4,\nfs11.mp4\n", 5000)
		node.getRange(t, "index.m3u8", "")
		want("", 200, 5000)
		before := requests.Load()
		want("bytes=0-", 206, 5000)
		want("bytes=1000-", 206, 4000)
		if got := requests.Load() - before; got != 0 {
			t.Errorf("%d requests to the origin for ranges of the whole segment, want none", got)
		}
	})
}

// TestServe_AnnouncedFile_NotTakenForTheWhole has a viewer get a file that a playlist announces, by a tag without a range, before it is
// whole. Nobody gets its beginning in place of what is listed later.
func TestServe_AnnouncedFile_NotTakenForTheWhole(t *testing.T) {
	t.Parallel()
	const head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:4,\nfs10.mp4\n"
	const hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"fs11.mp4\"\n"
	for name, test := range map[string]struct{ announced, listed string }{
		"a part":         {hint, "#EXT-X-PART:DURATION=1,URI=\"fs11.mp4\"\n"},
		"a segment":      {hint, "#EXTINF:4,\nfs11.mp4\n"},
		"its first part": {hint, "#EXT-X-PART:DURATION=1,URI=\"fs11.mp4\",BYTERANGE=\"1000@0\"\n#EXTINF:4,\nfs11.mp4\n"},
		"a prefetch":     {"#EXT-X-PREFETCH:fs11.mp4\n", "#EXTINF:4,\nfs11.mp4\n"},
		"one of Twitch":  {"#EXT-X-TWITCH-PREFETCH:fs11.mp4\n", "#EXTINF:4,\nfs11.mp4\n"},
	} {
		for _, field := range []string{"", "bytes=0-"} {
			t.Run(name+field, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					var o growingFile
					node := newMemoryServer(t, nil, o.respond)
					for i, list := range []string{test.announced, test.announced, test.listed} {
						size := 1000 * (i + 1)
						o.set(head+list, size)
						node.getRange(t, "index.m3u8", "")
						if _, got := node.getRange(t, "fs11.mp4", field); len(got) != size {
							t.Errorf("version %d: got %d bytes, want %d", i, len(got), size)
						}
						advance(time.Second)
					}
				})
			})
		}
	}
}

// TestServe_AnnouncedFile_StreamedOnce has the origin send an announced file as it is written, without a length. Those who come later get
// the same response.
func TestServe_AnnouncedFile_StreamedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:4,\nfs10.mp4\n"
		var o growingFile
		var requests atomic.Int32
		written, write := io.Pipe()
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, ".m3u8") {
				return o.respond(r)
			}
			requests.Add(1)
			return gatewaytest.OriginResponse(r, -1, written), nil
		})
		o.set(head+"#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p.mp4\"\n", 0)
		node.getRange(t, "index.m3u8", "")
		var all sync.WaitGroup
		at := &url.URL{Scheme: "http", Host: "tv", Path: "/~" + node.ticket + "/play/a001/p.mp4"}
		get := func() {
			if got := getFrom(t, node, at); got != "half and half" {
				t.Errorf("got %q, want all of it", got)
			}
		}
		all.Go(get)
		_, _ = io.WriteString(write, "half ")
		o.set(head+"#EXT-X-PART:DURATION=1,URI=\"p.mp4\"\n", 0)
		advance(time.Second)
		node.getRange(t, "index.m3u8", "")
		all.Go(get)
		advance(time.Millisecond)
		_, _ = io.WriteString(write, "and half")
		_ = write.Close()
		all.Wait()
		get()
		if got := requests.Load(); got != 1 {
			t.Errorf("%d requests to the origin, want one", got)
		}
	})
}

// TestServe_OpenRangeOfACompletePlaylist resumes segments that were fetched after the playlist that lists them, which will not change.
func TestServe_OpenRangeOfACompletePlaylist(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := "#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
		for n := range 10 {
			list += fmt.Sprintf("#EXTINF:4,\nfs1%d.mp4\n", n)
		}
		var o growingFile
		var requests atomic.Int32
		node := newMemoryServer(t, nil, func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return o.respond(r)
		})
		o.set(list+"#EXT-X-ENDLIST\n", 4000)
		node.getRange(t, "index.m3u8", "")
		node.getRange(t, "fs11.mp4", "")
		before := requests.Load()
		for i := range 10 {
			if status, body := node.getRange(t, "fs11.mp4", "bytes=1000-"); status != 206 || len(body) != 3000 {
				t.Errorf("%d: got %d and %d bytes, want 206 and 3000", i, status, len(body))
			}
		}
		if got := requests.Load() - before; got != 0 {
			t.Errorf("%d requests to the origin for ranges of a cached segment, want none", got)
		}
	})
}
