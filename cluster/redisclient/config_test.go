package redisclient

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/backends/setting"
)

func TestNew_UnreadableTLSFiles(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	must(t, os.WriteFile(empty, nil, 0o600))
	for name, test := range map[string]struct {
		config TLSConfig
		want   string
	}{
		"no authority":        {TLSConfig{true, setting.TLSConfig{CAFile: empty + "x"}}, "redis.tls.ca_file: open " + empty},
		"an empty authority":  {TLSConfig{true, setting.TLSConfig{CAFile: empty}}, "redis.tls.ca_file: no certificate in " + empty},
		"no certificate":      {TLSConfig{true, setting.TLSConfig{CertFile: empty, KeyFile: empty}}, "redis.tls.cert_file: "},
		"no TLS, so no files": {TLSConfig{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := New(Config{Addresses: []string{"127.0.0.1:1"}, TLS: test.config}, time.Second, slog.New(slog.DiscardHandler))
			if client != nil {
				client.Close()
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
