package httpbackend

import (
	"net/http"
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

func TestIsReserved(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"X-Real-IP": true, "Host": true, "Content-Length": true, "Traceparent": true, "Forwarded": true, "X-Device": false,
	} {
		if got := isReserved(name); got != want {
			t.Errorf("%s is reserved: %t, want %t", name, got, want)
		}
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
