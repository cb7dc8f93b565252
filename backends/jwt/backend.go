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

// Backend reads tokens. Safe for concurrent use. Close it after use.
type Backend struct {
	name   string
	cfg    Config
	header string // in canonical form
	parser *jwt.Parser
	now    func() time.Time

	// local are the keys that the config holds; nil: remote fetches them with client.
	local  keySet
	remote *remote
	client *httpbackend.Client
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. It fails if the config is wrong or its key cannot be read; a JWK set is fetched when
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
	if err := b.findKeys(log); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	return b, nil
}

func (b *Backend) findKeys(log *slog.Logger) (err error) {
	switch {
	case b.cfg.Secret != "":
		b.local = keySet{{value: []byte(b.cfg.Secret.Reveal())}}
	case b.cfg.PublicKeyFile != "":
		b.local, err = readPublicKey(b.cfg.PublicKeyFile, b.cfg.Algorithms)
	default:
		b.client, err = newClient(b.name, b.cfg)
		b.remote = newRemote(b.name, b.cfg, func(ctx context.Context) (keySet, error) {
			return load(ctx, b.name, b.client, b.cfg.Algorithms)
		}, log)
		if strings.HasPrefix(strings.ToLower(b.cfg.JWKSURL), "http:") {
			log.Warn("signing keys come over plain http: whoever can change the answer can sign", "backend", b.name)
		}
	}
	return err
}

// Run refreshes the JWK set until ctx ends, and then returns nil. With other keys it has nothing to do.
func (b *Backend) Run(ctx context.Context) error {
	if b.remote == nil {
		<-ctx.Done()
		return nil
	}
	b.remote.run(ctx)
	return nil
}

// Close ends what is under way. Later checks find the keys that are known.
func (b *Backend) Close() {
	if b.remote != nil {
		b.remote.close()
		b.client.Close()
	}
}

// Check reads the viewer's token. Without one it has no opinion.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	raw := b.tokenOf(r)
	no := backends.Decision{Source: backends.FromLocal}
	switch {
	case raw == "":
		return backends.Decision{Verdict: backends.Pending, Source: backends.FromLocal, Reason: "no token"}, nil
	case len(raw) > maxToken:
		return refuse(no, "token is longer than 8192 bytes"), nil
	case !spelledAsToken(raw):
		return refuse(no, "token is malformed"), nil
	}
	now := b.now()
	then := now
	if !b.cfg.EndSessionOnExpiry && !r.Opened.IsZero() {
		then = r.Opened
	}
	claims := jwt.MapClaims{}
	token, err := b.parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) { return b.keysFor(ctx, t) })
	if err != nil {
		return b.unverified(token, err, func() string { return b.against(claims, r, then) })
	}
	if reason := b.against(claims, r, then); reason != "" {
		return refuse(b.about(claims), reason), nil
	}
	return b.allowed(claims, now), nil
}

var (
	errHeader   = errors.New("the token's header makes no sense")
	errCritical = errors.New("the token asks for an extension")
)

// keysFor finds the keys to verify a token with. What a token brings along itself (jwk, jku, x5c, x5u) is not looked
// at.
func (b *Backend) keysFor(ctx context.Context, token *jwt.Token) (jwt.VerificationKeySet, error) {
	if _, present := token.Header["crit"]; present { // RFC 7515 §4.1.11: whoever does not know it must refuse
		return jwt.VerificationKeySet{}, errCritical
	}
	id := ""
	if value, present := token.Header["kid"]; present {
		var ok bool
		if id, ok = value.(string); !ok {
			return jwt.VerificationKeySet{}, errHeader
		}
	}
	algorithm := token.Method.Alg()
	if b.remote != nil {
		found, err := b.remote.keys(ctx, algorithm, id)
		return jwt.VerificationKeySet{Keys: found}, err
	}
	// There is one key, whatever the issuer calls it.
	return jwt.VerificationKeySet{Keys: b.local.matching(algorithm, "")}, nil
}

// unverified is the answer about a token that was not verified because of err, which is the library's and may quote
// the token. While no keys are known, what the token says against its bearer is believed.
func (b *Backend) unverified(token *jwt.Token, err error, against func() string) (backends.Decision, error) {
	no := backends.Decision{Source: backends.FromLocal}
	if errors.Is(err, context.Canceled) {
		return backends.Decision{}, fmt.Errorf("ask backend %q: %w", b.name, context.Canceled)
	}
	if failure := backends.AsFailure(err); failure != nil {
		if reason := against(); reason != "" {
			return refuse(no, reason), nil
		}
		return backends.Decision{}, failure
	}
	switch {
	case errors.Is(err, errUnknownKey):
		return refuse(no, "token is signed with an unknown key"), nil
	case errors.Is(err, errCritical):
		return refuse(no, "token asks for an extension"), nil
	case errors.Is(err, errHeader), errors.Is(err, jwt.ErrTokenMalformed):
		return refuse(no, "token is malformed"), nil
	case token == nil || token.Method == nil || !slices.Contains(b.cfg.Algorithms, token.Method.Alg()):
		return refuse(no, "token is signed with an algorithm that is not allowed"), nil
	default:
		return refuse(no, "token is not signed by the issuer"), nil
	}
}
