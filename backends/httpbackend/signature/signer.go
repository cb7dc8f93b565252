package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// version begins everything that is signed, so that a later form is no signature of this one.
const version = "usher-v1"

// Signer signs requests. The nil Signer signs none. Safe for concurrent use.
type Signer struct{ config Config }

// New returns the signer of a valid config, nil without keys.
func New(c Config) *Signer {
	if len(c.Keys) == 0 {
		return nil
	}
	return &Signer{c}
}

// Sign sets the headers of a request that is complete otherwise, in place of a viewer's.
func (s *Signer) Sign(r *http.Request, now time.Time) {
	if s == nil {
		return
	}
	s.Remove(r.Header)
	timestamp := strconv.FormatInt(now.Unix(), 10)
	var headers strings.Builder
	for _, name := range s.config.SignedHeaders {
		headers.WriteString("\n" + strings.ToLower(name) + ":" + valueOf(r.Header, name))
	}
	signatures := make([]string, len(s.config.Keys))
	for i, key := range s.config.Keys {
		mac := hmac.New(sha256.New, []byte(key.Secret.Reveal()))
		_, _ = mac.Write([]byte(strings.Join([]string{version, r.Method, r.URL.RequestURI(), timestamp, key.ID}, "\n") + headers.String()))
		signatures[i] = key.ID + "=" + hex.EncodeToString(mac.Sum(nil))
	}
	r.Header[s.config.TimestampHeader] = []string{timestamp}
	r.Header[s.config.Header] = []string{strings.Join(signatures, ",")}
}

// Remove removes the headers of the signature, however they are spelled.
func (s *Signer) Remove(h http.Header) {
	for name := range h {
		if s.Sets(name) {
			delete(h, name)
		}
	}
}

// Signatures returns the signatures in a header that has been signed, without the ids of their keys.
func (s *Signer) Signatures(h http.Header) (all []string) {
	if s == nil {
		return nil
	}
	for one := range strings.SplitSeq(strings.Join(h[s.config.Header], ","), ",") {
		_, signature, _ := strings.Cut(one, "=")
		all = append(all, signature)
	}
	return all
}

// Sets reports whether a header is one of the signature's.
func (s *Signer) Sets(name string) bool {
	return s != nil && (strings.EqualFold(name, s.config.Header) || strings.EqualFold(name, s.config.TimestampHeader))
}

// valueOf returns the value of a header as it is received, however its name is spelled.
func valueOf(h http.Header, name string) string {
	for key, values := range h {
		if strings.EqualFold(key, name) {
			return strings.Trim(strings.Join(values, ", "), " \t")
		}
	}
	return ""
}
