package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/backendtest/testtls"
	"usher/backends/setting"
	"usher/gateway/gatewaytest"
	"usher/gateway/upstream"
)

// startTLS starts a server that answers with its protocol and the name in the client's certificate, or redirects.
func startTLS(t *testing.T, id testtls.Identity, auth tls.ClientAuthType, clients *testtls.Authority, redirect string) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if redirect != "" {
			http.Redirect(w, r, redirect, http.StatusFound)
			return
		}
		name := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = fmt.Fprintf(w, "%s %s", r.Proto, name)
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{id.Certificate}, ClientAuth: auth, ClientCAs: clients.Pool}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// TestOrigin_TLS fetches over HTTP/2 with an authority and a certificate of our own, and from where the origin redirects.
func TestOrigin_TLS(t *testing.T) {
	t.Parallel()
	ca := testtls.NewAuthority(t)
	origin, ours := ca.Issue(t, "origin.example.com", nil), ca.Issue(t, "usher", nil)
	other := startTLS(t, origin, tls.RequestClientCert, ca, "")
	files := setting.TLSConfig{CAFile: ca.File, CertFile: ours.CertFile, KeyFile: ours.KeyFile, ServerName: "origin.example.com"}
	redirectTo := func(sendsHeaders bool) upstream.Config {
		return upstream.Config{
			TLS: files, RedirectHosts: []upstream.RedirectHost{{Host: "127.0.0.1:*", SendHeaders: sendsHeaders}},
			AllowedNetworks: loopback(),
		}
	}
	for name, test := range map[string]struct {
		redirect string
		upstream upstream.Config
		want     string
	}{
		"its own authority, our certificate": {upstream: upstream.Config{TLS: files}, want: "HTTP/2.0 usher"},
		"a redirect":                         {redirect: other.URL, upstream: redirectTo(false), want: "HTTP/2.0 nobody"},
		"a redirect that gets headers":       {redirect: other.URL, upstream: redirectTo(true), want: "HTTP/2.0 usher"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startTLS(t, origin, tls.RequireAndVerifyClientCert, ca, test.redirect)
			o := newFixture(t, nil, []string{s.URL}, WithUpstream(test.upstream))
			if _, body := mustMedia(t, o, Request{Path: "/x.ts"}); body != test.want {
				t.Errorf("got %q, want %q", body, test.want)
			}
		})
	}
}

// TestOrigin_TLS_CertificatesRotate moves an origin's client to another authority while it runs. The server is outside the bubble.
func TestOrigin_TLS_CertificatesRotate(t *testing.T) {
	t.Parallel()
	before, after := testtls.NewAuthority(t), testtls.NewAuthority(t)
	first := startTLS(t, before.Issue(t, "origin", nil), tls.RequireAndVerifyClientCert, before, "")
	second := startTLS(t, after.Issue(t, "origin", nil), tls.RequireAndVerifyClientCert, after, "")
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		files := setting.TLSConfig{
			CAFile: filepath.Join(folder, "ca.pem"), CertFile: filepath.Join(folder, "cert.pem"), KeyFile: filepath.Join(folder, "key.pem"),
		}
		install := func(ca *testtls.Authority, generation int64) {
			ours, at := ca.Issue(t, "usher", nil), time.Unix(generation, 0)
			testtls.Replace(t, files.CAFile, ca.File, at)
			testtls.Replace(t, files.CertFile, ours.CertFile, at)
			testtls.Replace(t, files.KeyFile, ours.KeyFile, at)
		}
		install(before, 1)
		opened, err := files.Open(nil)
		if err != nil {
			t.Fatal(err)
		}
		o := &Origin{name: "test"}
		if o.hosts, err = upstream.NewHosts([]*url.URL{mustURL(t, first.URL), mustURL(t, second.URL)}, nil, upstream.Config{}); err != nil {
			t.Fatal(err)
		}
		dial := o.dialTLS(o.dial(), opened)
		connects := func(s *httptest.Server) error {
			conn, err := dial(context.WithoutCancel(t.Context()), "tcp", strings.TrimPrefix(s.URL, "https://"))
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
		if err := connects(first); err != nil {
			t.Fatal(err)
		}
		if err := connects(second); setting.TLSAdvice(err, "origins.test.tls") == "" {
			t.Errorf("of another authority: got %v, want advice", err)
		}
		install(after, 2)
		<-time.After(setting.TLSReloadInterval)
		if err := connects(second); err != nil {
			t.Errorf("after the files have changed: %v", err)
		}
	})
}

func TestNew_UnreadableTLSFiles(t *testing.T) {
	t.Parallel()
	cache, err := NewCache(DefaultConfig().Cache, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	missing := upstream.Config{TLS: setting.TLSConfig{CAFile: filepath.Join(t.TempDir(), "ca.pem")}}
	_, err = New("test", []*url.URL{mustURL(t, "https://a")}, cache, DefaultConfig(), slog.New(slog.DiscardHandler), WithUpstream(missing))
	if err == nil || !strings.Contains(err.Error(), "origins.test.tls.ca_file: ") || errors.Unwrap(err) == nil {
		t.Errorf("got %v, want an error that names the setting", err)
	}
}

// silentConn is a connection that loses everything, in both directions and without an error, once isSilent is set.
type silentConn struct {
	net.Conn

	isSilent *atomic.Bool
}

func (c silentConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.isSilent.Load() {
			return n, err
		}
	}
}

func (c silentConn) Write(b []byte) (int, error) {
	if c.isSilent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// TestMedia_SilentHTTP2Connection_Replaced has the connection to an origin die silently. The next fetches get a new one.
func TestMedia_SilentHTTP2Connection_Replaced(t *testing.T) {
	t.Parallel()
	ca := testtls.NewAuthority(t)
	id := ca.Issue(t, "origin.example.com", nil)
	synctest.Test(t, func(t *testing.T) {
		l := gatewaytest.NewListener()
		s := &http.Server{
			Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
			TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.Certificate}},
			ReadHeaderTimeout: time.Hour, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		}
		go func() { _ = s.ServeTLS(l, "", "") }()
		t.Cleanup(func() { _ = s.Close(); synctest.Wait() })
		var isSilent *atomic.Bool // of the last connection
		dial := func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := l.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			isSilent = new(atomic.Bool)
			return tls.Client(silentConn{conn, isSilent}, &tls.Config{
				MinVersion: tls.VersionTLS13, RootCAs: ca.Pool, ServerName: "origin.example.com", NextProtos: []string{"h2"},
			}), nil
		}
		o := newFixture(t, nil, []string{"https://origin.example.com"}, WithTransport(newTransport(DefaultConfig().Fetch, dial, dial)))
		if _, body := mustMedia(t, o, Request{Path: "/1.ts"}); body != "HTTP/2.0" {
			t.Fatalf("the origin was asked by %q", body)
		}
		isSilent.Store(true)
		if _, _, err := fetchMedia(t, o, Request{Path: "/2.ts"}); err == nil {
			t.Error("a fetch over a silent connection succeeded")
		}
		sleep(DefaultConfig().Fetch.EjectFor)
		mustMedia(t, o, Request{Path: "/3.ts"})
	})
}
