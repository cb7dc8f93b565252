package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"usher/backends"
	"usher/backends/setting"
	"usher/gateway/upstream"
)

// logTo has the origin write its log as JSON into the returned buffer.
func logTo(o fixture) *bytes.Buffer {
	var buf bytes.Buffer
	o.log = slog.New(slog.NewJSONHandler(&buf, nil)).With(slog.String("origin", o.name))
	return &buf
}

func TestOrigin_Report_SaysWhatFailedAndWhatToDo(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(respondWith("gone"))
	gone.Close()
	inner := serve(t, respondWith("inner"))
	secure := httptest.NewUnstartedServer(respondWith("secure"))
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, test := range map[string]struct {
		answer     http.HandlerFunc
		url        string // instead of a server with the answer
		upstream   upstream.Config
		request    Request
		isPlaylist bool
		want       Failure // Error and Advice: parts of them
	}{
		"it does not listen": {url: gone.URL, want: Failure{Reason: ReasonConnect, Error: "connect", Advice: "origins.test.url"}},
		"it speaks no TLS": {
			url: strings.Replace(inner, "http:", "https:", 1), want: Failure{Reason: ReasonTLS, Error: "does not look like a TLS handshake", Advice: "speaks no TLS"},
		},
		"its certificate is not trusted": {
			url: secure.URL, want: Failure{Reason: ReasonTLS, Error: "certificate", Advice: "origins.test.tls.ca_file"},
		},
		"it breaks off": {
			answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			want:   Failure{Reason: ReasonBrokenOff, Error: "EOF", Advice: "what the origin sends"},
		},
		"it says 403":            {answer: status(403), want: Failure{Reason: ReasonForbidden, Status: 403, Error: "403", Advice: "origins.test.headers"}},
		"it says 404 to media":   {answer: status(404), want: Failure{Reason: ReasonMediaNotFound, Status: 404, Error: "404", Advice: "origin_path"}},
		"it says 404":            {answer: status(404), isPlaylist: true, want: Failure{Reason: ReasonPlaylistNotFound, Status: 404, Error: "404", Advice: "fallback_on_404"}},
		"it says 500":            {answer: status(500), want: Failure{Reason: ReasonServerError, Status: 500, Error: "500", Advice: "what the origin sends"}},
		"it says 400":            {answer: status(400), want: Failure{Reason: ReasonStatus, Status: 400, Error: "400", Advice: "what the origin sends"}},
		"it redirects elsewhere": {answer: redirectTo(inner), want: Failure{Reason: ReasonHost, Error: "redirect", Advice: "redirect_hosts"}},
		"it redirects inwards": {
			answer: redirectTo(inner), upstream: upstream.Config{RedirectHosts: []upstream.RedirectHost{{Host: "127.0.0.1:*"}}},
			want: Failure{Reason: ReasonAddress, URL: inner + "/x.ts", Error: "127.0.0.1", Advice: "origins.test.allowed_networks"},
		},
		"it redirects to no URL": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://[::1/x?token=5ecret")
				w.WriteHeader(http.StatusFound)
			},
			want: Failure{Reason: ReasonRedirect, Error: "Location is no URL", Advice: "where the origin redirects"},
		},
		"it redirects without a Location": {answer: status(302), want: Failure{Reason: ReasonStatus, Status: 302, Error: "302", Advice: "what the origin sends"}},
		"it redirects for ever":           {answer: redirectTo(""), want: Failure{Reason: ReasonRedirect, Error: "more than 3", Advice: "public_names"}},
		"it compresses":                   {answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "br") }, want: Failure{Reason: ReasonMalformed, Error: "br", Advice: "what the origin sends"}},
		"its playlist is too large": {
			answer: respondWith(strings.Repeat("#", 70_000)), isPlaylist: true,
			want: Failure{Reason: ReasonTooLarge, Error: "fetch.max_playlist_size=64KiB", Advice: "the setting that the error names"},
		},
		"a base that is not listed": {
			answer: status(200), request: Request{Base: "http://a.example.com"},
			want: Failure{Reason: ReasonHost, URL: "http://a.example.com/x.ts", Error: `"a.example.com"`, Advice: `add "a.example.com" to origins.test.redirect_hosts`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := test.url
			if own == "" {
				own = serve(t, test.answer)
			}
			o := newFixture(t, func(c *Config) { c.Fetch.MaxPlaylistSize = 64 * setting.KiB },
				[]string{strings.Replace(own, "//", "//me:5ecret@", 1) + "?key=5ecret"}, WithUpstream(test.upstream))
			log := logTo(o)
			r := test.request
			r.Path, r.Query, r.Channel = "/x.ts", "token=5ecret", "a001"
			var err error
			if test.isPlaylist {
				_, err = o.Playlist(t.Context(), new(r))
			} else {
				_, _, err = fetchMedia(t, o, r)
			}
			if err == nil {
				t.Fatal("no error")
			}
			o.Report(FailedRequest{Err: err, Channel: "a001", IsPlaylist: test.isPlaylist, Base: r.Base, Path: r.Path})
			if test.want.URL == "" {
				test.want.URL = own + "/x.ts"
			}
			all := o.Failures()
			if len(all) != 1 {
				t.Fatalf("got %d failures, want one", len(all))
			}
			got := all[0]
			if got.Reason != test.want.Reason || got.Status != test.want.Status || got.URL != test.want.URL || got.Channel != "a001" ||
				got.Count != 1 || !strings.Contains(got.Error, test.want.Error) || !strings.Contains(got.Advice, test.want.Advice) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if text := log.String(); strings.Count(text, `"msg":"origin failed"`) != 1 || strings.Contains(text+fmt.Sprint(got), "5ecret") {
				t.Errorf("log %s, want one warning without a secret", text)
			}
		})
	}
}

// TestOrigin_Report_OncePerReasonAndMinute also checks that nothing is reported that is the viewer's own doing.
func TestOrigin_Report_OncePerReasonAndMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newNetworkFixture(t, newNetwork(t, nil), nil, "a")
		log := logTo(o)
		report := func(err error, times int) {
			for range times {
				o.Report(FailedRequest{Err: err, Channel: "a001", Path: "/x"})
			}
		}
		type line struct {
			Origin, Reason string
			Failures       int
		}
		next := func(want ...line) {
			t.Helper()
			var got []line
			for decoder := json.NewDecoder(log); ; {
				var l line
				if decoder.Decode(&l) != nil {
					break
				}
				got = append(got, l)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("warnings: got %v, want %v", got, want)
			}
		}
		report(&StatusError{Origin: "test", Status: 403}, 3)
		report(&StatusError{Origin: "test", Status: 500}, 1)
		next(line{"test", "forbidden", 1}, line{"test", "server_error", 1})
		sleep(59 * time.Second)
		report(&StatusError{Origin: "test", Status: 403}, 2)
		next()
		sleep(time.Second)
		report(&StatusError{Origin: "test", Status: 403}, 2)
		next(line{"test", "forbidden", 5})
		report(&HostError{Origin: "test", Host: "a"}, 2)
		report(&HostError{Origin: "test", Host: "b"}, 2)
		next(line{"test", "unlisted_host", 1}, line{"test", "unlisted_host", 2})
		for _, err := range []error{context.Canceled, fmt.Errorf("x: %w", ErrPath), ErrClosed, ErrTooSlow} {
			report(err, 1)
		}
		report(fmt.Errorf("x: %w", backends.NewOverload("fetch.max_conns", 1)), 1)
		next(line{"test", "overload", 1})
		if all := o.Failures(); len(all) != 4 || all[3].Reason != ReasonServerError || all[3].Count != 1 {
			t.Errorf("failures: got %+v, want the oldest last", all)
		}
		for i := range 300 { // hosts are bounded
			o.Report(FailedRequest{Err: &HostError{Origin: "test", Host: fmt.Sprint(i)}})
		}
		if got := strings.Count(log.String(), "\n"); got != maxWarnedHosts-2 {
			t.Errorf("%d warnings of 300 hosts, want %d", got, maxWarnedHosts-2)
		}
		log.Reset()
		sleep(time.Minute)
		o.Report(FailedRequest{Err: &HostError{Origin: "test", Host: "c"}})
		if !strings.Contains(log.String(), `\"c\"`) {
			t.Error("no warning of another host a minute later")
		}
	})
}

// TestOrigin_Report_Timeouts checks that the warning names the setting that ended the wait.
func TestOrigin_Report_Timeouts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer     http.HandlerFunc
		directives string
		want       Failure
	}{
		"no connection": {nil, "", Failure{Reason: ReasonConnect, Error: "fetch.connect_timeout=2s", Advice: "origins.test.url"}},
		"no response": {
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "",
			Failure{Reason: ReasonTimeout, Error: "fetch.response_timeout=10s", Advice: "fetch.response_timeout above 10s"},
		},
		"no response to a held reload": {
			func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "_HLS_msn=1",
			Failure{Reason: ReasonTimeout, Error: "fetch.blocking_timeout=20s", Advice: "fetch.blocking_timeout above 20s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newNetworkFixture(t, newNetwork(t, map[string]http.HandlerFunc{"a": test.answer}), nil, "a")
				_, err := o.Playlist(t.Context(), &Request{Path: "/live.m3u8", Directives: test.directives})
				o.Report(FailedRequest{Err: err, IsPlaylist: true, Path: "/live.m3u8"})
				got := o.Failures()[0]
				if got.Reason != test.want.Reason || got.URL != "http://a/live.m3u8" ||
					!strings.Contains(got.Error, test.want.Error) || !strings.Contains(got.Advice, test.want.Advice) {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
			})
		})
	}
}

// TestOrigin_Report_BodyEndsEarly checks the error that a reader of a broken body gets.
func TestOrigin_Report_BodyEndsEarly(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "the beginning")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	o := newFixture(t, nil, []string{url})
	_, _, err := fetchMedia(t, o, Request{Path: "/x.ts"})
	unreachable, ok := errors.AsType[*UnreachableError](err)
	if !ok || unreachable.URL != url+"/x.ts" {
		t.Fatalf("got %v, want an error with the URL", err)
	}
	o.Report(FailedRequest{Err: err})
	if got := o.Failures()[0].Reason; got != ReasonBrokenOff {
		t.Errorf("reason: got %s", got)
	}
}

func TestOrigin_ReportUnlisted_OncePerHost(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://a"})
	log := logTo(o)
	for range 3 {
		o.ReportUnlisted("https", "ads.example.com", "a001")
		o.ReportUnlisted("https", "cdn.example.com", "a002")
	}
	text := log.String()
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, `"host":"cdn.example.com"`) || !strings.Contains(text, "origins.test.redirect_hosts") {
		t.Errorf("log:\n%s\nwant one warning for each host, with the setting", text)
	}
}

// TestOrigin_Report_KeepsNothingOfTheBuffer refuses a host that stands in a buffer, and then writes another one there.
func TestOrigin_Report_KeepsNothingOfTheBuffer(t *testing.T) {
	t.Parallel()
	o := newFixture(t, nil, []string{"http://origin.example.com"})
	logged := logTo(o)
	buffer := []byte("http://edge-1.example.com")
	base := unsafe.String(&buffer[0], len(buffer))
	for range 3 {
		copy(buffer, "http://edge-1.example.com")
		_, err := o.Media(context.Background(), Request{Base: base, Path: "/a.ts"})
		o.Report(FailedRequest{Err: err, Base: base, Path: "/a.ts"})
		copy(buffer, "http://EDGE-2.example.net")
	}
	if n := strings.Count(logged.String(), "edge-1.example.com"); n == 0 || strings.Count(logged.String(), "\n") != 1 {
		t.Errorf("three failures of one host are warned of by\n%s", logged)
	}
}
