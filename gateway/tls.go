package gateway

import (
	"crypto/tls"
	"log/slog"

	"usher/backends/setting"
)

// Check returns why the certificate cannot be used, or nil. Without a certificate it returns nil.
func (c TLSConfig) Check() error {
	_, err := c.Server(nil)
	return err
}

// Server returns the TLS config of a listener, whose certificate is reloaded when its files change. Without a certificate
// it returns nil. The error begins with the setting. The logger may be nil.
func (c TLSConfig) Server(logger *slog.Logger) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil //nolint:nilnil // plain HTTP is no error
	}
	files, err := c.files().Open(logger)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return &files.Config().Certificates[0], nil
	}}, nil
}

// Warnings says whether the certificate has expired or will soon.
func (c TLSConfig) Warnings() error { return c.files().Warnings() }

func (c TLSConfig) files() setting.TLSConfig {
	return setting.TLSConfig{CertFile: c.CertFile, KeyFile: c.KeyFile}
}
