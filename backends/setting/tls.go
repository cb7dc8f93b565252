package setting

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
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
	if strings.ContainsFunc(c.ServerName, func(r rune) bool { return r >= 0x80 }) {
		return fmt.Errorf(`tls.server_name: %q: write the name as certificates have it, "xn--…"`, c.ServerName)
	}
	return nil
}

// Warnings says what an unchecked certificate costs, and which certificates have expired or will soon. It is silent on files
// that Load cannot read.
func (c TLSConfig) Warnings() error {
	errs := []error{c.Expiry(time.Now())}
	if c.InsecureSkipVerify {
		errs = append(errs, errors.New("insecure_skip_verify: true lets anyone on the way answer in the server's place; set ca_file instead"))
	}
	return errors.Join(errs...)
}

// Load reads the files. Its errors begin with the setting, "tls.".
func (c TLSConfig) Load() (*tls.Config, error) {
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.InsecureSkipVerify, //nolint:gosec // only if the operator sets it, with a warning
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.ca_file: no certificate in %s", c.CAFile)
		}
	}
	if c.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, c.pairError(err)
		}
		cfg.Certificates = []tls.Certificate{certificate}
	}
	return cfg, nil
}

// pairError names the setting of the file that cannot be read, or both if they do not fit.
func (c TLSConfig) pairError(err error) error {
	unreadable, ok := errors.AsType[*fs.PathError](err)
	switch {
	case !ok:
		return fmt.Errorf("tls.cert_file: %s with tls.key_file %s: %w", c.CertFile, c.KeyFile, err)
	case unreadable.Path == c.KeyFile && c.KeyFile != c.CertFile:
		return fmt.Errorf("tls.key_file: %w", err)
	default:
		return fmt.Errorf("tls.cert_file: %w", err)
	}
}

const (
	// expiryNotice is how long before its end a certificate is reported. One of a short life is, in its last quarter.
	expiryNotice = 14 * 24 * time.Hour
	// shortLife divides the life of a certificate for that.
	shortLife = 4
)

// Expiry returns an error that names each certificate that has expired, or that will so soon that someone must act. Of a
// ca_file the last certificate to expire counts. It is silent on files that Load cannot read.
func (c TLSConfig) Expiry(now time.Time) error {
	var errs []error
	for _, file := range []struct {
		key, name string
		all       bool
	}{{"ca_file", c.CAFile, true}, {"cert_file", c.CertFile, false}} {
		if last := lastToExpire(file.name, file.all); last != nil {
			errs = append(errs, expiryOf(file.key, file.name, last, now))
		}
	}
	return errors.Join(errs...)
}

func expiryOf(key, name string, c *x509.Certificate, now time.Time) error {
	left := c.NotAfter.Sub(now)
	end := c.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case left < 0:
		return fmt.Errorf("%s: the certificate in %s expired at %s, so that TLS connections fail; renew it", key, name, end)
	case left < min(expiryNotice, c.NotAfter.Sub(c.NotBefore)/shortLife):
		return fmt.Errorf("%s: the certificate in %s expires at %s; renew it", key, name, end)
	default:
		return nil
	}
}

// lastToExpire returns the first certificate of a file, or of all the one that expires last. It returns nil if there is none.
func lastToExpire(name string, all bool) *x509.Certificate {
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	var last *x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		if last == nil || c.NotAfter.After(last.NotAfter) {
			last = c
		}
		if !all {
			break
		}
	}
	return last
}
