package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/gateway/gatewaytest"
)

// growingFile is an origin of a segment fs11.mp4 that is listed by ranges while it is written.
type growingFile struct {
	mu   sync.Mutex
	list string
	size int
}

func (o *growingFile) set(list string, size int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.size = list, size
}

func (o *growingFile) respond(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, ".m3u8") {
		return gatewaytest.OriginResponse(r, int64(len(o.list)), strings.NewReader(o.list)), nil
	}
	written := &writtenFile{header: http.Header{"Content-Type": {"video/mp4"}}, status: http.StatusOK}
	http.ServeContent(written, r, "", time.Time{}, bytes.NewReader(make([]byte, o.size)))
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
					r, _ := http.NewRequest(http.MethodGet, "http://tv/~"+node.ticket+"/play/a001/"+path, nil)
					r.Header.Set("Range", field)
					resp, err := node.Client(t).Do(r)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != status || size >= 0 && len(body) != size {
						t.Errorf("%s %s: got %d and %d bytes, %v; want %d and %d", path, field, resp.StatusCode, len(body), err, status, size)
					}
					synctest.Wait() // what was fetched is stored
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
