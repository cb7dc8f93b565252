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

// shortKeyBytes is the length below which a key can be guessed from a single token, at billions of hashes a second.
const shortKeyBytes = 16

// maxUserBytes bounds a user's id, as for every backend.
const maxUserBytes = 256

// anyAddress replaces an address that is not checked.
const anyAddress = "no_check_ip"

// Backend decides by secure tokens. Safe for concurrent use.
type Backend struct {
	cfg       Config
	keys      []string
	tolerance int64 // in seconds
	now       func() time.Time
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid. It logs a warning about short keys; log may be nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	b := &Backend{cfg: cfg, tolerance: int64(cfg.ClockSkew / time.Second), now: time.Now}
	short := 0
	for _, key := range cfg.keys() {
		b.keys = append(b.keys, key.Reveal())
		if len(key.Reveal()) < shortKeyBytes {
			short++
		}
	}
	if short > 0 && log != nil {
		log.Warn("secure token key too short, so a viewer can guess it from one token; use a longer key in the portal",
			slog.String("backend", name), slog.Int("keys", short), slog.Int("shorter_than", shortKeyBytes))
	}
	return b, nil
}

// Check validates the viewer's secure token. It never fails.
func (b *Backend) Check(_ context.Context, r *backends.Request) (backends.Decision, error) {
	text := httpbackend.QueryValue(r.Query, b.cfg.Parameter)
	if text == "" {
		return backends.LocalDecision(backends.Pending, "no secure token"), nil
	}
	t, ok := parseToken(text)
	switch {
	case !ok:
		return backends.LocalDecision(backends.Pending, "token is not a secure token"), nil
	case !b.cfg.NoCheckIP && !r.Address.IsValid():
		return backends.LocalDecision(backends.Denied, "secure token needs the viewer's address, which is unknown"), nil
	case b.cfg.SaltLength > 0 && len(t.salt) != b.cfg.SaltLength:
		return backends.LocalDecision(backends.Denied, "secure token's salt does not have salt_length characters"), nil
	}
	var user string
	if b.cfg.UserParameter != "" {
		user = httpbackend.QueryValue(r.Query, b.cfg.UserParameter)
	}
	switch {
	case !isValidUserID(user):
		return backends.LocalDecision(backends.Denied, "user's id is too long or has control characters"), nil
	case !b.isSigned(&t, r, user):
		return backends.LocalDecision(backends.Denied, "secure token is for another channel or address, or made with another key"), nil
	}
	return b.decideByWindow(&t, r, user), nil
}

// isSigned reports whether the token was made with one of the keys for this request.
func (b *Backend) isSigned(t *token, r *backends.Request, user string) bool {
	var space [512]byte // fits all but the longest paths without allocation
	input := append(space[:0], b.signedName(r)...)
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

// signedName returns the channel or path that the formula signs.
func (b *Backend) signedName(r *backends.Request) string {
	if b.cfg.Formula != FormulaAlta {
		return r.Channel
	}
	plain, err := url.PathUnescape(r.Path)
	if err != nil {
		return r.Path
	}
	return plain
}

// decideByWindow decides by the time window of a correctly signed token.
func (b *Backend) decideByWindow(t *token, r *backends.Request, user string) backends.Decision {
	now := b.now()
	at := now
	if !b.cfg.EndSessionOnExpiry && !r.TokenTime.IsZero() {
		at = r.TokenTime
	}
	switch {
	case at.Unix() < t.from-b.tolerance:
		return backends.LocalDecision(backends.Denied, "secure token is not valid yet")
	case at.Unix() > t.until+b.tolerance:
		return backends.LocalDecision(backends.Denied, "secure token has expired")
	}
	d := backends.LocalDecision(backends.Allowed, "secure token is valid")
	d.UserID = user
	if b.cfg.EndSessionOnExpiry {
		d.ValidFor = time.Unix(t.until+b.tolerance+1, 0).Sub(now) // the last second is included
	}
	return d
}

// isValidUserID reports whether a user's id can identify a user. An empty one is valid.
func isValidUserID(id string) bool {
	return len(id) <= maxUserBytes && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}
