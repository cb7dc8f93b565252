package httpbackend

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
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

// startTLS starts a server that answers with the serial number of the client's certificate, or redirects.
func startTLS(t *testing.T, auth tls.ClientAuthType, redirect string) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if redirect != "" {
			http.Redirect(w, r, redirect, http.StatusFound)
			return
		}
		serial := "none"
		if len(r.TLS.PeerCertificates) > 0 {
			serial = r.TLS.PeerCertificates[0].SerialNumber.String()
		}
		w.Header().Set("X-Session-Name", serial)
	}))
	s.TLS = &tls.Config{ClientAuth: auth}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// writePEM writes a file whose time of change is its generation.
func writePEM(t *testing.T, path, kind string, der []byte, generation int64) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Unix(generation, 0), time.Unix(generation, 0)); err != nil {
		t.Fatal(err)
	}
}

// issue writes a new client certificate whose serial number is its generation.
func issue(t *testing.T, c setting.TLSConfig, generation int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(generation), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, c.CertFile, "CERTIFICATE", der, generation)
	writePEM(t, c.KeyFile, "PRIVATE KEY", private, generation)
}

// newTLSClient returns a client that trusts the server, and presents a certificate of generation 1.
func newTLSClient(t *testing.T, s *httptest.Server) (*Client, setting.TLSConfig) {
	t.Helper()
	folder := t.TempDir()
	files := setting.TLSConfig{
		CAFile: filepath.Join(folder, "ca.pem"), CertFile: filepath.Join(folder, "cert.pem"), KeyFile: filepath.Join(folder, "key.pem"),
		ServerName: "example.com", // of httptest's certificate
	}
	writePEM(t, files.CAFile, "CERTIFICATE", s.Certificate().Raw, 1)
	issue(t, files, 1)
	cfg := DefaultConfig()
	cfg.Address, cfg.Redirects, cfg.TLS = s.URL, RedirectsFollow, files
	c, err := NewClient("portal", cfg, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, files
}

// TestClient_Do_CertificatesChange renews the client's certificate, and then takes away the trust in the server. The server
// is outside the bubble, and no connection is kept while its time passes.
func TestClient_Do_CertificatesChange(t *testing.T) {
	t.Parallel()
	s := startTLS(t, tls.RequireAnyClientCert, "")
	synctest.Test(t, func(t *testing.T) {
		c, files := newTLSClient(t, s)
		call := func() (string, error) {
			defer c.pool.close()
			d, err := c.Decide(t.Context(), Call{})
			return d.User, err
		}
		for generation := int64(1); generation <= 3; generation++ {
			issue(t, files, generation)
			<-time.After(setting.TLSReloadInterval)
			if got, err := call(); err != nil || got != strconv.FormatInt(generation, 10) {
				t.Errorf("got certificate %q and error %v, want %d", got, err, generation)
			}
		}
		other, err := os.ReadFile(files.CertFile)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(other)
		writePEM(t, files.CAFile, "CERTIFICATE", block.Bytes, 4)
		<-time.After(setting.TLSReloadInterval)
		if _, err := call(); !isKind(err, backends.FailureTransport) {
			t.Errorf("got error %v, want the server no longer trusted", err)
		}
	})
}

// TestClient_Do_Redirect_NoClientCertificate follows a redirect to another host of the same authority, which is trusted too
// under a name of its own.
func TestClient_Do_Redirect_NoClientCertificate(t *testing.T) {
	t.Parallel()
	other := startTLS(t, tls.RequestClientCert, "")
	c, _ := newTLSClient(t, startTLS(t, tls.RequireAnyClientCert, other.URL))
	d, err := c.Decide(t.Context(), Call{})
	if err != nil || d.User != "none" {
		t.Errorf("got certificate %q and error %v, want none", d.User, err)
	}
}
