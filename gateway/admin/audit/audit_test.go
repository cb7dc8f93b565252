package audit_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/admin/access"
	"usher/gateway/admin/audit"
)

// failingStream is a stream that cannot be written.
type failingStream struct{}

func (failingStream) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestLog_Record(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		principal access.Principal
		address   string
		err       error
		want      string
	}{
		"done": {
			access.Principal{Name: "support", Role: access.Write},
			"[2001:db8::7]:1234", nil,
			`actor=support client_address=2001:db8::7 action=kick target=x result=done reason=shared`,
		},
		"failed": {
			access.Principal{Name: "support", Role: access.Write},
			"192.0.2.7:1234", errors.New("not found"),
			`actor=support client_address=192.0.2.7 action=kick target=x result="not found" reason=shared`,
		},
		"nobody, at no address": {access.Principal{}, "@", nil, `actor="" client_address=@ action=kick target=x result=done reason=shared`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			r := httptest.NewRequestWithContext(access.WithPrincipal(t.Context(), test.principal), "POST", "/", nil)
			r.RemoteAddr = test.address
			audit.New(slog.New(slog.NewTextHandler(&log, nil)), failingStream{}).
				Record(r, "kick", "x", test.err, slog.String("reason", "shared"))
			got := regexp.MustCompile(`^time=\S+ `).ReplaceAllString(log.String(), "")
			if diff := cmp.Diff("level=INFO msg=audit "+test.want+"\n", got); diff != "" {
				t.Errorf("log (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLog_Record_StreamHasJSONLines(t *testing.T) {
	t.Parallel()
	var stream bytes.Buffer
	r := httptest.NewRequestWithContext(access.WithPrincipal(t.Context(), access.Principal{Name: "support"}), "POST", "/", nil)
	l := audit.New(slog.New(slog.DiscardHandler), &stream)
	l.Record(r, "kick", "x", nil)
	l.Record(r, "unban", "b1", nil)
	got := regexp.MustCompile(`"time":"[^"]+"`).ReplaceAllString(stream.String(), `"time":"…"`)
	want := `{"time":"…","level":"INFO","msg":"audit","actor":"support","client_address":"192.0.2.1","action":"kick","target":"x","result":"done"}
{"time":"…","level":"INFO","msg":"audit","actor":"support","client_address":"192.0.2.1","action":"unban","target":"b1","result":"done"}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
}

// TestLog_Record_LongText_Shortened bounds what anybody who reaches the listener can make a record hold.
func TestLog_Record_LongText_Shortened(t *testing.T) {
	t.Parallel()
	var stream bytes.Buffer
	long := strings.Repeat("x", 1<<20)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/", nil)
	r.SetPathValue("id", long)
	audit.New(slog.New(slog.DiscardHandler), &stream).Record(r, "unban", audit.Target(r), errors.New(long))
	if size := stream.Len(); size > 3<<10 || size < 2<<10 {
		t.Errorf("the record has %d bytes", size)
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"id": "b1", "name": "portal", "other": "/api/v1/kick"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/kick", nil)
		r.SetPathValue(name, want)
		if got := audit.Target(r); got != want {
			t.Errorf("of a %s: %q, want %q", name, got, want)
		}
	}
}
