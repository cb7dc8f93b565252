package setting

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSConfig holds the TLS servers to trust, and the certificate to present to them. The zero value trusts the system's
// roots and presents none.
type TLSConfig struct {
	// CAFile is a file of PEM certificates to trust instead of the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile is a file with the PEM certificate to present to servers that demand one.
	CertFile string `yaml:"cert_file"`
	// KeyFile is a file with its key.
	KeyFile string `yaml:"key_file"`
	// ServerName is the name to expect in the server's certificate. Empty: the address's host.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify trusts any certificate.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Validate reports what is wrong, without opening the files.
func (c TLSConfig) Validate() error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("tls.cert_file: needs key_file beside it, and the other way round")
	}
	return nil
}

// Warnings says what an unchecked certificate costs.
func (c TLSConfig) Warnings() error {
	if !c.InsecureSkipVerify {
		return nil
	}
	return errors.New("insecure_skip_verify: true lets whoever is on the way answer in the server's place; set ca_file instead")
}

// Load reads the files. Its errors begin with the setting, "tls.".
func (c TLSConfig) Load() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, // only if the operator sets it
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: no certificate in %s", c.CAFile)
		}
	}
	if c.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{certificate}
	}
	return cfg, nil
}
