package setting_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"usher/backends/backendtest/testtls"
	"usher/backends/setting"
)

// serveTLS accepts connections, and answers the first byte of each by another one.
func serveTLS(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if cfg != nil {
					conn = tls.Server(conn, cfg)
				}
				_, _ = conn.Read(make([]byte, 1))
				_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			}()
		}
	}()
	return listener.Addr().String()
}

// TestTLSFiles_Handshake_Advice checks that every way in which certificates do not fit names the setting to change.
func TestTLSFiles_Handshake_Advice(t *testing.T) {
	t.Parallel()
	ca, other := testtls.NewAuthority(t), testtls.NewAuthority(t)
	sound, ours, stranger := ca.Issue(t, "tv.example.com", nil), ca.Issue(t, "usher", nil), other.Issue(t, "usher", nil)
	expired := ca.Issue(t, "tv.example.com", func(c *x509.Certificate) { c.NotAfter = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) })
	with := func(id testtls.Identity, auth tls.ClientAuthType, version uint16) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{id.Certificate}, ClientAuth: auth, ClientCAs: ca.Pool, MaxVersion: version}
	}
	for name, test := range map[string]struct {
		server *tls.Config
		client setting.TLSConfig
		want   string
	}{
		"all fits":               {with(sound, tls.RequireAndVerifyClientCert, 0), setting.TLSConfig{CAFile: ca.File, CertFile: ours.CertFile, KeyFile: ours.KeyFile, ServerName: "tv.example.com"}, ""},
		"the address is a name":  {with(sound, tls.NoClientCert, 0), setting.TLSConfig{CAFile: ca.File}, ""},
		"anything goes":          {with(expired, tls.NoClientCert, 0), setting.TLSConfig{InsecureSkipVerify: true}, ""},
		"another authority":      {with(sound, tls.NoClientCert, 0), setting.TLSConfig{CAFile: other.File}, "at.tls.ca_file"},
		"no authority":           {with(sound, tls.NoClientCert, 0), setting.TLSConfig{}, "at.tls.ca_file"},
		"another name":           {with(sound, tls.NoClientCert, 0), setting.TLSConfig{CAFile: ca.File, ServerName: "radio.example.com"}, "at.tls.server_name"},
		"an expired certificate": {with(expired, tls.NoClientCert, 0), setting.TLSConfig{CAFile: ca.File}, "renew the server's certificate"},
		"no TLS":                 {nil, setting.TLSConfig{CAFile: ca.File}, "speaks no TLS"},
		"no client certificate":  {with(sound, tls.RequireAndVerifyClientCert, 0), setting.TLSConfig{CAFile: ca.File}, "at.tls.cert_file"},
		"one of a stranger":      {with(sound, tls.RequireAndVerifyClientCert, 0), setting.TLSConfig{CAFile: ca.File, CertFile: stranger.CertFile, KeyFile: stranger.KeyFile}, "at.tls.cert_file"},
		"none, in TLS 1.2":       {with(sound, tls.RequireAndVerifyClientCert, tls.VersionTLS12), setting.TLSConfig{CAFile: ca.File}, "at.tls.cert_file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := serveTLS(t, test.server)
			files, err := test.client.Open(nil)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			secured, err := files.Handshake(t.Context(), conn, address, nil)
			if err == nil {
				defer func() { _ = secured.Close() }()
				_, _ = secured.Write([]byte("?"))
				_, err = secured.Read(make([]byte, 1)) // in TLS 1.3 a server refuses a client's certificate only now
			}
			got := setting.TLSAdvice(err, "at.tls")
			if (test.want == "") != (err == nil) || test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("got error %v and advice %q, want %q", err, got, test.want)
			}
		})
	}
}

func TestTLSAdvice_OtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("tls"), &net.OpError{Op: "dial", Err: errors.New("refused")}} {
		if got := setting.TLSAdvice(err, "tls"); got != "" {
			t.Errorf("%v: got %q, want no advice", err, got)
		}
	}
}
