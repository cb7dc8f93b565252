package viewer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/bench/pace"
	"usher/bench/record"
	"usher/bench/result"
	"usher/bench/stage"
)

// TestRun_OverTCP plays over real connections, of each protocol.
func TestRun_OverTCP(t *testing.T) {
	t.Parallel()
	for _, isTLS := range []bool{false, true} {
		for _, http2 := range []bool{false, true} {
			for _, light := range []bool{false, true} {
				name := strings.Join([]string{
					map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2], map[bool]string{false: "plain", true: "TLS"}[isTLS],
					map[bool]string{false: "full", true: "light"}[light],
				}, " ")
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					playOverTCP(t, isTLS, http2, light)
				})
			}
		}
	}
}

func playOverTCP(t *testing.T, isTLS, http2, light bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const viewers, enough = 40, 3 * 40
	var reloads atomic.Int64
	origin := stage.NewOrigin(stage.Config{SegmentDuration: time.Second})
	want := map[bool]int{false: 1, true: 2}[http2]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != want || !strings.HasPrefix(r.RemoteAddr, "127.9.") {
			t.Errorf("HTTP/%d from %s, want HTTP/%d from 127.9.0.0/16", r.ProtoMajor, r.RemoteAddr, want)
		}
		if strings.HasSuffix(r.URL.Path, "low.m3u8") && reloads.Add(1) == enough {
			cancel()
		}
		origin.ServeHTTP(w, r)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetHTTP2(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.EnableHTTP2 = true
	c := oneTarget(viewers)
	c.Pace, c.HTTP2, c.Light, c.Sources = pace.Constant(400), http2, light, netip.MustParsePrefix("127.9.0.0/16")
	if isTLS {
		server.StartTLS()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		c.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	} else {
		server.Start()
	}
	defer server.Close()
	c.Targets = []string{server.URL}
	r := record.New(time.Now())
	if err := Run(ctx, c, r); err != nil {
		t.Fatal(err)
	}
	m := r.Finish(time.Now())
	if m.Arrivals.Started != viewers || m.Arrivals.Dropped > 0 {
		t.Errorf("%d started, %d dropped; want %d, none", m.Arrivals.Started, m.Arrivals.Dropped, viewers)
	}
	for _, op := range []string{result.Opening, result.Playlist, result.Multivariant, result.Segment} {
		o := m.Operations[op]
		if o == nil {
			if op != result.Segment || !light {
				t.Errorf("no %s", op)
			}
			continue
		}
		if o.Failed() > 0 || o.FirstByte.Count() != o.Requests || o.Bytes == 0 {
			t.Errorf("%s: %d requests of %d bytes, failed %v, %d first bytes", op, o.Requests, o.Bytes, o.Errors, o.FirstByte.Count())
		}
	}
}

func TestRun_InvalidConfig(t *testing.T) {
	t.Parallel()
	if err := Run(t.Context(), Config{}, record.New(time.Now())); err == nil {
		t.Error("no error")
	}
}
