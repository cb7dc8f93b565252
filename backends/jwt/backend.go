package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Backend decides by tokens. Safe for concurrent use. Close it after use.
type Backend struct {
	name   string
	cfg    Config
	header string // in canonical form
	parser *jwt.Parser
	now    func() time.Time

	// local holds the configured keys; nil: jwks fetches them with client.
	local  keySet
	jwks   *jwksCache
	client *httpbackend.Client
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is invalid or its key cannot be read. A JWK set is fetched when
// first needed. log may be nil.
func New(name string, cfg Config, log *slog.Logger) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg.Algorithms = slices.Clone(cfg.Algorithms)
	b := &Backend{
		name: name, cfg: cfg, now: time.Now,
		header: http.CanonicalHeaderKey(cfg.Header),
		parser: jwt.NewParser(
			jwt.WithValidMethods(cfg.Algorithms), jwt.WithStrictDecoding(),
			jwt.WithJSONNumber(), // floats would round large ids
			jwt.WithoutClaimsValidation(),
		),
	}
	if err := b.loadKeys(log); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return b, nil
}

func (b *Backend) loadKeys(log *slog.Logger) (err error) {
	switch {
	case b.cfg.Secret != "":
		b.local = keySet{{value: []byte(b.cfg.Secret.Reveal())}}
	case b.cfg.PublicKeyFile.Path != "":
		b.local, err = readPublicKey(b.cfg.PublicKeyFile, b.cfg.Algorithms)
	default:
		b.client, err = newClient(b.name, b.cfg, log)
		b.jwks = newJWKSCache(b.name, b.cfg, func(ctx context.Context) (keySet, error) {
			return fetchKeys(ctx, b.name, b.client, b.cfg.Algorithms)
		}, log)
		if strings.HasPrefix(strings.ToLower(b.cfg.JWKSURL), "http:") {
			log.Warn("jwks fetched over plain http, so an attacker on the path can sign tokens; use an https jwks_url",
				slog.String("backend", b.name))
		}
	}
	return err
}

// TakeOver takes the fetched keys of the backend that this one replaces, so that other settings do not make known keys unknown. It
// takes none that came from another place, or from a server that the settings no longer trust. Call it before the first check.
func (b *Backend) TakeOver(replaced backends.Backend) {
	previous, isJWT := replaced.(*Backend)
	if !isJWT || b.jwks == nil || previous.cfg.JWKSURL != b.cfg.JWKSURL || previous.cfg.TLS != b.cfg.TLS {
		return
	}
	b.jwks.takeOver(previous.jwks, b.cfg.Algorithms)
}

// Run refreshes the JWK set until ctx ends, and then returns nil. With other keys it does nothing.
func (b *Backend) Run(ctx context.Context) error {
	if b.jwks == nil {
		<-ctx.Done()
		return nil
	}
	b.jwks.run(ctx)
	return nil
}

// Overloads returns the bounds that turn viewers away, as the errors of Check name them.
func (b *Backend) Overloads() []string {
	if b.jwks == nil {
		return nil
	}
	return []string{b.jwks.suspectFetches()}
}

// Close cancels a fetch in flight. Later checks use the known keys.
func (b *Backend) Close() {
	if b.jwks != nil {
		b.jwks.close()
		b.client.Close()
	}
}

// Check validates the viewer's token. Without one it has no opinion.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	raw := b.findToken(r)
	local := backends.Decision{Source: backends.FromLocal}
	switch {
	case raw == "":
		return backends.Decision{Verdict: backends.Pending, Source: backends.FromLocal, Reason: "no token"}, nil
	case len(raw) > maxTokenBytes:
		return deny(local, "token is longer than 8192 bytes"), nil
	case !hasTokenCharacters(raw):
		return deny(local, "token is malformed"), nil
	}
	now := b.now()
	windowTime := now
	if !b.cfg.EndSessionOnExpiry && !r.TokenTime.IsZero() {
		windowTime = r.TokenTime
	}
	token, claims, err := b.verify(ctx, raw)
	if err != nil {
		return b.onVerifyError(token, err, func() string { return b.rejectionReason(claims, r, windowTime) })
	}
	if reason := b.rejectionReason(claims, r, windowTime); reason != "" {
		return deny(b.identify(claims), reason), nil
	}
	return b.allow(claims, now), nil
}

var (
	errBadHeader         = errors.New("the token's header is invalid")
	errCriticalExtension = errors.New("the token requires an extension")
)

// verify parses and verifies a token. One whose signature fails is verified once more with newer keys, since an issuer may
// put another key under a known id.
func (b *Backend) verify(ctx context.Context, raw string) (*jwt.Token, jwt.MapClaims, error) {
	var used *keySet
	parse := func() (*jwt.Token, jwt.MapClaims, error) {
		claims := jwt.MapClaims{}
		token, err := b.parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (_ any, err error) {
			var keys jwt.VerificationKeySet
			keys, used, err = b.keysFor(ctx, t)
			return keys, err
		})
		return token, claims, err
	}
	token, claims, err := parse()
	if used == nil || !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		return token, claims, err
	}
	newest, refreshErr := b.jwks.refresh(ctx, used)
	switch {
	case refreshErr != nil:
		return token, claims, refreshErr
	case newest == used:
		return token, claims, err
	default:
		return parse()
	}
}

// keysFor returns the keys to verify a token with, and the fetched set that they are of, if any. It ignores keys and key
// URLs inside the token (jwk, jku, x5c, x5u).
func (b *Backend) keysFor(ctx context.Context, token *jwt.Token) (jwt.VerificationKeySet, *keySet, error) {
	if _, present := token.Header["crit"]; present { // RFC 7515 §4.1.11: unknown extensions must be refused
		return jwt.VerificationKeySet{}, nil, errCriticalExtension
	}
	id := ""
	if value, present := token.Header["kid"]; present {
		var ok bool
		if id, ok = value.(string); !ok {
			return jwt.VerificationKeySet{}, nil, errBadHeader
		}
	}
	algorithm := token.Method.Alg()
	if b.jwks != nil {
		found, set, err := b.jwks.keys(ctx, algorithm, id)
		return jwt.VerificationKeySet{Keys: found}, set, err
	}
	// There is one key, so the kid does not matter.
	return jwt.VerificationKeySet{Keys: b.local.matching(algorithm, "")}, nil, nil
}

// onVerifyError decides on a token whose verification ended with err, which is the library's and may quote the token.
// While the right keys are not known, a reason to reject in the token's own claims counts; rejection returns it.
func (b *Backend) onVerifyError(token *jwt.Token, err error, rejection func() string) (backends.Decision, error) {
	local := backends.Decision{Source: backends.FromLocal}
	if errors.Is(err, context.Canceled) {
		return backends.Decision{}, fmt.Errorf("check backend %q: %w", b.name, context.Canceled)
	}
	if undecided := undecidedError(err); undecided != nil {
		if reason := rejection(); reason != "" {
			return deny(local, reason), nil
		}
		return backends.Decision{}, undecided
	}
	switch {
	case errors.Is(err, errUnknownKey):
		return deny(local, "token is signed with an unknown key"), nil
	case errors.Is(err, errCriticalExtension):
		return deny(local, "token requires an extension"), nil
	case errors.Is(err, errBadHeader), errors.Is(err, jwt.ErrTokenMalformed):
		return deny(local, "token is malformed"), nil
	case token == nil || token.Method == nil || !slices.Contains(b.cfg.Algorithms, token.Method.Alg()):
		return deny(local, "token is signed with an algorithm that is not allowed"), nil
	default:
		return deny(local, "token is not signed by the issuer"), nil
	}
}

// undecidedError returns the failure or the overload in err: no key decides on the token now. Otherwise it returns nil.
func undecidedError(err error) error {
	if failure := backends.AsFailure(err); failure != nil {
		return failure
	}
	if overload, isOverload := errors.AsType[*backends.Overload](err); isOverload {
		return overload
	}
	return nil
}
