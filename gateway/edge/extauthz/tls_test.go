package extauthz

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"usher/gateway"
)

// certificate writes a certificate for 127.0.0.1 and its key, and returns a pool that trusts it.
func certificate(t *testing.T) (gateway.TLSConfig, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "usher"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AddCert(parsed)
	return gateway.TLSConfig{
		CertFile: write("usher.pem", "CERTIFICATE", cert), KeyFile: write("usher.key", "PRIVATE KEY", secret),
	}, trust
}

func TestServer_Run_TLS(t *testing.T) {
	t.Parallel()
	files, trust := certificate(t)
	checker := &recorder{}
	r := run(t, checker, options{
		config:      Config{TLS: files},
		credentials: credentials.NewTLS(&tls.Config{RootCAs: trust, ServerName: "127.0.0.1"}),
	})
	if r.check(t, playlist()).GetOkResponse() == nil {
		t.Error("the check over TLS is not allowed")
	}
	if got := checker.only(t).edge.String(); got != "127.0.0.1" {
		t.Errorf("the edge is %s, want the connection's 127.0.0.1", got)
	}
}

func TestServer_Run_TLS_PlainRefused(t *testing.T) {
	t.Parallel()
	files, _ := certificate(t)
	checker := &recorder{}
	r := run(t, checker, options{config: Config{TLS: files}})
	if _, err := r.Check(t.Context(), playlist()); status.Code(err) != codes.Unavailable {
		t.Errorf("a plain check: %v, want Unavailable", err)
	}
	if len(checker.checks) != 0 {
		t.Errorf("%d checks were made, want none", len(checker.checks))
	}
}

func TestServer_Run_InvalidCertificate(t *testing.T) {
	t.Parallel()
	files, _ := certificate(t)
	other, _ := certificate(t)
	for name, wrong := range map[string]gateway.TLSConfig{
		"no such file":              {CertFile: files.CertFile + ".old", KeyFile: files.KeyFile},
		"no certificate":            {CertFile: files.KeyFile, KeyFile: files.KeyFile},
		"another certificate's key": {CertFile: files.CertFile, KeyFile: other.KeyFile},
	} {
		listener := listen(t)
		r := serve(t, &recorder{}, options{config: Config{TLS: wrong}, listener: listener})
		err := await(t, "the server ends", r.ended)
		if err == nil || !strings.HasPrefix(err.Error(), "ext_authz.tls.cert_file") {
			t.Errorf("%s: %v, want an error that begins with ext_authz.tls.cert_file", name, err)
		}
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String()); err == nil {
			_ = conn.Close()
			t.Errorf("%s: the listener is still open", name)
		}
		_ = r.conn.Close()
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config Config
		want   []string // the start of each problem
	}{
		"none":                {},
		"a port":              {config: Config{Listen: ":9002"}},
		"an address with TLS": {config: Config{Listen: "127.0.0.1:9002", TLS: gateway.TLSConfig{CertFile: "a", KeyFile: "b"}}},
		"no port":             {config: Config{Listen: "127.0.0.1"}, want: []string{`listen: "127.0.0.1" is no address`}},
		"an empty port":       {config: Config{Listen: "127.0.0.1:"}, want: []string{`listen: "127.0.0.1:" is no address`}},
		"both at once": {
			config: Config{Listen: "9002", TLS: gateway.TLSConfig{KeyFile: "b"}},
			want:   []string{`listen: "9002" is no address`, "tls: certificate and key go together"},
		},
	}
	for name, test := range tests {
		err := test.config.Validate()
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: %v, want %d problems", name, err, len(test.want))
			continue
		}
		for i, want := range test.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%s: problem %q, want one that begins with %q", name, got[i], want)
			}
		}
	}
}
