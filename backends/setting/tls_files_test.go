package setting_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/backends/setting"
)

// copyFile replaces a file by another one.
func copyFile(t *testing.T, from, to string, modified time.Time) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(to, modified, modified); err != nil {
		t.Fatal(err)
	}
}

func TestTLSFiles_Config_FilesChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newIdentity(t), newIdentity(t)
		var logged bytes.Buffer
		cfg := setting.TLSConfig{CAFile: first.certFile + ".ca", CertFile: first.certFile, KeyFile: first.keyFile}
		copyFile(t, first.certFile, cfg.CAFile, time.Unix(1000, 0))
		files, err := cfg.Open(slog.New(slog.NewTextHandler(&logged, nil)))
		if err != nil {
			t.Fatal(err)
		}
		trusted := func(id identity) bool {
			leaf, err := x509.ParseCertificate(id.certificate.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			_, err = leaf.Verify(x509.VerifyOptions{
				Roots: files.Config().RootCAs, CurrentTime: leaf.NotAfter.Add(-time.Minute), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
			})
			return err == nil
		}
		presented := func(id identity) bool {
			return bytes.Equal(files.Config().Certificates[0].Certificate[0], id.certificate.Certificate[0])
		}
		for _, step := range []struct {
			name               string
			change             func()
			isTrusted, isShown bool // of the second identity
			wantLogs           int
		}{
			{"nothing", func() {}, false, false, 0},
			{"the certificate without its key", func() { copyFile(t, second.certFile, first.certFile, time.Unix(2000, 0)) }, false, false, 1},
			{"no more", func() {}, false, false, 1},
			{"its key", func() { copyFile(t, second.keyFile, first.keyFile, time.Unix(2000, 0)) }, false, true, 1},
			{"the authority", func() { copyFile(t, second.certFile, cfg.CAFile, time.Unix(3000, 0)) }, true, true, 1},
			{"the authority's file is gone", func() { _ = os.Remove(cfg.CAFile) }, true, true, 2},
		} {
			step.change()
			<-time.After(setting.TLSReloadInterval)
			if got := trusted(second); got != step.isTrusted {
				t.Errorf("%s: the second authority is trusted: %t, want %t", step.name, got, step.isTrusted)
			}
			if got := presented(second); got != step.isShown {
				t.Errorf("%s: the second certificate is presented: %t, want %t", step.name, got, step.isShown)
			}
			if got := strings.Count(logged.String(), "certificate invalid, keeping previous"); got != step.wantLogs {
				t.Errorf("%s: logged %d times, want %d:\n%s", step.name, got, step.wantLogs, logged.String())
			}
		}
	})
}

// writeCertificates writes a file with certificates of that life that end at those times.
func writeCertificates(t *testing.T, life time.Duration, ends ...time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, end := range ends {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-life), NotAfter: end}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	name := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTLSConfig_Expiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	past, soon, far := now.Add(-time.Hour), now.Add(13*day), now.Add(15*day)
	for name, tt := range map[string]struct {
		ca, cert []time.Time
		want     []string
	}{
		"far":                                  {[]time.Time{far}, []time.Time{far}, nil},
		"soon":                                 {nil, []time.Time{soon}, []string{"cert_file: the certificate in FILE expires at 2026-03-14T12:00:00Z; renew it"}},
		"expired":                              {nil, []time.Time{past}, []string{"cert_file: the certificate in FILE expired at 2026-03-01T11:00:00Z, so that TLS connections fail; renew it"}},
		"an intermediate certificate is older": {nil, []time.Time{far, past}, nil},
		"one of the authorities has expired":   {[]time.Time{past, far}, nil, nil},
		"every authority has expired":          {[]time.Time{past, past}, nil, []string{"ca_file: the certificate in FILE expired at 2026-03-01T11:00:00Z, so that TLS connections fail; renew it"}},
	} {
		var cfg setting.TLSConfig
		if tt.ca != nil {
			cfg.CAFile = writeCertificates(t, 100*day, tt.ca...)
		}
		if tt.cert != nil {
			cfg.CertFile = writeCertificates(t, 100*day, tt.cert...)
		}
		got := ""
		if err := cfg.Expiry(now); err != nil {
			got = regexp.MustCompile(`/\S+`).ReplaceAllString(err.Error(), "FILE")
		}
		if want := strings.Join(tt.want, "\n"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestTLSConfig_Expiry_ShortLife has a certificate whose life is shorter than the notice.
func TestTLSConfig_Expiry_ShortLife(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cfg := setting.TLSConfig{CertFile: writeCertificates(t, 4*time.Hour, end)}
	for before, want := range map[time.Duration]bool{3 * time.Hour: false, time.Hour + time.Second: false, time.Hour - time.Second: true} {
		if got := cfg.Expiry(end.Add(-before)) != nil; got != want {
			t.Errorf("%s before its end: reported %t, want %t", before, got, want)
		}
	}
}

func TestTLSConfig_Expiry_UnreadableFiles_Silent(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	for _, name := range []string{"", id.certFile + "x", id.keyFile} {
		cfg := setting.TLSConfig{CAFile: name, CertFile: name}
		if err := cfg.Expiry(time.Now()); err != nil {
			t.Errorf("%q: got %v, want none", name, err)
		}
	}
}
