package signature

import (
	"errors"
	"fmt"
	"strings"

	"usher/backends/setting"
)

// maxKeys bounds the size of the header. Two are used while they are rotated.
const maxKeys = 4

// Config is the section signature of a backend. Without keys nothing is signed.
type Config struct {
	// Keys all sign.
	Keys []setting.Key `yaml:"keys"`
	// Header is the header of the signatures, and TimestampHeader that of the time.
	Header          string `yaml:"header"`
	TimestampHeader string `yaml:"timestamp_header"`
	// SignedHeaders are the headers whose values are signed, in this order.
	SignedHeaders []string `yaml:"signed_headers"`
}

// DefaultConfig returns the defaults. There are no keys.
func DefaultConfig() Config {
	return Config{
		Header: "X-Usher-Signature", TimestampHeader: "X-Usher-Timestamp",
		SignedHeaders: []string{"X-Session-ID", "X-Channel-ID", "X-Real-IP", "X-Real-Path"},
	}
}

// Validate returns all problems at once, except that a header cannot be set, which the client knows.
func (c Config) Validate() error {
	errs := []error{setting.ValidateKeys("signature.keys", c.Keys)}
	if n := len(c.Keys); n > maxKeys {
		errs = append(errs, fmt.Errorf("signature.keys: %d of them; want at most %d", n, maxKeys))
	}
	if strings.EqualFold(c.Header, c.TimestampHeader) {
		errs = append(errs, fmt.Errorf("signature.timestamp_header: %q is signature.header too; want another one", c.TimestampHeader))
	}
	for i, name := range c.SignedHeaders {
		if strings.EqualFold(name, c.Header) || strings.EqualFold(name, c.TimestampHeader) {
			errs = append(errs, fmt.Errorf("signature.signed_headers[%d]: %q is set by the signature itself", i, name))
		}
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			errs = append(errs, fmt.Errorf("signature.signed_headers[%d]: %q is no header name", i, name))
		}
	}
	return errors.Join(errs...)
}
