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

// shortSecret is the length below which a secret can be guessed from a single link, at billions of hashes a second.
const shortSecret = 16

// Backend decides by signed links. Safe for concurrent use.
type Backend struct {
	cfg        Config
	expression expression
	address    bool // the expression holds the viewer's
	secrets    []string
	tolerance  int64 // in seconds
	now        func() time.Time
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong. log is told of a secret that is too short; it may be
// nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	e, err := compile(cfg.Expression)
	if err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{
		cfg: cfg, expression: e, address: e.has(addressVariable),
		tolerance: int64(cfg.ClockSkew / time.Second), now: time.Now,
	}
	short := 0
	for _, secret := range cfg.secrets() {
		b.secrets = append(b.secrets, secret.Reveal())
		if len(secret.Reveal()) < shortSecret {
			short++
		}
	}
	if short > 0 && log != nil {
		log.Warn("whoever has one link can guess a short secret; let the portal sign with a longer one",
			slog.String("backend", name), slog.Int("secrets", short), slog.Int("shorter_than", shortSecret))
	}
	return b, nil
}

// Check decides on one viewer. It never fails.
func (b *Backend) Check(_ context.Context, r *backends.Request) (backends.Decision, error) {
	hash, expires := parameter(r.Query, b.cfg.MD5Parameter), parameter(r.Query, b.cfg.ExpiresParameter)
	if hash == "" || expires == "" {
		return decision(backends.Pending, "no signed link"), nil
	}
	s, ok := parse(hash, expires)
	if !ok {
		return decision(backends.Pending, "the link's parameters do not look like a signature"), nil
	}
	uri, ok := uriOf(r.Path)
	switch {
	case !ok:
		return decision(backends.Denied, "the path is none that links are signed for"), nil
	case b.address && !r.Address.IsValid():
		return decision(backends.Denied, "the viewer's address is unknown, and signed links hold for one"), nil
	case !b.made(&s, uri, r):
		return decision(backends.Denied, b.mismatch()), nil
	}
	return b.until(&s, r), nil
}

func (b *Backend) mismatch() string {
	if b.address {
		return "the signed link is for another path or address, or made with another secret"
	}
	return "the signed link is for another path, or made with another secret"
}

// made reports whether one of the secrets made the link for this viewer: for the path without an end that portals leave
// out, or for all of it.
func (b *Backend) made(s *signature, uri string, r *backends.Request) bool {
	for _, end := range b.cfg.TrimSuffixes {
		if trimmed, found := strings.CutSuffix(uri, end); found && trimmed != "" && b.signed(s, trimmed, r) {
			return true
		}
	}
	return b.signed(s, uri, r)
}

// signed reports whether one of the secrets signed the path.
func (b *Backend) signed(s *signature, uri string, r *backends.Request) bool {
	var space [512]byte // enough for all but the longest paths, so that nothing is allocated
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
			case literal:
				input = append(input, p.text...)
			}
		}
		hash := md5.Sum(input) //nolint:gosec // as above
		found |= subtle.ConstantTimeCompare(hash[:], s.hash[:])
	}
	return found == 1
}

// until decides by the expiry of a link that is genuine.
func (b *Backend) until(s *signature, r *backends.Request) backends.Decision {
	now := b.now()
	at := now
	if !b.cfg.EndSessionOnExpiry && !r.Opened.IsZero() {
		at = r.Opened
	}
	if at.Unix() > s.until+b.tolerance {
		return decision(backends.Denied, "the signed link has expired")
	}
	d := decision(backends.Allowed, "the signed link is valid")
	if b.cfg.EndSessionOnExpiry {
		d.ValidFor = time.Unix(s.until+b.tolerance+1, 0).Sub(now) // its last second counts
	}
	return d
}

func decision(v backends.Verdict, reason string) backends.Decision {
	return backends.Decision{Verdict: v, Source: backends.FromLocal, Reason: reason}
}
