package viewer

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/bench/pace"
	"usher/bench/result"
	"usher/bench/stage"
)

// watch is a handler that remembers what it was asked.
type watch struct {
	next http.Handler

	mu       sync.Mutex
	requests []*http.Request
}

func (w *watch) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.requests = append(w.requests, r)
	w.mu.Unlock()
	w.next.ServeHTTP(to, r)
}

// values returns the different values of something in all requests.
func (w *watch) values(of func(*http.Request) string) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for _, r := range w.requests {
		all[of(r)]++
	}
	return all
}

func fromOrigin() *watch { return &watch{next: stage.NewOrigin(stage.Config{})} }

// wantAbout fails unless a count is within five standard deviations of what is expected.
func wantAbout(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 5*math.Sqrt(want)+1 {
		t.Errorf("%s: %v, want about %.0f", what, got, want)
	}
}

// TestRun_Behaviour counts what forty viewers do in two minutes, each thing once a minute on average.
func TestRun_Behaviour(t *testing.T) {
	const viewers, minutes = 60, 2.0
	tests := map[string]struct {
		set   func(*Behaviour)
		count string
		want  float64
	}{
		"they zap":                 {func(b *Behaviour) { b.Zap = time.Minute }, "zaps", viewers * minutes},
		"they roam":                {func(b *Behaviour) { b.Roam = time.Minute }, "roams", viewers * minutes},
		"they hop":                 {func(b *Behaviour) { b.Hop = time.Minute }, "hops", viewers * minutes},
		"they pause for a minute":  {func(b *Behaviour) { b.Pause, b.PauseFor = time.Minute, time.Minute }, "pauses", viewers * (minutes/2 + 0.245)},
		"they leave for good":      {func(b *Behaviour) { b.Watch = time.Minute }, "leaves", viewers * 0.865},
		"they leave for a minute":  {func(b *Behaviour) { b.Watch, b.Away = time.Minute, time.Minute }, "leaves", viewers * (minutes/2 + 0.245)},
		"they come back as often":  {func(b *Behaviour) { b.Watch, b.Away = time.Minute, time.Minute }, "returns", viewers * (minutes/2 - 0.245)},
		"they do nothing of these": {func(*Behaviour) {}, "zaps", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := oneTarget(viewers)
				c.Targets, c.Channels, c.Light = []string{"http://a", "http://b"}, []string{"a001", "a002", "a003"}, true
				c.Behaviour.Multivariant = 0
				test.set(&c.Behaviour)
				m := play(t, c, time.Duration(minutes)*time.Minute, fromOrigin())
				wantAbout(t, test.count, m.Counts[test.count], test.want)
				if missed := m.Counts["segments.missed"]; missed > 0 {
					t.Errorf("%v segments missed, want none: nobody was too slow", missed)
				}
				for op, o := range m.Operations {
					if o.Failed() > 0 {
						t.Errorf("%s: failed %v", op, o.Errors)
					}
				}
				if zaps := m.Counts["zaps"] + m.Counts["returns"]; float64(m.Operations[result.Opening].Requests) != viewers+zaps {
					t.Errorf("%d openings, want one of each viewer and %v more", m.Operations[result.Opening].Requests, zaps)
				}
			})
		})
	}
}

// TestRun_Addresses has viewers with addresses of their own, at the connection and in a header.
func TestRun_Addresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(20)
		c.Sources, c.Forwarded = netip.MustParsePrefix("127.1.0.0/16"), netip.MustParsePrefix("2001:db8::/64")
		server := fromOrigin()
		_, n := playOn(t, c, 10*time.Second, server)
		addresses := server.values(func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") })
		if len(addresses) != 20 || addresses["2001:db8::1"] == 0 || len(n.sources) != 20 || !n.sources[netip.MustParseAddr("127.1.0.1")] {
			t.Errorf("forwarded addresses %v, local ones %v; want 20 of both, from the first on", addresses, n.sources)
		}
		if n.dialled["tv:80"] != 20 {
			t.Errorf("%d connections, want one of each viewer", n.dialled["tv:80"])
		}
	})
}

// TestRun_Roam_ChangesAddress has a viewer whose address changes: their connection is another one, and their playlist the same.
func TestRun_Roam_ChangesAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(1)
		c.Sources, c.Forwarded, c.Behaviour.Roam = netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), 20*time.Second
		server := fromOrigin()
		m, n := playOn(t, c, 2*time.Minute, server)
		want := int(m.Counts["roams"]) + 1
		addresses := server.values(func(r *http.Request) string { return r.Header.Get("X-Forwarded-For") })
		if n.most != 1 {
			t.Errorf("%d connections at once, want 1: the old address is gone", n.most)
		}
		if want < 2 || len(n.sources) != want || len(addresses) != want || n.dialled["tv:80"] != want || m.Operations[result.Opening].Requests != 1 {
			t.Errorf("%d local addresses, %d forwarded ones, %d connections, %d openings; want %d of the first three, one opening",
				len(n.sources), len(addresses), n.dialled["tv:80"], m.Operations[result.Opening].Requests, want)
		}
	})
}

func TestRun_Light_FewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(500)
		c.Light, c.MaxInFlight, c.SegmentEvery = true, 8, 10
		m, n := playOn(t, c, 20*time.Second, fromOrigin())
		if got := n.dialled["tv:80"]; got > 8 {
			t.Errorf("%d connections, want at most 8", got)
		}
		// The viewers' buffers of three, and ten more each two seconds; one of ten is fetched.
		wantAbout(t, "segments", float64(m.Operations[result.Segment].Requests), 500*(3+9)/10)
	})
}

// TestRun_Traceparent has the ids of the slowest requests told.
func TestRun_Traceparent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(5)
		c.TraceShare = 1
		var slow atomic.Pointer[string]
		origin := stage.NewOrigin(stage.Config{})
		server := &watch{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id := r.Header.Get("Traceparent")
			if strings.HasSuffix(r.URL.Path, ".ts") && slow.CompareAndSwap(nil, &id) {
				time.Sleep(time.Second) // of the bubble's time
			}
			origin.ServeHTTP(w, r)
		})}
		m := play(t, c, 10*time.Second, server)
		ids := server.values(func(r *http.Request) string { return r.Header.Get("Traceparent") })
		form := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`)
		for id := range ids {
			if !form.MatchString(id) {
				t.Errorf("traceparent %q", id)
			}
		}
		if len(ids) != len(server.requests) {
			t.Errorf("%d ids in %d requests", len(ids), len(server.requests))
		}
		trace := strings.Split(*slow.Load(), "-")[1]
		if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "slowest traced requests, segment: 1s (trace "+trace+")") {
			t.Errorf("notes %q, want the slow segment's trace %s first", notes, trace)
		}
	})
}

// TestRun_BadTokens has viewers whom the server refuses but in an outage: a denial is no failure, and an answer a free ride.
func TestRun_BadTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(10)
		c.IsBad = func(n int) bool { return n < 4 }
		c.Token = func(n int) string { return map[bool]string{true: "bad", false: "good"}[n < 4] }
		start := time.Now()
		origin := stage.NewOrigin(stage.Config{})
		m := play(t, c, 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("token") == "bad" && time.Since(start) < 5*time.Second {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			origin.ServeHTTP(w, r)
		}))
		// At 0 and 4 s, and let in at 8 s: an opening, a playlist and three segments, then a reload of the multivariant playlist.
		if denials, free := m.Counts["denials"], m.Counts["free_rides"]; denials != 4*2 || free != 4*(1+1+3+1) {
			t.Errorf("%v denials, %v free rides; want 8, 24", denials, free)
		}
		if o := m.Operations[result.Opening]; o.Failed() > 0 || o.Requests != 6+3*4 {
			t.Errorf("%d openings, failed %v; want 18, none", o.Requests, o.Errors)
		}
	})
}

// TestRun_Redirects has an entry that redirects to a path with a session. The viewer stays there.
func TestRun_Redirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := stage.NewOrigin(stage.Config{})
		server := &watch{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if path, found := strings.CutPrefix(r.URL.Path, "/s-1"); found {
				r.URL.Path = path
				origin.ServeHTTP(w, r)
				return
			}
			http.Redirect(w, r, "http://other/s-1"+r.URL.Path, http.StatusFound)
		})}
		m, n := playOn(t, oneTarget(1), 20*time.Second, server)
		hosts := server.values(func(r *http.Request) string { return r.Host })
		if hosts["tv"] != 1 || hosts["other"] < 20 || n.dialled["tv:80"] != 1 || n.dialled["other:80"] != 1 {
			t.Errorf("requests by host %v, connections %v; want one to tv, the others to other, one connection of each", hosts, n.dialled)
		}
		if o := m.Operations[result.Opening]; o.Requests != 1 || o.Failed() > 0 {
			t.Errorf("%d openings, failed %v; want one with its redirect", o.Requests, o.Errors)
		}
	})
}

// TestRun_SegmentsElsewhere has segments at another host: the viewer keeps a connection to each.
func TestRun_SegmentsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := stage.NewOrigin(stage.Config{URIs: stage.Absolute})
		_, n := playOn(t, oneTarget(1), 20*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "low.m3u8") {
				r.Host = "cdn"
			}
			origin.ServeHTTP(w, r)
		}))
		if n.dialled["tv:80"] != 1 || n.dialled["cdn:80"] != 1 || len(n.dialled) != 2 {
			t.Errorf("connections %v, want one to tv, one to cdn", n.dialled)
		}
	})
}

func TestRun_BadAnswers(t *testing.T) {
	tests := map[string]struct {
		handle  http.HandlerFunc
		op      string
		failure string
	}{
		"redirects without end": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, result.Opening, redirected},
		"a redirect to nowhere": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "ftp://tv/")
			w.WriteHeader(http.StatusFound)
		}, result.Opening, badURL},
		"no playlist": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, result.Opening, notPlaylist},
		"multivariant playlists all the way": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nindex.m3u8\n")
		}, result.Playlist, notPlaylist},
		"a variant with a space in its URI": {func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second) // of the bubble's time
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na HTTP/1.1\n")
		}, result.Playlist, badURL},
		"an entry without segments": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n")
		}, result.Opening, "no segments"},
		"a media playlist without segments": {func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "index.m3u8") {
				time.Sleep(time.Second) // of the bubble's time
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n")
				return
			}
			_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n")
		}, result.Playlist, "no segments"},
		"an empty segment": {func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "index.m3u8") {
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n")
			}
		}, result.Segment, "broken body"},
		"a body cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "#EXTM3U\n")
		}, result.Opening, "broken body"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := play(t, oneTarget(1), 3*time.Second, test.handle)
				o := m.Operations[test.op]
				if o == nil || o.Errors[test.failure] == 0 || test.op == result.Playlist && o.Latency.Max() > time.Millisecond || o.Errors[test.failure] != o.Failed() {
					t.Errorf("%+v, want failures %q of %s alone", m.Operations, test.failure, test.op)
				}
			})
		})
	}
}

// TestRun_StalledPlaylist has a live list that ends with the same segment for ten seconds. That it stays for a moment is no failure: a
// node serves it stale while its origin fails.
func TestRun_StalledPlaylist(t *testing.T) {
	for name, isLight := range map[string]bool{"full": false, "light": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := oneTarget(1)
				c.Light, c.Path = isLight, "/index.m3u8"
				start := time.Now()
				m := play(t, c, 30*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if !strings.HasSuffix(r.URL.Path, ".m3u8") {
						_, _ = io.WriteString(w, "media")
						return
					}
					sequence := int(time.Since(start).Seconds())
					if sequence >= 5 && sequence < 9 {
						sequence = 5 // for as long as a stale copy may be served
					}
					if sequence >= 15 && sequence < 25 {
						sequence = 15
					}
					_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:%d\n#EXTINF:1,\n%d.ts\n", sequence, sequence)
				}))
				// From the 21st second on, and no more when the list goes on.
				o := m.Operations[result.Playlist]
				if n := o.Errors["stalled"]; n < 3 || n > 5 || o.Failed() != n {
					t.Errorf("failed %v, want 3 to 5 as stalled", o.Errors)
				}
			})
		})
	}
}

// TestRun_MediaPlaylistAtEntry has viewers start over time at an entry that is the media playlist itself. A cache gives each list twice, and
// that is no failure for a viewer who has just come.
func TestRun_MediaPlaylistAtEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(20)
		c.Path, c.Pace = "/index.m3u8", pace.Constant(1)
		start := time.Now()
		m := play(t, c, 30*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, ".m3u8") {
				_, _ = io.WriteString(w, "media")
				return
			}
			sequence := 2 * int(time.Since(start).Seconds()/2)
			_, _ = fmt.Fprintf(w, "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:%d\n#EXTINF:1,\n1.ts\n#EXTINF:1,\n2.ts\n", sequence)
		}))
		if o := m.Operations[result.Playlist]; o.Requests < 100 || o.Failed() > 0 {
			t.Errorf("%d reloads, failed %v; want none", o.Requests, o.Errors)
		}
	})
}

// TestRun_InitAndRanges plays a playlist of byte ranges with an initialization section.
func TestRun_InitAndRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &watch{next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".m3u8") {
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"all.mp4\",BYTERANGE=\"9@0\"\n#EXTINF:2,\n"+
					"#EXT-X-BYTERANGE:5@9\nall.mp4\n#EXTINF:2,\nwhole.mp4\n")
				return
			}
			_, _ = io.WriteString(w, "media")
		})}
		play(t, oneTarget(1), time.Second, server)
		got := server.values(func(r *http.Request) string { return r.URL.Path + " " + r.Header.Get("Range") })
		for _, want := range []string{"/play/a001/all.mp4 bytes=0-8", "/play/a001/all.mp4 bytes=9-13", "/play/a001/whole.mp4 "} {
			if got[want] != 1 {
				t.Errorf("requests %v, want %q once", got, want)
			}
		}
	})
}

// TestRun_EndedPlaylist opens the next film when one has ended.
func TestRun_EndedPlaylist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := play(t, oneTarget(1), 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".m3u8") {
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n#EXT-X-ENDLIST\n")
				return
			}
			_, _ = io.WriteString(w, "media")
		}))
		if opened, segments := m.Operations[result.Opening].Requests, m.Operations[result.Segment].Requests; opened != 3 || segments != 6 {
			t.Errorf("%d openings, %d segments; want 3, 6", opened, segments)
		}
	})
}

// TestRun_Pace_KeepsTimes has starts at the times of the plan.
func TestRun_Pace_KeepsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(0)
		c.Pace, c.Light, c.Behaviour.Multivariant = pace.Ramp{From: 0, To: 100, Over: 10 * time.Second}, true, 0
		start := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		origin := stage.NewOrigin(stage.Config{})
		m := play(t, c, 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "index.m3u8") {
				mu.Lock()
				at = append(at, time.Since(start))
				mu.Unlock()
			}
			origin.ServeHTTP(w, r)
		}))
		if m.Arrivals.Started != 499 {
			t.Errorf("%d started, want 499 of 500: the last one is due at the end", m.Arrivals.Started)
		}
		for i := range at {
			if early, late := c.Pace.Due(at[i]+2*time.Millisecond), c.Pace.Due(at[i]-2*time.Millisecond); early < float64(i+1) || late > float64(i+1) {
				t.Errorf("start %d after %v, when %.2f to %.2f are due", i+1, at[i], late, early)
			}
		}
	})
}
