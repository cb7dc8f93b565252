package jwt

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

// Each algorithm is tested with each of its sources of keys.
func TestCheck_EveryAlgorithm(t *testing.T) {
	t.Parallel()
	public := map[string]crypto.PublicKey{}
	for kind, p := range keyPairs() {
		public["key "+kind] = p.public
	}
	published := startIssuer(t, setOf(t, public))
	for _, algorithm := range algorithms() {
		sources := map[string]func(*Config){
			"jwks": func(c *Config) { c.JWKSURL = published.URL() },
			"pem":  func(c *Config) { c.PublicKeyFile = keyFile(t, pemOf(t, public["key "+kindOf(algorithm)])) },
		}
		if isSymmetric(algorithm) {
			sources = map[string]func(*Config){"secret": func(c *Config) { c.Secret = testSecret }}
		}
		for name, source := range sources {
			t.Run(algorithm+" with "+name, func(t *testing.T) {
				t.Parallel()
				cfg := DefaultConfig()
				cfg.Algorithms = []string{algorithm}
				source(&cfg)
				b, _ := newBackend(t, cfg, nil)
				token := sign(t, algorithm, "key "+kindOf(algorithm), signingKey(algorithm), goodClaims(nil))
				wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Allowed, "token is valid")

				parts := strings.Split(token, ".")
				forged := strings.Join([]string{parts[0], encode(`{"sub":"1","exp":99999999999}`), parts[2]}, ".")
				wantDecision(t, mustCheck(t, b, openingRequest(forged)), backends.Denied, "token is not signed by the issuer")
				cut := strings.Join([]string{parts[0], parts[1], ""}, ".")
				wantDecision(t, mustCheck(t, b, openingRequest(cut)), backends.Denied, "token is not signed by the issuer")
			})
		}
	}
}

// A key verifies only algorithms of its kind, whatever the list holds. Config rejects such lists already; this is the
// second line of defence.
func TestKeySet_KeyBoundToKind(t *testing.T) {
	t.Parallel()
	set := keySet{{value: []byte(testSecret)}}
	for _, p := range keyPairs() {
		set = append(set, key{value: p.public})
	}
	set = append(set, key{value: "something else"}, key{value: pemOf(t, keyPairs()["RSA"].public), algorithm: "RS256"})
	for _, algorithm := range algorithms() {
		for _, found := range set.matching(algorithm, "") {
			method := jwt.GetSigningMethod(algorithm)
			if err := method.Verify("", nil, found); errors.Is(err, jwt.ErrInvalidKeyType) {
				t.Errorf("%s got a key of type %T", algorithm, found)
			}
		}
		wanted := 1
		if algorithm == "ES256" {
			wanted = 2
		}
		if n := len(set.matching(algorithm, "")); n != wanted {
			t.Errorf("%s got %d keys, want %d", algorithm, n, wanted)
		}
	}
}

func TestCheck_ForgedTokens_Denied(t *testing.T) {
	t.Parallel()
	rsaPEM := pemOf(t, keyPairs()["RSA"].public)
	good := func(t *testing.T) string {
		return sign(t, "RS256", "", keyPairs()["RSA"].private, goodClaims(nil))
	}
	header := func(algorithm string, more map[string]any) map[string]any {
		h := map[string]any{"alg": algorithm, "typ": "JWT"}
		maps.Copy(h, more)
		return h
	}
	own := newEd25519()
	const (
		malformed  = "token is malformed"
		notAllowed = "token is signed with an algorithm that is not allowed"
		notSigned  = "token is not signed by the issuer"
	)
	tests := map[string]struct {
		token  func(t *testing.T) string
		reason string
	}{
		"none": {func(t *testing.T) string {
			return sign(t, "none", "", jwt.UnsafeAllowNoneSignatureType, goodClaims(nil))
		}, notAllowed},
		"none in capitals": {func(*testing.T) string {
			return encode(`{"alg":"NONE"}`) + "." + encode(`{"exp":99999999999}`) + "."
		}, notAllowed},
		"HS256 with the public key's PEM as the secret": {func(t *testing.T) string {
			return sign(t, "HS256", "", rsaPEM, goodClaims(nil))
		}, notAllowed},
		"HS256 with the public key's PEM without its last line end": {func(t *testing.T) string {
			return sign(t, "HS256", "", rsaPEM[:len(rsaPEM)-1], goodClaims(nil))
		}, notAllowed},
		"the right key with an algorithm that is not listed": {func(t *testing.T) string {
			return sign(t, "PS256", "", keyPairs()["RSA"].private, goodClaims(nil))
		}, notAllowed},
		"another RSA key": {func(t *testing.T) string {
			return sign(t, "RS256", "", newRSA(2048).private, goodClaims(nil))
		}, notSigned},
		"a key inside the token": {func(t *testing.T) string {
			return signHeader(t, header("RS256", map[string]any{
				"jwk": jwkOf(t, "", own.public), "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/",
			}), newRSA(2048).private, goodClaims(nil))
		}, notSigned},
		"a critical extension": {func(t *testing.T) string {
			return signHeader(t, header("RS256", map[string]any{"crit": []string{"b64"}, "b64": false}),
				keyPairs()["RSA"].private, goodClaims(nil))
		}, "token requires an extension"},
		"a kid that is no string": {func(t *testing.T) string {
			return signHeader(t, header("RS256", map[string]any{"kid": 1}), keyPairs()["RSA"].private, goodClaims(nil))
		}, malformed},
		"a kid with SQL is only a name": {func(t *testing.T) string {
			return sign(t, "RS256", "' OR 1=1 --", keyPairs()["RSA"].private, goodClaims(nil))
		}, ""},
		"no algorithm": {func(*testing.T) string { return encode(`{}`) + "." + encode(`{}`) + "." }, notAllowed},
		"an unknown one": {
			func(*testing.T) string { return encode(`{"alg":"ES256K"}`) + "." + encode(`{}`) + "." }, notAllowed,
		},
		"one that is a list": {
			func(*testing.T) string { return encode(`{"alg":["RS256"]}`) + "." + encode(`{}`) + "." }, notAllowed,
		},
		"no JSON": {func(*testing.T) string { return "abc.def.ghi" }, malformed},
		"claims that are a list": {func(*testing.T) string {
			return encode(`{"alg":"RS256"}`) + "." + encode(`[]`) + "."
		}, malformed},
		"one part":   {func(*testing.T) string { return "5ecret" }, malformed},
		"dots alone": {func(*testing.T) string { return ".." }, malformed},
		"five parts": {func(t *testing.T) string { return good(t) + ".a.b" }, malformed},
		"padding":    {func(t *testing.T) string { return good(t) + "==" }, malformed},
		"a last letter that decodes to the same": {func(t *testing.T) string {
			token := good(t)
			last := len(token) - 1
			const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
			return token[:last] + string(letters[strings.IndexByte(letters, token[last])|1])
		}, malformed},
		"a line end within":  {func(t *testing.T) string { return strings.Replace(good(t), ".", ".%0A", 1) }, malformed},
		"a broken escape":    {func(t *testing.T) string { return good(t) + "%zz" }, malformed},
		"8 KiB are accepted": {func(*testing.T) string { return strings.Repeat("a", 8<<10) }, malformed},
		"one byte more": {
			func(*testing.T) string { return strings.Repeat("a", 8<<10+1) }, "token is longer than 8192 bytes",
		},
		"a megabyte": {
			func(*testing.T) string { return strings.Repeat("%41", 1<<20/3) }, "token is longer than 8192 bytes",
		},
		"a token of 8193, some of it escaped": {func(*testing.T) string {
			return strings.Repeat("a", 8<<10) + "%41"
		}, "token is longer than 8192 bytes"},
		"deeply nested claims": {func(*testing.T) string {
			return encode(`{"alg":"RS256"}`) + "." + encode(strings.Repeat("[", 5000)) + ".a"
		}, malformed},
	}
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.PublicKeyFile = []string{"RS256"}, keyFile(t, rsaPEM)
	b, _ := newBackend(t, cfg, nil)
	wantDecision(t, mustCheck(t, b, openingRequest(good(t))), backends.Allowed, "token is valid")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := tt.token(t)
			d := mustCheck(t, b, openingRequest(token))
			if tt.reason == "" {
				wantDecision(t, d, backends.Allowed, "token is valid")
				return
			}
			wantDecision(t, d, backends.Denied, tt.reason)
			wantHidden(t, d.Reason, token)
			if d.UserID != "" || d.User != "" {
				t.Errorf("got user %q, %q of a token that is not verified", d.UserID, d.User)
			}
		})
	}
}

// The token names a key of the set, but has another curve's algorithm.
func TestCheck_CurveMismatch_Denied(t *testing.T) {
	t.Parallel()
	public := map[string]crypto.PublicKey{"1": keyPairs()["P-384"].public, "2": keyPairs()["P-256"].public}
	i := startIssuer(t, setOf(t, public))
	b, _ := newBackend(t, withIssuer(i, "ES256", "ES384"), nil)
	token := sign(t, "ES384", "1", keyPairs()["P-384"].private, goodClaims(nil))
	wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Allowed, "token is valid")
	parts := strings.Split(token, ".")
	token = strings.Join([]string{encode(`{"alg":"ES256","kid":"1"}`), parts[1], parts[2]}, ".")
	wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Denied, "token is signed with an unknown key")
}

func TestFindToken(t *testing.T) {
	t.Parallel()
	const pending = "no token"
	token := func(t *testing.T) string { return sign(t, "HS256", "any", []byte(testSecret), goodClaims(nil)) }
	authorization := func(value string) []backends.Header {
		return []backends.Header{{Name: "X-Device", Value: "stb"}, {Name: "Authorization", Value: value}}
	}
	tests := map[string]struct {
		change  func(*Config)
		query   string
		headers []backends.Header
		reason  string
	}{
		"in the parameter":                {nil, "token=TOKEN", nil, ""},
		"among others":                    {nil, "a=b&token=TOKEN&c=d", nil, ""},
		"escaped":                         {nil, "%74oken=" + "TOKEN%2E", nil, "token is malformed"},
		"an empty one is none":            {nil, "token=&a=b", nil, pending},
		"one without a value is none":     {nil, "token", nil, pending},
		"the first that is not empty":     {nil, "token=&token=TOKEN&token=x", nil, ""},
		"a bad one first":                 {nil, "token=x&token=TOKEN", nil, "token is malformed"},
		"another parameter":               {nil, "jwt=TOKEN", nil, pending},
		"another name with that suffix":   {nil, "xtoken=TOKEN", nil, pending},
		"a parameter of another name":     {func(c *Config) { c.Parameter = "jwt" }, "token=x&jwt=TOKEN", nil, ""},
		"nothing":                         {nil, "", nil, pending},
		"a header that is not configured": {nil, "", authorization("Bearer TOKEN"), pending},
		"in the header": {
			func(c *Config) { c.Header = "authorization" }, "", authorization("Bearer TOKEN"), "",
		},
		"in the header, spelled otherwise": {
			func(c *Config) { c.Header = "Authorization" }, "", authorization("  bearer   TOKEN "), "",
		},
		"in the header without a scheme": {
			func(c *Config) { c.Header = "X-Device" }, "", []backends.Header{{Name: "X-Device", Value: "TOKEN"}}, "",
		},
		"another scheme is ignored": {
			func(c *Config) { c.Header = "Authorization" }, "", authorization("Basic dXNlcjpwYXNz"), pending,
		},
		"another scheme before it is ignored": {
			func(c *Config) { c.Header = "Authorization" }, "",
			append(authorization("Basic dXNlcjpwYXNz"), authorization("Bearer TOKEN")...), "",
		},
		"a scheme alone": {
			func(c *Config) { c.Header = "Authorization" }, "", authorization("Bearer "), pending,
		},
		"the parameter wins": {
			func(c *Config) { c.Header = "Authorization" }, "token=x", authorization("Bearer TOKEN"),
			"token is malformed",
		},
		"the header if there is no parameter": {
			func(c *Config) { c.Header = "Authorization" }, "a=b", authorization("Bearer TOKEN"), "",
		},
		"a parameter that is not configured": {
			func(c *Config) { c.Header, c.Parameter = "Authorization", "" }, "token=TOKEN&=TOKEN", nil, pending,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newBackend(t, withSecret(tt.change), nil)
			good := token(t)
			r := openingRequest("")
			r.Query = strings.ReplaceAll(tt.query, "TOKEN", good)
			for _, h := range tt.headers {
				h.Value = strings.ReplaceAll(h.Value, "TOKEN", good)
				r.Headers = append(r.Headers, h)
			}
			switch d := mustCheck(t, b, r); tt.reason {
			case "":
				wantDecision(t, d, backends.Allowed, "token is valid")
			case pending:
				wantDecision(t, d, backends.Pending, pending)
			default:
				wantDecision(t, d, backends.Denied, tt.reason)
			}
		})
	}
}

func TestCheck_EscapedToken(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(nil), nil)
	token := strings.ReplaceAll(sign(t, "HS256", "", []byte(testSecret), goodClaims(nil)), ".", "%2E")
	wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Allowed, "token is valid")
}

func TestCheck_FullDecision(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(func(c *Config) { c.MaxSessionsClaim, c.EndSessionOnExpiry = "streams", true }), nil)
	token := sign(t, "HS256", "", []byte(testSecret), goodClaims(jwt.MapClaims{"streams": 3}))
	wanted := backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "token is valid",
		UserID: "42", User: "alice", MaxSessions: 3, ValidFor: time.Hour + 30*time.Second,
	}
	if diff := cmp.Diff(wanted, mustCheck(t, b, openingRequest(token))); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func TestCheck_ViewerLeaves_StillAllowed(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(nil), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := b.Check(ctx, openingRequest(sign(t, "HS256", "", []byte(testSecret), goodClaims(nil))))
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	wantDecision(t, d, backends.Allowed, "token is valid") // nothing had to wait
}

// The libraries' errors may quote their input; ours must not.
func TestNew_ErrorsHideSecrets(t *testing.T) {
	t.Parallel()
	_, err := jwt.Parse(encode("5ecret")+"."+encode("{}")+".", nil)
	if _, ok := errors.AsType[*json.SyntaxError](err); !ok {
		t.Fatalf("got %v; the library no longer passes on its JSON parser's error", err)
	}
	for name, change := range map[string]func(*Config){
		"a short secret":       func(c *Config) { c.Secret = "5ecret" },
		"a second source":      func(c *Config) { c.JWKSURL = "http://user:5ecret@issuer.example.net/5ecret" },
		"an address with junk": func(c *Config) { c.JWKSURL = "http://user:5ecret@exa mple.net/%zz" },
		"an address of a file": func(c *Config) { c.JWKSURL = "file://user:5ecret@host/" },
		"a wrong algorithm":    func(c *Config) { c.Algorithms = []string{"RS256"} },
	} {
		_, err := New("tokens", withSecret(change), nil)
		if err == nil {
			t.Errorf("%s: got no error", name)
			continue
		}
		wantHidden(t, err.Error(), "5ecret", testSecret)
	}
	private := keyPairs()["RSA"].private.(*rsa.PrivateKey)
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.PublicKeyFile = []string{"RS256"}, keyFile(t, privatePEM(private))
	_, err = New("tokens", cfg, nil)
	if err == nil || !strings.Contains(err.Error(), `no public key or certificate in PEM, but "RSA PRIVATE KEY"`) {
		t.Errorf("got %v, want the file's problem", err)
	}
}
