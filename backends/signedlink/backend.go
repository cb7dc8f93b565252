package signedlink

import (
	"context"
	"crypto/md5" //nolint:gosec // nginx's module is made for MD5
	"crypto/subtle"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"usher/backends"
)

// shortSecretBytes is the length below which a secret can be guessed from a single link, at billions of hashes a second.
const shortSecretBytes = 16

// Backend decides by signed links. Safe for concurrent use.
type Backend struct {
	cfg         Config
	expression  expression
	usesAddress bool // the expression contains $remote_addr
	secrets     []string
	tolerance   int64 // in seconds
	now         func() time.Time
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid. It logs a warning about short secrets; log may be nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	e, err := parseExpression(cfg.Expression)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{
		cfg: cfg, expression: e, usesAddress: e.has(addressVariable),
		tolerance: int64(cfg.ClockSkew / time.Second), now: time.Now,
	}
	short := 0
	for _, secret := range cfg.secrets() {
		b.secrets = append(b.secrets, secret.Reveal())
		if len(secret.Reveal()) < shortSecretBytes {
			short++
		}
	}
	if short > 0 && log != nil {
		log.Warn("signed link secret too short, so a viewer can guess it from one link; use a longer secret in the portal",
			slog.String("backend", name), slog.Int("secrets", short), slog.Int("shorter_than", shortSecretBytes))
	}
	return b, nil
}

// Check validates the viewer's signed link. It never fails.
func (b *Backend) Check(_ context.Context, r *backends.Request) (backends.Decision, error) {
	hash, expires := queryValue(r.Query, b.cfg.MD5Parameter), queryValue(r.Query, b.cfg.ExpiresParameter)
	if hash == "" || expires == "" {
		return backends.LocalDecision(backends.Pending, "no signed link"), nil
	}
	s, ok := parseSignature(hash, expires)
	if !ok {
		return backends.LocalDecision(backends.Pending, "link's parameters are not a signature"), nil
	}
	uri, ok := nginxURI(r.Path)
	switch {
	case !ok:
		return backends.LocalDecision(backends.Denied, "path is invalid for signed links"), nil
	case b.usesAddress && !r.Address.IsValid():
		return backends.LocalDecision(backends.Denied, "signed link needs the viewer's address, which is unknown"), nil
	case !b.isSigned(&s, uri, r):
		return backends.LocalDecision(backends.Denied, b.mismatchReason()), nil
	}
	return b.decideByExpiry(&s, r), nil
}

func (b *Backend) mismatchReason() string {
	if b.usesAddress {
		return "signed link is for another path or address, or made with another secret"
	}
	return "signed link is for another path, or made with another secret"
}

// isSigned reports whether the link was made with one of the secrets for this request: for the path without a suffix
// that portals omit, or for the whole path.
func (b *Backend) isSigned(s *signature, uri string, r *backends.Request) bool {
	for _, suffix := range b.cfg.TrimSuffixes {
		if trimmed, found := strings.CutSuffix(uri, suffix); found && trimmed != "" && b.isPathSigned(s, trimmed, r) {
			return true
		}
	}
	return b.isPathSigned(s, uri, r)
}

// isPathSigned reports whether the hash was made with one of the secrets for this path.
func (b *Backend) isPathSigned(s *signature, uri string, r *backends.Request) bool {
	var space [512]byte // fits all but the longest paths without allocation
	found := 0
	for _, secret := range b.secrets {
		input := space[:0]
		for _, p := range b.expression {
			switch p.variable {
			case secretVariable:
				input = append(input, secret...)
			case uriVariable:
				input = append(input, uri...)
			case expiresVariable:
				input = append(input, s.expires...)
			case addressVariable:
				input = r.Address.Unmap().WithZone("").AppendTo(input)
			case literalText:
				input = append(input, p.text...)
			}
		}
		hash := md5.Sum(input) //nolint:gosec // as above
		found |= subtle.ConstantTimeCompare(hash[:], s.hash[:])
	}
	return found == 1
}

// decideByExpiry decides by the expiry of a correctly signed link.
func (b *Backend) decideByExpiry(s *signature, r *backends.Request) backends.Decision {
	now := b.now()
	at := now
	if !b.cfg.EndSessionOnExpiry && !r.TokenTime.IsZero() {
		at = r.TokenTime
	}
	if at.Unix() > s.until+b.tolerance {
		return backends.LocalDecision(backends.Denied, "signed link has expired")
	}
	d := backends.LocalDecision(backends.Allowed, "signed link is valid")
	if b.cfg.EndSessionOnExpiry {
		d.ValidFor = time.Unix(s.until+b.tolerance+1, 0).Sub(now) // the last second is included
	}
	return d
}
