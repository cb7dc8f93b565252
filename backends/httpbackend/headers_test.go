package httpbackend

import (
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestAstraHeaders_OriginNeedsSchemeAndHost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scheme, host string
		want         []string
	}{
		"both":        {"https", "tv.example.com", []string{"https://tv.example.com"}},
		"host alone":  {"", "tv.example.com", nil},
		"scheme only": {"https", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := AstraHeaders(&backends.Request{Scheme: test.scheme, Host: test.host})
			if got := h["X-Real-Origin"]; !cmp.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestAstraHeaders_All has the names as Astra's and Alta's manuals spell them, and each fact alone as an edge reports it.
func TestAstraHeaders_All(t *testing.T) {
	t.Parallel()
	request := func(e *backends.EdgeReport) *backends.Request {
		return &backends.Request{
			Session: backends.SessionID{7: 0x08, 6: 0x10}, Channel: "a001", Path: "/play/a001/index.m3u8", Scheme: "https",
			Host: "tv.example.com", UserAgent: "VLC/3.0.20", Address: netip.MustParseAddr("::ffff:192.0.2.7"), Edge: e,
		}
	}
	always := http.Header{"X-Real-IP": {"192.0.2.7"}, "X-Real-UA": {"VLC/3.0.20"}}
	for name, tt := range map[string]struct {
		edge *backends.EdgeReport
		more http.Header
	}{
		"a player": {nil, http.Header{
			"X-Session-ID": {"2"}, "X-Channel-ID": {"a001"}, "X-Real-Path": {"/play/a001/index.m3u8"},
			"X-Real-Host": {"tv.example.com"}, "X-Real-Origin": {"https://tv.example.com"},
		}},
		"an edge's session":      {&backends.EdgeReport{HasSession: true, AstraSession: "41"}, http.Header{"X-Session-ID": {"41"}}},
		"a session without name": {&backends.EdgeReport{HasSession: true}, http.Header{"X-Session-ID": {"2"}}},
		"a channel":              {&backends.EdgeReport{HasChannel: true}, http.Header{"X-Channel-ID": {"a001"}}},
		"a path":                 {&backends.EdgeReport{HasPath: true}, http.Header{"X-Real-Path": {"/play/a001/index.m3u8"}}},
		"a host":                 {&backends.EdgeReport{HasHost: true}, http.Header{"X-Real-Host": {"tv.example.com"}}},
		"an origin":              {&backends.EdgeReport{Origin: "http://edge"}, http.Header{"X-Real-Origin": {"http://edge"}}},
		"Flussonic's session":    {&backends.EdgeReport{FlussonicSession: "41"}, nil},
	} {
		want := always.Clone()
		maps.Copy(want, tt.more)
		if diff := cmp.Diff(want, AstraHeaders(request(tt.edge))); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", name, diff)
		}
	}
}

// TestAstraHeaders_LeavesOutWhatIsUnknown has an edge that reported nothing, and a viewer of whom nothing is known.
func TestAstraHeaders_LeavesOutWhatIsUnknown(t *testing.T) {
	t.Parallel()
	known := &backends.Request{Channel: "tv", Path: "/tv/index.m3u8", Host: "tv.example.com", UserAgent: "VLC", Edge: &backends.EdgeReport{}}
	if got, want := AstraHeaders(known), (http.Header{"X-Real-UA": {"VLC"}}); !cmp.Equal(got, want) {
		t.Errorf("an edge that reported nothing: got %v, want %v", got, want)
	}
	if got, want := AstraHeaders(&backends.Request{}), (http.Header{"X-Session-ID": {"0"}}); !cmp.Equal(got, want) {
		t.Errorf("a viewer of whom nothing is known: got %v, want %v", got, want)
	}
}

func TestSanitizeHeader_RemovesControlsAndCutsToSize(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", maxHeaderValue)
	for value, want := range map[string]string{
		"a b":          "a b",
		" a ":          "a",
		"a\x1fb":       "ab",
		"a\x7fb":       "ab",
		"a\tb":         "ab",
		"\x1f a":       "a",
		"\xff\x1f\xe9": "\xff\xe9",
		longest:        longest,
		longest + "y":  longest,
	} {
		if got := sanitizeHeader(value); got != want {
			t.Errorf("%.20q of %d bytes: got %.20q of %d bytes, want %d", value, len(value), got, len(got), len(want))
		}
	}
}

func TestIsToken(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"X-A": true, "!~": true, "": false, "a b": false, "a\x7f": false, "a:": false, "\u00e9": false} {
		if got := isToken(name); got != want {
			t.Errorf("%q is a header's name: %t, want %t", name, got, want)
		}
	}
}
