package viewer

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/bench/pace"
	"usher/bench/result"
	"usher/bench/stage"
)

// stalling makes a handler that answers at once, but nobody within the last second of every ten.
func stalling(next http.Handler) http.Handler {
	start := time.Now()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const every, stall = 10 * time.Second, time.Second
		if at := time.Since(start) % every; at >= every-stall {
			time.Sleep(every - at) // of the bubble's time
		}
		next.ServeHTTP(w, r)
	})
}

// TestRun_StallingServer_ShowsInP99 has a server that stalls for one second of ten: one in ten requests should have been answered
// within the stall, and waits half a second of it on average. A generator that waits with the server sends far fewer requests
// meanwhile, and reports a p99 of nothing.
func TestRun_StallingServer_ShowsInP99(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"each viewer's own connection": func(*Config) {},
		"light, with few connections":  func(c *Config) { c.Light, c.MaxInFlight = true, 4 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := oneTarget(50)
				c.Pace, c.Behaviour.Multivariant = pace.Constant(50), 0 // spread over the second
				change(&c)
				m := play(t, c, 61*time.Second, stalling(stage.NewOrigin(stage.Config{SegmentDuration: time.Second})))
				o := m.Operations[result.Playlist]
				if want := uint64(50 * 61); o.Requests < want-50 || o.Requests > want || o.Failed() > 0 {
					t.Errorf("%d reloads, failed %v; want one a second of each viewer, about %d", o.Requests, o.Errors, want)
				}
				near := func(q float64, want time.Duration) {
					const off = 30 * time.Millisecond
					if got := o.Latency.Quantile(q); got < want-off || got > want+off {
						t.Errorf("quantile %v: %v, want %v", q, got, want)
					}
				}
				near(0.5, 0)
				near(0.89, 0)
				near(0.95, 500*time.Millisecond)
				near(0.99, 900*time.Millisecond)
				near(1, time.Second)
				if m.Arrivals.Dropped > 0 {
					t.Errorf("%d dropped, want none", m.Arrivals.Dropped)
				}
				isLate := strings.Contains(strings.Join(m.Notes, ""), "did not keep the plan")
				if isLate != c.Light { // four connections are the generator's own bound
					t.Errorf("notes %q; want one of a plan that was not kept: %v", m.Notes, c.Light)
				}
			})
		})
	}
}

// TestRun_HangingServer_DropsAndSaysSo has a server that answers nothing for a minute: what could not be sent within the timeout is
// dropped and counted, and no viewer owes more than that when the server is back.
func TestRun_HangingServer_DropsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(100)
		c.Light, c.MaxInFlight, c.Timeout = true, 2, 5*time.Second
		c.Pace = pace.Constant(10)
		start := time.Now()
		origin := stage.NewOrigin(stage.Config{})
		m := play(t, c, 100*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if at := time.Since(start); at > 20*time.Second && at < 80*time.Second {
				<-r.Context().Done()
				return
			}
			origin.ServeHTTP(w, r)
		}))
		if a := m.Arrivals; a.Planned != 100 || a.Started != 100 || a.Dropped == 0 {
			t.Errorf("planned %d, started %d, dropped %d; want 100, 100, some", a.Planned, a.Started, a.Dropped)
		}
		o := m.Operations[result.Playlist]
		if o.Errors["timeout"] == 0 || o.Latency.Max() > 10*time.Second+100*time.Millisecond {
			t.Errorf("failed %v, slowest %v; want timeouts, at most two timeouts from the plan", o.Errors, o.Latency.Max())
		}
		if len(m.Notes) == 0 || !strings.Contains(m.Notes[0], "did not keep the plan") || !strings.Contains(m.Notes[0], "max_in_flight=2") {
			t.Errorf("notes %q; want one that names max_in_flight", m.Notes)
		}
	})
}

// TestRun_HangsAtTheEnd has a server that answers nothing in the last seconds, which are shorter than the timeout.
func TestRun_HangsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(20)
		c.MaxInFlight, c.Light = 10, true
		start := time.Now()
		origin := stage.NewOrigin(stage.Config{})
		m := play(t, c, 15*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if time.Since(start) > 10500*time.Millisecond {
				<-r.Context().Done()
				return
			}
			origin.ServeHTTP(w, r)
		}))
		// The multivariant playlists of eleven seconds are the first to hang.
		o := m.Operations[result.Multivariant]
		if o.Errors["no answer"] != 10 || o.Failed() != 10 || o.Latency.Max().Round(time.Second) != 4*time.Second || m.Arrivals.Dropped != 10 {
			t.Errorf("failed %v, slowest %v, %d dropped; want ten without an answer after 4s, the other viewers'", o.Errors, o.Latency.Max(), m.Arrivals.Dropped)
		}
		last := 0.0
		for _, l := range m.Series.Lines {
			if l.Name == "errors.multivariant" {
				last = *l.Values[len(l.Values)-1]
			}
		}
		if last == 0 {
			t.Error("no error in the last second of the series")
		}
	})
}

// TestRun_AnswersAtTheEnd has a server whose answers are on their way when the run ends: a late one, and a body that takes its time.
func TestRun_AnswersAtTheEnd(t *testing.T) {
	const length = 5 * time.Second
	for name, answer := range map[string]http.HandlerFunc{
		"an answer that is not late yet": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/late" {
				time.Sleep(length - time.Second) // of the bubble's time
				http.Redirect(w, r, "/late", http.StatusFound)
				return
			}
			<-r.Context().Done()
		},
		"a long body": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := play(t, oneTarget(1), length, answer)
				for op, o := range m.Operations {
					if o.Failed() > 0 {
						t.Errorf("%s failed %v, want none", op, o.Errors)
					}
				}
			})
		})
	}
}

// TestRun_SlowAnswers_AtTheEnd has a server that answers after two seconds, and requests that have waited for a little less when the run ends.
// What the server took before is no failure.
func TestRun_SlowAnswers_AtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := stage.NewOrigin(stage.Config{})
		c := oneTarget(2)
		c.Behaviour.Multivariant, c.Light, c.Path, c.Pace = 0, true, "/single/{channel}/index.m3u8", pace.Constant(1)
		m := play(t, c, 21800*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(2 * time.Second):
				origin.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
		}))
		for op, o := range m.Operations {
			if o.Failed() > 0 || o.Latency.Max() < 2*time.Second {
				t.Errorf("%s: slowest %v, failed %v; want answers after 2s, and no failure", op, o.Latency.Max(), o.Errors)
			}
		}
	})
}

// TestRun_SegmentsMissed has a reload that takes 20 s of a channel that lists 6 s.
func TestRun_SegmentsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(1)
		c.Timeout, c.Behaviour.Multivariant = time.Minute, 0
		origin := stage.NewOrigin(stage.Config{Window: 3})
		var reloads atomic.Int64
		m := play(t, c, time.Minute, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "low.m3u8") && reloads.Add(1) == 5 {
				time.Sleep(20 * time.Second) // of the bubble's time
			}
			origin.ServeHTTP(w, r)
		}))
		// The reload lists eleven new segments, eight of them no longer.
		if missed := m.Counts["segments.missed"]; missed != 8 || m.Operations[result.Segment].Requests != 3+29-8 {
			t.Errorf("%v segments missed, %d fetched; want 8, 24", missed, m.Operations[result.Segment].Requests)
		}
		if o := m.Operations[result.Playlist]; o.Requests != 30 || o.Failed() > 0 {
			t.Errorf("%d reloads, failed %v; want all 30 of the schedule", o.Requests, o.Errors)
		}
	})
}

func TestRun_TooManyAtOnce_DropsStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := oneTarget(50)
		c.MaxAlive, c.Behaviour.Multivariant = 20, 0
		m := play(t, c, 5*time.Second, stage.NewOrigin(stage.Config{}))
		if a := m.Arrivals; a.Planned != 50 || a.Started != 20 || a.Dropped != 30 || len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "max_alive") {
			t.Errorf("planned %d, started %d, dropped %d, notes %q; want 50, 20, 30, one on max_alive", a.Planned, a.Started, a.Dropped, m.Notes)
		}
	})
}

// TestRun_Retries has a server that fails: a viewer asks again after a second, after a denial at the entry URL and later.
func TestRun_Retries(t *testing.T) {
	tests := map[string]struct {
		status            int
		path              string
		opening, playlist uint64
		failure           string
	}{
		"an unavailable entry": {503, "/play/a001/index.m3u8", 10, 0, "status 503"},
		"a denied entry":       {403, "/play/a001/index.m3u8", 3, 0, "status 403"},
		// After five failures from the start.
		"an unavailable media playlist": {503, "/play/a001/low.m3u8", 2, 10, "status 503"},
		"a denied media playlist":       {403, "/play/a001/low.m3u8", 3, 3, "status 403"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				origin := stage.NewOrigin(stage.Config{})
				m := play(t, oneTarget(1), 9500*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == test.path {
						w.WriteHeader(test.status)
						return
					}
					origin.ServeHTTP(w, r)
				}))
				var playlists result.Operation
				if o := m.Operations[result.Playlist]; o != nil {
					playlists = *o
				}
				opened := m.Operations[result.Opening]
				if opened.Requests != test.opening || playlists.Requests != test.playlist || opened.Errors[test.failure]+playlists.Errors[test.failure] == 0 {
					t.Errorf("%d openings %v, %d playlists %v; want %d, %d, %s", opened.Requests, opened.Errors, playlists.Requests, playlists.Errors,
						test.opening, test.playlist, test.failure)
				}
			})
		})
	}
}

// TestRun_LosesTicket has a media playlist that is denied once, as after a revocation: the viewer is back at the entry URL, and plays.
func TestRun_LosesTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		origin := stage.NewOrigin(stage.Config{})
		var reloads, entries atomic.Int64
		m := play(t, oneTarget(1), 30*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/play/a001/index.m3u8":
				entries.Add(1)
				_, _ = io.WriteString(w, "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8?ticket=t\n")
				return
			case "/play/a001/low.m3u8":
				if r.URL.RawQuery != "ticket=t" {
					t.Errorf("reloaded with %q, want the ticket", r.URL.RawQuery)
				}
				if reloads.Add(1) == 5 {
					w.WriteHeader(http.StatusForbidden)
					return
				}
			}
			origin.ServeHTTP(w, r)
		}))
		if o := m.Operations[result.Playlist]; o.Errors["status 403"] != 1 || o.Failed() != 1 || m.Operations[result.Opening].Requests != 2 {
			t.Errorf("failed %v, %d openings; want one 403, two", o.Errors, m.Operations[result.Opening].Requests)
		}
		if got := m.Operations[result.Segment]; got.Failed() > 0 || got.Requests < 12 {
			t.Errorf("%d segments, failed %v; want those of the time before and after", got.Requests, got.Errors)
		}
	})
}
