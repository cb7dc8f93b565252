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

// makeCertificate makes what the nodes say who they are with, and what viewers know them by. It returns a node's settings.
func (g *Rig) makeCertificate() (map[string]any, error) {
	made, err := backendtest.SelfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})
	known := x509.NewCertPool()
	known.AppendCertsFromPEM(certificate)
	g.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: known}
	files := map[string]any{}
	for name, content := range map[string][]byte{
		"cert_file": certificate, "key_file": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		file := filepath.Join(g.folder, name+".pem")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return nil, err
		}
		files[name] = file
	}
	return map[string]any{"tls": files}, nil
}
