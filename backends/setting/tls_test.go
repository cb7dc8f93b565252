package setting_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/backends/setting"
)

// identity is a self-signed certificate with its key, for the host usher.example, and their PEM files.
type identity struct {
	certificate       tls.Certificate
	certFile, keyFile string
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("make a key: %v", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"usher.example"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatalf("make a certificate: %v", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("write a key: %v", err)
	}
	folder := t.TempDir()
	id := identity{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		certFile:    filepath.Join(folder, "cert.pem"), keyFile: filepath.Join(folder, "key.pem"),
	}
	for name, block := range map[string]*pem.Block{
		id.certFile: {Type: "CERTIFICATE", Bytes: der}, id.keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatalf("write a PEM file: %v", err)
		}
	}
	return id
}

// The server demands the client's certificate, and the client does not trust the server by the system's roots.
func TestTLSConfig_Load_Handshake(t *testing.T) {
	t.Parallel()
	server, client, other := newIdentity(t), newIdentity(t), newIdentity(t)
	trusted := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(client.certificate.Certificate[0])
	if err != nil {
		t.Fatalf("read the certificate: %v", err)
	}
	trusted.AddCert(leaf)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{server.certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
	}
	s.StartTLS()
	t.Cleanup(s.Close)

	good := setting.TLSConfig{
		CAFile: server.certFile, CertFile: client.certFile, KeyFile: client.keyFile, ServerName: "usher.example",
	}
	for name, tt := range map[string]struct {
		change func(*setting.TLSConfig)
		wrong  string
	}{
		"all is right":          {func(*setting.TLSConfig) {}, ""},
		"another authority":     {func(c *setting.TLSConfig) { c.CAFile = other.certFile }, "certificate"},
		"the system's roots":    {func(c *setting.TLSConfig) { c.CAFile = "" }, "certificate"},
		"another server's name": {func(c *setting.TLSConfig) { c.ServerName = "other.example" }, "other.example"},
		"the address's name":    {func(c *setting.TLSConfig) { c.ServerName = "" }, "127.0.0.1"},
		"unchecked":             {func(c *setting.TLSConfig) { c.CAFile, c.ServerName, c.InsecureSkipVerify = "", "", true }, ""},
		"no certificate":        {func(c *setting.TLSConfig) { c.CertFile, c.KeyFile = "", "" }, "certificate required"},
		"another certificate":   {func(c *setting.TLSConfig) { c.CertFile, c.KeyFile = other.certFile, other.keyFile }, "tls: "},
	} {
		c := good
		tt.change(&c)
		cfg, err := c.Load()
		if err != nil {
			t.Fatalf("%s: load: %v", name, err)
		}
		caller := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
		if err != nil {
			t.Fatalf("make a request: %v", err)
		}
		response, err := caller.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: got %v, want %q", name, err, tt.wrong)
		}
	}
}

func TestTLSConfig_Load_Errors(t *testing.T) {
	t.Parallel()
	id, other := newIdentity(t), newIdentity(t)
	for name, tt := range map[string]struct {
		cfg   setting.TLSConfig
		wrong string
	}{
		"no authority's file":      {setting.TLSConfig{CAFile: id.certFile + "x"}, "tls.ca_file: open "},
		"a file with no authority": {setting.TLSConfig{CAFile: id.keyFile}, "tls.ca_file: no certificate in " + id.keyFile},
		"no certificate's file":    {setting.TLSConfig{CertFile: id.certFile + "x", KeyFile: id.keyFile}, "tls.cert_file: open "},
		"no key's file":            {setting.TLSConfig{CertFile: id.certFile, KeyFile: id.keyFile + "x"}, "tls.key_file: open "},
		"another's key":            {setting.TLSConfig{CertFile: id.certFile, KeyFile: other.keyFile}, "tls.cert_file: " + id.certFile + " with tls.key_file " + other.keyFile + ": tls: private key"},
	} {
		if _, err := tt.cfg.Load(); err == nil || !strings.HasPrefix(err.Error(), tt.wrong) {
			t.Errorf("%s: got %v, want %q", name, err, tt.wrong)
		}
	}
}

func TestTLSConfig_Validate(t *testing.T) {
	t.Parallel()
	const half = "tls.cert_file: needs key_file beside it, and the other way round"
	for name, tt := range map[string]struct {
		cfg  setting.TLSConfig
		want string
	}{
		"nothing":             {setting.TLSConfig{}, ""},
		"both":                {setting.TLSConfig{CertFile: "a", KeyFile: "b"}, ""},
		"a certificate alone": {setting.TLSConfig{CertFile: "a"}, half},
		"a key alone":         {setting.TLSConfig{KeyFile: "b"}, half},
		"a name":              {setting.TLSConfig{ServerName: "xn--b1a5a.xn--p1ai"}, ""},
		"a name as typed":     {setting.TLSConfig{ServerName: "тв.рф"}, `tls.server_name: "тв.рф": write the name as certificates have it, "xn--…"`},
	} {
		got := ""
		if err := tt.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestTLSConfig_Warnings(t *testing.T) {
	t.Parallel()
	if err := (setting.TLSConfig{CAFile: "a"}).Warnings(); err != nil {
		t.Errorf("checked: got %v, want none", err)
	}
	err := setting.TLSConfig{InsecureSkipVerify: true}.Warnings()
	if err == nil || !strings.HasPrefix(err.Error(), "insecure_skip_verify: true ") {
		t.Errorf("unchecked: got %v, want a warning", err)
	}
}
