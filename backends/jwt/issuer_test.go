package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/setting"
)

// testSecret is unlike any other text, so that a search finds it in an error.
const testSecret = "an-hmac-5ecret-of-thirty-two-bytes-or-more-and-even-sixty-four!!"

// testNow is the tests' present.
var testNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// keyPair is one key of the issuer.
type keyPair struct {
	private crypto.Signer
	public  crypto.PublicKey
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func newRSA(bits int) keyPair {
	k := must(rsa.GenerateKey(rand.Reader, bits))
	return keyPair{k, &k.PublicKey}
}

func newCurve(curve elliptic.Curve) keyPair {
	k := must(ecdsa.GenerateKey(curve, rand.Reader))
	return keyPair{k, &k.PublicKey}
}

func newEd25519() keyPair {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(public, err)
	return keyPair{private, public}
}

// keyPairs returns keys by kind. They are made once, because RSA keys take long.
var keyPairs = sync.OnceValue(func() map[string]keyPair {
	return map[string]keyPair{
		"RSA": newRSA(2048), "P-256": newCurve(elliptic.P256()), "P-384": newCurve(elliptic.P384()),
		"P-521": newCurve(elliptic.P521()), "Ed25519": newEd25519(), "other P-256": newCurve(elliptic.P256()),
	}
})

// kindOf returns the kind of key that an algorithm needs.
func kindOf(algorithm string) string {
	switch algorithm {
	case "ES256":
		return "P-256"
	case "ES384":
		return "P-384"
	case "ES512":
		return "P-521"
	case "EdDSA":
		return "Ed25519"
	default:
		return "RSA"
	}
}

// signingKey returns the key that signs tokens with the algorithm.
func signingKey(algorithm string) any {
	if isSymmetric(algorithm) {
		return []byte(testSecret)
	}
	return keyPairs()[kindOf(algorithm)].private
}

// goodClaims returns the claims of a valid token, with some replaced; nil removes one.
func goodClaims(replaced jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{"sub": "42", "name": "alice", "exp": testNow.Add(time.Hour).Unix()}
	maps.Copy(claims, replaced)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// sign makes a token. id is its kid; empty: none.
func sign(t testing.TB, algorithm, id string, key any, claims jwt.MapClaims) string {
	t.Helper()
	header := map[string]any{"typ": "JWT", "alg": algorithm}
	if id != "" {
		header["kid"] = id
	}
	return signHeader(t, header, key, claims)
}

func signHeader(t testing.TB, header map[string]any, key any, claims jwt.MapClaims) string {
	t.Helper()
	token := &jwt.Token{Header: header, Claims: claims, Method: jwt.GetSigningMethod(header["alg"].(string))}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatalf("sign: %v", err)
	}
	return signed
}

// pemOf returns a public key as PEM.
func pemOf(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatalf("marshal the key: %v", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// keyFile returns a file with the text, as the settings read it.
func keyFile(t testing.TB, text []byte) setting.File {
	t.Helper()
	return setting.ReadFile(writeFile(t, text))
}

func writeFile(t testing.TB, text []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatalf("write the key: %v", err)
	}
	return file
}

// setOf returns a JWK set of public keys by kid.
func setOf(t testing.TB, public map[string]crypto.PublicKey) string {
	t.Helper()
	var set jwkset.JWKSMarshal
	for id, key := range public {
		set.Keys = append(set.Keys, jwkOf(t, id, key))
	}
	return string(must(json.Marshal(set)))
}

func jwkOf(t testing.TB, id string, key crypto.PublicKey) jwkset.JWKMarshal {
	t.Helper()
	jwk, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{KID: id}, Marshal: jwkset.JWKMarshalOptions{Private: true},
	})
	if err != nil {
		t.Fatalf("make a JWK: %v", err)
	}
	return jwk.Marshal()
}

// issuer publishes a JWK set over HTTP.
type issuer struct {
	*backendtest.Server
	mu  sync.Mutex
	set string
}

func startIssuer(t testing.TB, set string) *issuer {
	t.Helper()
	i := &issuer{Server: backendtest.New(backendtest.DefaultConfig()), set: set}
	i.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) {
		i.mu.Lock()
		defer i.mu.Unlock()
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write([]byte(i.set))
	})
	if err := i.Start(); err != nil {
		t.Fatalf("start the issuer: %v", err)
	}
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(set string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.set = set
}

func (i *issuer) setMode(t testing.TB, m backendtest.Mode) {
	t.Helper()
	if err := i.SetMode(m); err != nil {
		t.Fatalf("set the issuer to %s: %v", m, err)
	}
}

// withSecret returns a config for HS256.
func withSecret(change func(*Config)) Config {
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.Secret = []string{"HS256"}, testSecret
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// withIssuer returns a config for ES256 with an issuer's keys.
func withIssuer(i *issuer, algorithms ...string) Config {
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.JWKSURL = algorithms, i.URL()+"/jwks.json"
	if len(algorithms) == 0 {
		cfg.Algorithms = []string{"ES256"}
	}
	return cfg
}

// clock is a time that tests advance.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newBackend(t testing.TB, cfg Config, log *slog.Logger) (*Backend, *clock) {
	t.Helper()
	b, err := New("tokens", cfg, log)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	t.Cleanup(b.Close)
	c := &clock{now: testNow}
	b.now = c.Now
	if b.jwks != nil {
		b.jwks.now = c.Now
		b.jwks.suspectTimeout = time.Minute // a busy machine must not fail the test
	}
	return b, c
}

// openingRequest returns a viewer's first check, with that token.
func openingRequest(token string) *backends.Request {
	r := backendtest.NewRequest(token)
	r.TokenTime = testNow
	r.Address = netip.MustParseAddr("192.0.2.7")
	return r
}

// mustCheck checks and fails the test on an error.
func mustCheck(t testing.TB, b *Backend, r *backends.Request) backends.Decision {
	t.Helper()
	d, err := b.Check(t.Context(), r)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return d
}

// wantDecision requires a local decision with that verdict and reason.
func wantDecision(t testing.TB, d backends.Decision, verdict backends.Verdict, reason string) {
	t.Helper()
	if d.Verdict != verdict || d.Source != backends.FromLocal || d.Reason != reason {
		t.Errorf("got %s from %s because %q, want %s because %q", d.Verdict, d.Source, d.Reason, verdict, reason)
	}
}

// wantFailure requires a failure of that kind whose error shows neither token nor secret.
func wantFailure(t testing.TB, err error, kind backends.FailureKind, secrets ...string) {
	t.Helper()
	f := backends.AsFailure(err)
	if f == nil || f.Kind != kind || f.Backend != "tokens" {
		t.Fatalf("got error %v, want a failure of kind %s of tokens", err, kind)
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		wantHidden(t, fmt.Sprintf("%v %+v", cause, cause), secrets...)
	}
}

// wantHidden requires that the text shows no part of a token and no secret.
func wantHidden(t testing.TB, shown string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) > 3 && strings.Contains(shown, part) {
				t.Errorf("%q shows %q", shown, part)
			}
		}
	}
}

// newLogger returns a logger and a function that returns its output, without times.
func newLogger() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var out bytes.Buffer
	h := slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(p)
	}), &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), func() string {
		mu.Lock()
		defer mu.Unlock()
		return out.String()
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
