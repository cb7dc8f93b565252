package origin

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// TestOrigin_Stats_CountsHits counts what was served from memory, whole, in part and as a lasting 404, and no fetch.
func TestOrigin_Stats_CountsHits(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone.m3u8":
			http.NotFound(w, r)
		case "/1.ts":
			_, _ = fmt.Fprint(w, "a segment")
		default:
			_, _ = fmt.Fprint(w, "#EXTM3U\n")
		}
	})})
	playlist := func(path string) {
		_, _ = o.Playlist(context.Background(), &Request{Path: path, Inspect: alwaysFresh})
	}
	for i, ask := range []func(){
		func() { mustMedia(t, o, Request{Path: "/1.ts"}) },
		func() { mustMedia(t, o, Request{Path: "/1.ts"}) },
		func() { mustMedia(t, o, Request{Path: "/1.ts", Range: "bytes=0-3"}) },
		func() { playlist("/index.m3u8") },
		func() { playlist("/index.m3u8") },
		func() { playlist("/gone.m3u8") },
		func() { playlist("/gone.m3u8") },
	} {
		before := o.Stats()
		ask()
		hits, fetches := o.Stats().Hits-before.Hits, o.Stats().Fetches-before.Fetches
		if wantHit := i != 0 && i != 3 && i != 5; (hits == 1) != wantHit || hits+fetches != 1 {
			t.Errorf("request %d: %d hits and %d fetches; want a hit: %t", i, hits, fetches, wantHit)
		}
	}
}

// TestCache_Stats_CountsEvictions counts what made room for others, and not what was replaced or removed.
func TestCache_Stats_CountsEvictions(t *testing.T) {
	t.Parallel()
	o := newFixture(t, func(c *Config) { c.Cache.MaxSize, c.Cache.MaxObjectSize = 4<<20, 1<<20 }, []string{"http://127.0.0.1:9"})
	store := func(n, size int) {
		e := &entry{object: &Object{Body: make([]byte, size)}, retention: 1 << 40}
		o.cache.store(cacheKey{path: fmt.Sprintf("/%d.ts", n), media: true}, e)
		o.cache.entries.CleanUp()
	}
	for range 3 {
		store(1, 1000)
	}
	o.cache.store(cacheKey{path: "/1.ts", media: true}, &entry{})
	if got := o.cache.Stats().Evictions; got != 0 {
		t.Errorf("%d evictions of a cache that is not full, want none", got)
	}
	for n := range 10 {
		store(n, 1<<20-4096)
	}
	if s := o.cache.Stats(); s.Evictions == 0 || int(s.Evictions)+s.Entries != 10 || s.Stored > 4<<20 {
		t.Errorf("after 10 responses of 1 MiB in 4 MiB: %+v", s)
	}
}

func TestStripedCounter_ConcurrentAdds_AllCount(t *testing.T) {
	t.Parallel()
	var c stripedCounter
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				c.add()
			}
		})
	}
	group.Wait()
	if got := c.load(); got != 8000 {
		t.Errorf("counted %d, want 8000", got)
	}
}
