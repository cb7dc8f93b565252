package origin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

// serveLargeBody is an origin of one large body; it counts the bytes that it has sent.
func serveLargeBody(body []byte, declared bool) (http.HandlerFunc, *atomic.Int64) {
	var sent atomic.Int64
	return func(w http.ResponseWriter, _ *http.Request) {
		if declared {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		for off := 0; off < len(body); off += 4096 {
			n, err := w.Write(body[off:min(off+4096, len(body))])
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}, &sent
}

// smallObjects allows more bytes in flight than are stored.
func smallObjects(c *Config) {
	c.Cache.MaxSize, c.Cache.MaxObjectSize = 64*setting.MiB, 64*setting.KiB
}

func TestFetch_PassThrough_SlowReaderHoldsBack(t *testing.T) {
	t.Parallel()
	for name, declared := range map[string]bool{"of known length": true, "of unknown length": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				body := randomBody(4 << 20)
				h, sent := serveLargeBody(body, declared)
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": h}), smallObjects, "a")
				s, err := o.Media(t.Context(), Request{Path: "/film.mp4"})
				if err != nil {
					t.Fatalf("Media: %v", err)
				}
				defer s.Close()
				var got []byte
				for {
					synctest.Wait() // until the fetch is blocked
					if held := o.cache.Stats().InFlight; held > passThroughWindow+chunkSize {
						t.Fatalf("holding %d bytes after %d, want at most %d", held, len(got), passThroughWindow+chunkSize)
					}
					if ahead := sent.Load() - int64(len(got)); ahead > passThroughWindow+2*chunkSize {
						t.Fatalf("the origin is %d bytes ahead of the reader", ahead)
					}
					data, err := s.Next()
					if errors.Is(err, io.EOF) {
						break
					}
					if err != nil {
						t.Fatalf("after %d bytes: %v", len(got), err)
					}
					got = append(got, data...)
				}
				requireSameBytes(t, got, body)
				_ = s.Close()
				if st := o.cache.Stats(); st.InFlight != 0 || st.Entries != 0 {
					t.Errorf("afterwards: %d bytes in flight, %d entries; want none", st.InFlight, st.Entries)
				}
			})
		})
	}
}

func TestFetch_PassThrough_LateReaderStartsOwnFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := randomBody(2 << 20)
		h, _ := serveLargeBody(body, true)
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": h}), smallObjects, "a")
		s, err := o.Media(t.Context(), Request{Path: "/film.mp4"})
		if err != nil {
			t.Fatalf("Media: %v", err)
		}
		defer s.Close()
		if _, err := io.ReadFull(&s, make([]byte, 1<<20)); err != nil {
			t.Fatalf("first reader: %v", err)
		}
		_, got := mustMedia(t, o, Request{Path: "/film.mp4"})
		requireSameBytes(t, []byte(got), body)
		rest, err := io.ReadAll(&s)
		if err != nil {
			t.Errorf("first reader: %v", err)
		}
		requireSameBytes(t, rest, body[1<<20:])
		if got := o.Stats().Fetches; got != 2 {
			t.Errorf("fetches: got %d, want 2", got)
		}
	})
}

// TestFetch_PassThrough_SegmentsNotHeldUp has viewers of films that are not stored read nothing. Segments are fetched beside as
// many of them as one address takes, and one film more is refused by the setting's name. If nobody knew how large it is, it is broken off,
// once such films hold half of the connections of segments.
func TestFetch_PassThrough_SegmentsNotHeldUp(t *testing.T) {
	t.Parallel()
	for name, declared := range map[string]bool{"of known length": true, "of unknown length": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				film, _ := serveLargeBody(randomBody(4<<20), declared)
				segment := randomBody(1000)
				network := newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/seg") {
						_, _ = w.Write(segment)
						return
					}
					film(w, r)
				}})
				o := newNetworkFixture(t, network, func(c *Config) { smallObjects(c); c.Fetch.MaxConns = 2 }, "a")
				for i := range 2 {
					s, err := o.Media(t.Context(), Request{Path: fmt.Sprintf("/film%d.mp4", i)})
					if err != nil {
						t.Fatalf("film %d: %v", i, err)
					}
					defer s.Close()
					synctest.Wait()
				}
				_, got := mustMedia(t, o, Request{Path: "/seg.ts"})
				requireSameBytes(t, []byte(got), segment)
				third, err := o.Media(t.Context(), Request{Path: "/film2.mp4"})
				overload, _ := errors.AsType[*backends.Overload](err)
				if isRefused := overload != nil && overload.Setting == "fetch.max_conns"; isRefused != declared {
					t.Errorf("the third film: got %v", err)
				}
				defer third.Close()
				synctest.Wait()
				if !declared {
					fourth, err := o.Media(t.Context(), Request{Path: "/film3.mp4"})
					if err != nil {
						t.Fatal(err)
					}
					_, err = io.ReadAll(&fourth)
					_ = fourth.Close()
					if overload, _ := errors.AsType[*backends.Overload](err); overload == nil || overload.Setting != "fetch.max_conns" {
						t.Errorf("the fourth film: got %v", err)
					}
				}
				_, got = mustMedia(t, o, Request{Path: "/seg2.ts"})
				requireSameBytes(t, []byte(got), segment)
			})
		})
	}
}

// TestFetch_PassThrough_SegmentsWithoutMemory has unread films fill the bytes in flight and the connections of large media. Segments come
// whole nevertheless, and a film of unknown length is broken off where it turns out to be one.
func TestFetch_PassThrough_SegmentsWithoutMemory(t *testing.T) {
	t.Parallel()
	for name, declared := range map[string]bool{"of known length": true, "of unknown length": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				film, _ := serveLargeBody(randomBody(4<<20), true)
				unknown, _ := serveLargeBody(randomBody(4<<20), false)
				body := randomBody(600 << 10) // more than passes through at once
				segment, _ := serveLargeBody(body, declared)
				network := newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.HasPrefix(r.URL.Path, "/film"):
						film(w, r)
					case strings.HasPrefix(r.URL.Path, "/seg"):
						segment(w, r)
					default:
						unknown(w, r)
					}
				}})
				o := newNetworkFixture(t, network, func(c *Config) {
					c.Cache.MaxSize, c.Cache.MaxObjectSize, c.Fetch.MaxConns = 4*setting.MiB, setting.MiB, 2
				}, "a")
				open := func(path string) *Stream {
					s, err := o.Media(t.Context(), Request{Path: path})
					if err != nil {
						t.Fatalf("%s: %v", path, err)
					}
					t.Cleanup(func() { _ = s.Close() })
					synctest.Wait()
					return &s
				}
				open("/film0.mp4")
				open("/film1.mp4")
				segments := []*Stream{open("/seg0.ts"), open("/seg1.ts")}
				for i, s := range segments {
					got, err := io.ReadAll(s)
					if err != nil {
						t.Errorf("segment %d: %v", i, err)
					}
					requireSameBytes(t, got, body)
				}
				if _, err := io.CopyN(io.Discard, open("/unknown0.mp4"), 2<<20); err != nil {
					t.Errorf("the first film of unknown length: %v", err)
				}
				_, err := io.ReadAll(open("/unknown1.mp4"))
				if overload, _ := errors.AsType[*backends.Overload](err); overload == nil || overload.Setting != "fetch.max_conns" {
					t.Errorf("the second film of unknown length: got %v", err)
				}
			})
		})
	}
}

func TestFetch_PassThrough_StarvingReaderDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := randomBody(2 << 20)
		h, _ := serveLargeBody(body, true)
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": h}), smallObjects, "a")
		slow, err := o.Media(t.Context(), Request{Path: "/film.mp4"})
		if err != nil {
			t.Fatalf("Media: %v", err)
		}
		defer slow.Close()
		_, got := mustMedia(t, o, Request{Path: "/film.mp4"})
		requireSameBytes(t, []byte(got), body)
		if _, err := io.ReadAll(&slow); !errors.Is(err, ErrTooSlow) {
			t.Errorf("the slow one: got %v, want ErrTooSlow", err)
		}
	})
}

func TestFetch_PassThrough_SingleSlowReaderKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body := randomBody(2 << 20)
		h, _ := serveLargeBody(body, true)
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": h}), smallObjects, "a")
		s, err := o.Media(t.Context(), Request{Path: "/film.mp4"})
		if err != nil {
			t.Fatalf("Media: %v", err)
		}
		defer s.Close()
		sleep(time.Minute)
		got, err := io.ReadAll(&s)
		if err != nil {
			t.Errorf("got %v", err)
		}
		requireSameBytes(t, got, body)
	})
}

func TestFetch_NoMemoryInFlight_PassesThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		body, release := randomBody(900<<10), make(chan struct{})
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body[:1000])
			w.(http.Flusher).Flush()
			if r.URL.Path == "/1.ts" {
				<-release
			}
			_, _ = w.Write(body[1000:])
		}}), func(c *Config) { c.Cache.MaxSize, c.Cache.MaxObjectSize = 2*setting.MiB, setting.MiB }, "a")
		var done sync.WaitGroup
		done.Go(func() {
			_, got := mustMedia(t, o, Request{Path: "/1.ts"})
			requireSameBytes(t, []byte(got), body)
		})
		synctest.Wait() // the first fetch occupies all the room
		_, got := mustMedia(t, o, Request{Path: "/2.ts"})
		requireSameBytes(t, []byte(got), body)
		close(release)
		done.Wait()
		if s := o.cache.Stats(); s.InFlight != 0 {
			t.Errorf("bytes in flight afterwards: got %d, want 0", s.InFlight)
		}
		if o.cache.getFresh(cacheKey{origin: o.id, path: "/1.ts", media: true}) == nil {
			t.Error("the first was not stored")
		}
		if got := o.Stats().PassedThrough; got != 1 {
			t.Errorf("passed through: got %d, want 1", got)
		}
	})
}

func TestFetch_StalledBody_NamesSetting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": func(w http.ResponseWriter, r *http.Request) {
			for range 5 { // slow, but within the timeout
				_, _ = io.WriteString(w, "some")
				w.(http.Flusher).Flush()
				sleep(9 * time.Second)
			}
			<-r.Context().Done()
		}}), nil, "a")
		_, got, err := fetchMedia(t, o, Request{Path: "/seg.ts"})
		var timeout *timeoutError
		if got != "somesomesomesomesome" || !errors.As(err, &timeout) || timeout.setting != "fetch.idle_timeout" {
			t.Errorf("got %q, %v; want five times some, then a timeout of fetch.idle_timeout", got, err)
		}
	})
}
