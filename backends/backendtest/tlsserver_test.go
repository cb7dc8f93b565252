package backendtest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestServer_StartTLS_NeedsTrust(t *testing.T) {
	t.Parallel()
	s := New(withUser())
	if s.Certificate() != nil {
		t.Error("got a certificate before there is TLS")
	}
	if err := s.StartTLS(); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(s.Close)
	if !strings.HasPrefix(s.URL(), "https://127.0.0.1:") {
		t.Errorf("got address %s", s.URL())
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(s.Certificate()) {
		t.Fatalf("no PEM: %q", s.Certificate())
	}
	for name, address := range map[string]string{
		"by address": s.URL(), "by name": strings.Replace(s.URL(), "127.0.0.1", "localhost", 1),
	} {
		if status, err := getOverTLS(t, address, trusted); err != nil || status != http.StatusOK {
			t.Errorf("%s: got %d and error %v, want 200 for the client that trusts it", name, status, err)
		}
	}
	_, err := getOverTLS(t, s.URL(), x509.NewCertPool())
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("got error %v, want an unknown authority", err)
	}
	if s.Calls() != 2 {
		t.Errorf("got %d calls, want those of the client that trusts it", s.Calls())
	}

	for _, m := range []Mode{Refuse(), Healthy()} {
		if err := s.SetMode(m); err != nil {
			t.Fatalf("set the middleware to %s: %v", m, err)
		}
	}
	if status, err := getOverTLS(t, s.URL(), trusted); err != nil || status != http.StatusOK {
		t.Errorf("after an outage: got %d and error %v, want 200", status, err)
	}
}

func getOverTLS(t *testing.T, address string, trusted *x509.CertPool) (int, error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/?token=good", nil)
	if err != nil {
		return 0, err
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}
