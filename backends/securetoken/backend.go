package securetoken

import (
	"context"
	"crypto/sha1" //nolint:gosec // the vendors' formula is SHA-1
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"usher/backends"
	"usher/backends/httpbackend"
)

// shortKey is the length below which a key can be guessed from a single token, at billions of hashes a second.
const shortKey = 16

// maxUser bounds a user's id, as it does for every backend.
const maxUser = 256

// anyAddress stands in the place of an address that is not to be checked.
const anyAddress = "no_check_ip"

// Backend decides by secure tokens. Safe for concurrent use.
type Backend struct {
	cfg       Config
	keys      []string
	tolerance int64 // in seconds
	now       func() time.Time
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong. log is told of a key that is too short; it may be nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{cfg: cfg, tolerance: int64(cfg.ClockSkew / time.Second), now: time.Now}
	short := 0
	for _, key := range cfg.keys() {
		b.keys = append(b.keys, key.Reveal())
		if len(key.Reveal()) < shortKey {
			short++
		}
	}
	if short > 0 && log != nil {
		log.Warn("whoever has one token can guess a short key; let the portal sign with a longer one",
			slog.String("backend", name), slog.Int("keys", short), slog.Int("shorter_than", shortKey))
	}
	return b, nil
}

// Check decides on one viewer. It never fails.
func (b *Backend) Check(_ context.Context, r *backends.Request) (backends.Decision, error) {
	text := httpbackend.QueryValue(r.Query, b.cfg.Parameter)
	if text == "" {
		return decision(backends.Pending, "no secure token"), nil
	}
	t, ok := parse(text)
	switch {
	case !ok:
		return decision(backends.Pending, "the token does not look like a secure token"), nil
	case !b.cfg.NoCheckIP && !r.Address.IsValid():
		return decision(backends.Denied, "the viewer's address is unknown, and secure tokens hold for one"), nil
	case b.cfg.SaltLength > 0 && len(t.salt) != b.cfg.SaltLength:
		return decision(backends.Denied, "the secure token's salt is not of salt_length"), nil
	}
	var user string
	if b.cfg.UserParameter != "" {
		user = httpbackend.QueryValue(r.Query, b.cfg.UserParameter)
	}
	switch {
	case !isUser(user):
		return decision(backends.Denied, "the user's id is too long or has control characters"), nil
	case !b.made(&t, r, user):
		return decision(backends.Denied, "the secure token is for another channel or address, or made with another key"), nil
	}
	return b.within(&t, r, user), nil
}

// made reports whether one of the keys made the token for this viewer.
func (b *Backend) made(t *token, r *backends.Request, user string) bool {
	var space [512]byte // enough for all but the longest paths, so that nothing is allocated
	input := append(space[:0], b.nameIn(r)...)
	if b.cfg.NoCheckIP {
		input = append(input, anyAddress...)
	} else {
		input = r.Address.Unmap().WithZone("").AppendTo(input)
	}
	input = append(append(input, t.start...), t.end...)
	common, found := len(input), 0
	for _, key := range b.keys {
		input = append(append(append(input[:common], key...), t.salt...), user...)
		hash := sha1.Sum(input) //nolint:gosec // as above
		found |= subtle.ConstantTimeCompare(hash[:], t.hash[:])
	}
	return found == 1
}

// nameIn is what the formula signs of the request.
func (b *Backend) nameIn(r *backends.Request) string {
	if b.cfg.Formula != FormulaAlta {
		return r.Channel
	}
	if strings.IndexByte(r.Path, '%') < 0 {
		return r.Path
	}
	plain, err := url.PathUnescape(r.Path)
	if err != nil {
		return r.Path
	}
	return plain
}

// within decides by the window of a token that is genuine.
func (b *Backend) within(t *token, r *backends.Request, user string) backends.Decision {
	now := b.now()
	at := now
	if !b.cfg.EndSessionOnExpiry && !r.Opened.IsZero() {
		at = r.Opened
	}
	switch {
	case at.Unix() < t.from-b.tolerance:
		return decision(backends.Denied, "the secure token is not valid yet")
	case at.Unix() > t.until+b.tolerance:
		return decision(backends.Denied, "the secure token has expired")
	}
	d := decision(backends.Allowed, "the secure token is valid")
	d.UserID = user
	if b.cfg.EndSessionOnExpiry {
		d.ValidFor = time.Unix(t.until+b.tolerance+1, 0).Sub(now) // its last second counts
	}
	return d
}

func decision(v backends.Verdict, reason string) backends.Decision {
	return backends.Decision{Verdict: v, Source: backends.FromLocal, Reason: reason}
}

// isUser reports whether a user's id is fit to be a key. None is fit.
func isUser(id string) bool {
	return len(id) <= maxUser && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}
