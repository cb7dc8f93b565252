package rig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"usher/backends/backendtest"
)

// useTLS returns the settings of a node that speaks TLS.
func (g *Rig) useTLS() (map[string]any, error) {
	if g.TLS == nil {
		if err := g.makeCertificate(); err != nil {
			return nil, err
		}
	}
	return map[string]any{"tls": map[string]any{"cert_file": g.certificateFile("cert"), "key_file": g.certificateFile("key")}}, nil
}

func (g *Rig) certificateFile(kind string) string { return filepath.Join(g.folder, kind+".pem") }

// makeCertificate makes what all nodes show, and what viewers know them by.
func (g *Rig) makeCertificate() error {
	made, err := backendtest.SelfSigned(time.Now())
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode a key: %w", err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(certificate)
	g.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: known}
	for kind, content := range map[string][]byte{
		"cert": certificate, "key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(g.certificateFile(kind), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
