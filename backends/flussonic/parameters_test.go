package flussonic

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
)

// The channel and the input are those of the tests of Flussonic's last open version (3.69, 2013).
func TestCheck_ViewerCannotOverrideParameters(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		query, referer, agent string
	}{
		"in a referer":        {"token=123", "http://ya.ru/?token=456&name=lalala", ""},
		"in the query":        {"name=lalala&ip=10.0.0.1&request_type=update_session&token=123&token=456", "", ""},
		"in an escaped name":  {"%6eame=lalala&token=123&na%6De=x&name[]=y&name%00=z", "", ""},
		"in the user agent":   {"token=123", "", "x&name=lalala&ip=10.0.0.1#\r\nX-Real-IP: 10.0.0.1"},
		"behind a semicolon":  {"token=123&a=;name=lalala;ip=10.0.0.1", "http://ya.ru/;name=lalala", ""},
		"behind a line break": {"token=123&a=\r\n\r\nGET /?name=lalala HTTP/1.1", "\n&name=lalala", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			_, err := newBackend(t, s.URL(), nil).Check(t.Context(), &backends.Request{
				Channel: "bunny.mp4", Address: netip.MustParseAddr("94.95.96.97"),
				Query: tt.query, Referer: tt.referer, UserAgent: tt.agent,
			})
			if err != nil {
				t.Fatalf("check: %v", err)
			}
			want := url.Values{
				"name": {"bunny.mp4"}, "ip": {"94.95.96.97"}, "proto": {"hls"},
				"request_type": {"new_session"}, "request_number": {"0"},
				"session_id":     {"00000000-0000-8000-8000-000000000000"},
				"stream_clients": {"1"}, "total_clients": {"2"}, "token": {"123"}, "qs": {tt.query},
			}
			for name, value := range map[string]string{"referer": tt.referer, "user_agent": tt.agent} {
				if value != "" {
					want.Set(name, value)
				}
			}
			if diff := cmp.Diff(want, onlyRequest(t, s)); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if header := s.Requests()[0].Header; len(header) != 1 || header.Get("User-Agent") != "usher" {
				t.Errorf("got headers %v, want only our own", header)
			}
		})
	}
}

func TestCheck_NameKeepsFolders(t *testing.T) {
	t.Parallel()
	for _, channel := range []string{"vod/bunny.mp4", "cam2", "live/ustream", "a b/c%2F&d"} {
		s := startServer(t)
		r := backendtest.NewRequest("123")
		r.Channel = channel
		if _, err := newBackend(t, s.URL(), nil).Check(t.Context(), r); err != nil {
			t.Fatalf("check: %v", err)
		}
		if got := onlyRequest(t, s).Get("name"); got != channel {
			t.Errorf("got name %q, want %q", got, channel)
		}
	}
}

func TestParameters_IP(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "http://auth.example.com/", nil)
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1", "2001:db8::7": "2001:db8::7",
	} {
		r := &backends.Request{Address: netip.MustParseAddr(address)}
		if got := asMap(b.parameters(r, "123", time.Time{}))["ip"]; got != want {
			t.Errorf("%s: got ip %q, want %q", address, got, want)
		}
	}
	if _, sent := asMap(b.parameters(&backends.Request{}, "123", time.Time{}))["ip"]; sent {
		t.Error("got an ip for a viewer without an address")
	}
}

func asMap(list []httpbackend.Parameter) map[string]string {
	m := make(map[string]string, len(list))
	for _, p := range list {
		m[p.Name] = p.Value
	}
	return m
}

// The parameters tell the middleware a session's stage, check by check.
func TestParameters_RequestStage(t *testing.T) {
	t.Parallel()
	opened := time.Unix(1350274200, 0)
	allowed := func(s backends.Source) backends.Decision {
		return backends.Decision{Verdict: backends.Allowed, Source: s}
	}
	denied := func(s backends.Source) backends.Decision {
		return backends.Decision{Verdict: backends.Denied, Source: s}
	}
	known := func(number, duration string) map[string]string {
		return map[string]string{
			"request_type": "update_session", "request_number": number, "duration": duration, "bytes": "12345",
		}
	}
	unknown := map[string]string{"request_type": "new_session", "request_number": "0"}
	tests := map[string]struct {
		number  int
		current backends.Decision
		after   time.Duration
		want    map[string]string
	}{
		"the first check":                   {0, backends.Decision{}, 0, unknown},
		"the second, after allowed":         {1, allowed(backends.FromBackend), 180 * time.Second, known("1", "180")},
		"the hundredth":                     {99, allowed(backends.FromBackend), 5 * time.Hour, known("99", "18000")},
		"seconds are whole":                 {1, allowed(backends.FromBackend), 2999 * time.Millisecond, known("1", "2")},
		"a clock that was set back":         {1, allowed(backends.FromBackend), -time.Hour, known("1", "0")},
		"after an outage":                   {7, allowed(backends.FromCached), time.Hour, known("7", "3600")},
		"a denied session is known":         {1, denied(backends.FromBackend), time.Second, known("1", "1")},
		"a session over its limit is known": {3, denied(backends.FromLimit), time.Second, known("3", "1")},
		"a known session is never at 0":     {0, allowed(backends.FromBackend), 0, known("1", "0")},

		"the second, after an unanswered first": {1, backends.Decision{}, time.Minute, unknown},
		"the second, after fail-open allowed":   {1, allowed(backends.FromFailOpen), time.Minute, unknown},
		"the second, after fail-open denied":    {1, denied(backends.FromFailOpen), time.Minute, unknown},
		"a session admitted by ticket alone":    {1, allowed(backends.FromTicket), time.Minute, unknown},
		"a session denied locally":              {1, denied(backends.FromLocal), time.Minute, unknown},
	}
	b := newBackend(t, "http://auth.example.com/", nil)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := asMap(b.parameters(&backends.Request{
				Number: tt.number, Current: tt.current, Opened: opened, Bytes: 12345,
			}, "123", opened.Add(tt.after)))
			got := make(map[string]string)
			for _, name := range []string{"request_type", "request_number", "duration", "bytes"} {
				if value, sent := all[name]; sent {
					got[name] = value
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("stage (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParameters_UnknownOpening_NoDuration(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "http://auth.example.com/", nil)
	all := asMap(b.parameters(&backends.Request{Number: 1, Current: allowedDecision(nil)}, "123", time.Unix(1350274200, 0)))
	if got, sent := all["duration"]; sent {
		t.Errorf("got duration %q for a session without an opening time", got)
	}
}

func TestCheck_ViewerInputIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	foreign := strings.Repeat("\x00", 100_000)
	tests := map[string]struct {
		request backends.Request
		want    map[string]int // length of each value
	}{
		"a long user agent is cut": {
			backends.Request{Query: "token=123", UserAgent: long, Referer: "http://ya.ru/"},
			map[string]int{"token": 3, "qs": 9, "user_agent": 4096, "referer": 13},
		},
		"values beyond the bound are omitted": {
			backends.Request{Query: "token=123", UserAgent: long, Referer: long, Host: "live.example.com"},
			map[string]int{"token": 3, "qs": 9, "user_agent": 4096, "referer": 7168 - 3 - 11 - 4096},
		},
		"bytes count escaped": {
			backends.Request{Query: "token=123", UserAgent: foreign},
			map[string]int{"token": 3, "qs": 9, "user_agent": (7168 - 3 - 11) / 3},
		},
		"a token goes before the rest": {
			backends.Request{Query: "token=" + long, UserAgent: "VLC"},
			map[string]int{"token": 4096, "qs": 7168 - 4096 - 2},
		},
		"nothing is left for a token after an endless channel name": {
			backends.Request{Channel: foreign, Query: "token=123"},
			map[string]int{"name": 7168 / 3},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			if _, err := newBackend(t, s.URL(), nil).Check(t.Context(), &tt.request); err != nil {
				t.Fatalf("check: %v", err)
			}
			got := make(map[string]int)
			for _, name := range []string{"name", "token", "qs", "user_agent", "referer", "host"} {
				if value := onlyRequest(t, s).Get(name); value != "" {
					got[name] = len(value)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lengths (-want +got):\n%s", diff)
			}
			if line := len(s.Requests()[0].RawQuery); line > 7900 {
				t.Errorf("got a query of %d bytes, want one that servers accept", line)
			}
		})
	}
}

func TestParameters_QueryValueAllocatesNothing(t *testing.T) {
	query := "device=mag250&token=0123456789abcdef0123456789abcdef"
	if allocs := testing.AllocsPerRun(100, func() { _ = httpbackend.QueryValue(query, "token") }); allocs != 0 {
		t.Errorf("got %v allocations, want none", allocs)
	}
}

func TestParameters_DVR(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "http://auth.example.com/", nil)
	for path, want := range map[string]string{"/play/a001/archive-1-2.m3u8": "true", "/play/a001/index.m3u8": ""} {
		r := &backends.Request{Channel: "a001", Path: path}
		if got := asMap(b.parameters(r, "123", time.Time{}))["dvr"]; got != want {
			t.Errorf("%s: got dvr %q, want %q", path, got, want)
		}
	}
}
