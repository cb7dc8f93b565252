package flussonicquery

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/httpbackend"
)

// The list is in the order of Flussonic's documentation.
func TestParameters_All(t *testing.T) {
	t.Parallel()
	opened := time.Unix(1350274200, 0)
	r := &backends.Request{
		Session: backends.SessionID{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0},
		Number:  2, Channel: "a001", Query: "token=123&site=1", Path: "/play/a001/index.m3u8",
		Host: "live.example.com", UserAgent: "VLC/3.0.20", Referer: "http://ya.ru/", Address: netip.MustParseAddr("192.0.2.7"),
		Opened: opened, Bytes: 12345, Current: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend},
	}
	count := func(channel string) (ofChannel, all int) { return len(channel), 7 }
	want := []httpbackend.Parameter{
		{Name: "name", Value: "a001"},
		{Name: "ip", Value: "192.0.2.7"},
		{Name: "proto", Value: "hls"},
		{Name: "request_type", Value: "update_session"},
		{Name: "request_number", Value: "2"},
		{Name: "session_id", Value: "12345678-9abc-8ef0-8000-000000000000"},
		{Name: "stream_clients", Value: "4"},
		{Name: "total_clients", Value: "7"},
		{Name: "token", Value: "123"},
		{Name: "duration", Value: "90"},
		{Name: "bytes", Value: "12345"},
		{Name: "qs", Value: "token=123&site=1"},
		{Name: "user_agent", Value: "VLC/3.0.20"},
		{Name: "referer", Value: "http://ya.ru/"},
		{Name: "host", Value: "live.example.com"},
	}
	if diff := cmp.Diff(want, Parameters(r, "123", count, opened.Add(90*time.Second))); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}

	opening := asMap(Parameters(&backends.Request{Channel: "a001", Opened: opened, Bytes: 1}, "", nil, opened.Add(time.Hour)))
	wantOpening := map[string]string{
		"name": "a001", "proto": "hls", "request_type": "new_session", "request_number": "0",
		"session_id": "00000000-0000-8000-8000-000000000000", "stream_clients": "0", "total_clients": "0",
	}
	if diff := cmp.Diff(wantOpening, opening); diff != "" {
		t.Errorf("an opening check of a viewer who shows nothing (-want +got):\n%s", diff)
	}
}

// What an edge reports goes out as it said, within bounds. Whether it plays the archive is not guessed from the path then.
func TestParameters_Edge(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	const derived = "00000000-0000-8000-8000-000000000000"
	for name, tt := range map[string]struct {
		edge backends.EdgeReport
		want [3]string // proto, session_id, dvr
	}{
		"nothing":    {backends.EdgeReport{}, [3]string{"hls", derived, ""}},
		"all":        {backends.EdgeReport{Protocol: "dash", FlussonicSession: "of-the-edge", IsArchive: true}, [3]string{"dash", "of-the-edge", "true"}},
		"too much":   {backends.EdgeReport{Protocol: long, FlussonicSession: long}, [3]string{long[:128], long[:128], ""}},
		"of another": {backends.EdgeReport{AstraSession: "7"}, [3]string{"hls", derived, ""}},
	} {
		r := &backends.Request{Channel: "a001", Path: "/play/a001/archive-1-2.m3u8", Edge: &tt.edge}
		all := asMap(Parameters(r, "123", nil, time.Time{}))
		if got := [3]string{all["proto"], all["session_id"], all["dvr"]}; got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// The bound is that of the address as sent, so what takes three bytes there counts three, and every other byte one.
func TestParameters_ViewerInputIsBounded(t *testing.T) {
	t.Parallel()
	const reserved = "\x00 !\"#$%&'()*+,/:;<=>?@[\\]^`{|}\x7f\x80\xff"
	const unreserved = "azAZ09my-._~"
	tests := map[string]struct {
		channel, token, query string
		want                  map[string]int // length of each value
	}{
		"all fits":                    {"a001", "123", "token=123", map[string]int{"name": 4, "token": 3, "qs": 9}},
		"the longest value":           {"", strings.Repeat("x", 4096), "", map[string]int{"token": 4096}},
		"a longer one is cut":         {"", strings.Repeat("x", 4097), "", map[string]int{"token": 4096}},
		"as many unreserved":          {strings.Repeat(unreserved, 300), strings.Repeat(unreserved, 297) + "abcd", "", map[string]int{"name": 3600, "token": 3568}},
		"one more is cut":             {strings.Repeat(unreserved, 300), strings.Repeat(unreserved, 297) + "abcde", "", map[string]int{"name": 3600, "token": 3568}},
		"reserved ones count thrice":  {strings.Repeat(reserved, 60), strings.Repeat("x", 2000), "", map[string]int{"name": 60 * len(reserved), "token": 7168 - 180*len(reserved)}},
		"two bytes are left for none": {strings.Repeat("x", 4096), strings.Repeat("x", 3070), "//", map[string]int{"name": 4096, "token": 3070}},
		"three are left for one":      {strings.Repeat("x", 4096), strings.Repeat("x", 3069), "//", map[string]int{"name": 4096, "token": 3069, "qs": 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, sent := map[string]int{}, 0
			for _, p := range Parameters(&backends.Request{Channel: tt.channel, Query: tt.query}, tt.token, nil, time.Time{}) {
				if p.Name == "name" || p.Name == "token" || p.Name == "qs" {
					got[p.Name] = len(p.Value)
					sent += len(strings.ReplaceAll(url.QueryEscape(p.Value), "+", "%20"))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || sent > 7168 {
				t.Errorf("%d bytes escaped, want at most 7168; lengths (-want +got):\n%s", sent, diff)
			}
		})
	}
}

func TestParameters_IP(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "fe80::1%eth0": "fe80::1", "2001:db8::7": "2001:db8::7",
	} {
		r := &backends.Request{Address: netip.MustParseAddr(address)}
		if got := asMap(Parameters(r, "123", nil, time.Time{}))["ip"]; got != want {
			t.Errorf("%s: got ip %q, want %q", address, got, want)
		}
	}
	if _, sent := asMap(Parameters(&backends.Request{}, "123", nil, time.Time{}))["ip"]; sent {
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
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := asMap(Parameters(&backends.Request{
				Number: tt.number, Current: tt.current, Opened: opened, Bytes: 12345,
			}, "123", nil, opened.Add(tt.after)))
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
	r := &backends.Request{Number: 1, Current: backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend}}
	all := asMap(Parameters(r, "123", nil, time.Unix(1350274200, 0)))
	if got, sent := all["duration"]; sent {
		t.Errorf("got duration %q for a session without an opening time", got)
	}
}

func TestParameters_DVR(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/play/a001/archive-1-2.m3u8": "true", "/play/a001/index.m3u8": ""} {
		r := &backends.Request{Channel: "a001", Path: path}
		if got := asMap(Parameters(r, "123", nil, time.Time{}))["dvr"]; got != want {
			t.Errorf("%s: got dvr %q, want %q", path, got, want)
		}
	}
}
