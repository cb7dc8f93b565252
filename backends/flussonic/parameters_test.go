package flussonic

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

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
