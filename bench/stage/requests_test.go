package stage

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOriginRequests_CountedBeforeHook(t *testing.T) {
	t.Parallel()
	refuse := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/play/down/") {
				http.Error(w, "down", http.StatusBadGateway)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	o, origin := serveOrigin(t, Config{Hook: refuse})
	for path, want := range map[string]int{
		"/play/a/index.m3u8?token=1": 200, "/play/a/index.m3u8?token=2": 200, "/play/down/index.m3u8": 502,
	} {
		if response, _ := get(t, origin+path); response.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, response.StatusCode, want)
		}
	}
	want := map[string]int{"/play/a/index.m3u8": 2, "/play/down/index.m3u8": 1}
	if diff := cmp.Diff(want, o.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if o.Total() != 3 {
		t.Errorf("total: got %d, want 3", o.Total())
	}
}

func TestOriginRequests_PathsBounded(t *testing.T) {
	t.Parallel()
	o := NewOrigin(Config{})
	for i := range maxCountedPaths + 5 {
		o.countRequest("/" + strconv.Itoa(i))
	}
	o.countRequest("/0")
	got := o.Requests()
	if len(got) != maxCountedPaths+1 || got[OtherPaths] != 5 || got["/0"] != 2 {
		t.Errorf("%d paths, %d under %q, %d of the first: want %d, 5, 2",
			len(got), got[OtherPaths], OtherPaths, got["/0"], maxCountedPaths+1)
	}
}

func TestSegmentCache_BuildsOnceAndDropsOld(t *testing.T) {
	t.Parallel()
	now := noon()
	o := NewOrigin(Config{Now: func() time.Time { return now }, Window: 3})
	fetch := func() []byte {
		number := o.timeline.nextSegment(now) - 1
		return o.cache.get(high, number, o.timeline.oldestServed(now)).bytes
	}
	first := fetch()
	if again := fetch(); &first[0] != &again[0] || !bytes.Equal(first, again) {
		t.Error("the same segment was made twice")
	}
	for range 100 {
		now = now.Add(2 * time.Second)
		fetch()
	}
	if got := len(o.cache.segments); got > 2*3 {
		t.Errorf("%d segments are kept, want 6 at most", got)
	}
}
