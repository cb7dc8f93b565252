package jwt

import (
	"crypto"
	"slices"
	"strings"
	"testing"

	"usher/backends"
)

// Only the issuer's tokens are allowed, and no viewer input causes an error.
func FuzzCheck(f *testing.F) {
	good := sign(f, "HS256", "1", []byte(testSecret), goodClaims(nil))
	parts := strings.Split(good, ".")
	for _, seed := range []string{
		"", "token=", "token=" + parts[0] + "." + parts[1] + ".", "token=" + good + "x", "token=.." + good,
		"token=" + encode(`{"alg":"none"}`) + "." + parts[1] + ".",
		"token=" + encode(`{"alg":"HS256","crit":["exp"]}`) + "." + parts[1] + "." + parts[2],
		"token=" + encode(`{"alg":"RS256","kid":"1"}`) + "." + parts[1] + ".AAAA",
		"token=" + encode(`{"alg":"ES256","kid":"2"}`) + "." + parts[1] + "." + strings.Repeat("A", 86),
		"%74oken=%2e&token", "token=a%zz", "&&=&token=a.b.c",
	} {
		f.Add(seed, "")
		f.Add("", strings.Replace(seed, "token=", "Bearer ", 1))
	}
	public := map[string]crypto.PublicKey{
		"1": keyPairs()["RSA"].public, "2": keyPairs()["P-256"].public, "3": keyPairs()["Ed25519"].public,
	}
	i := startIssuer(f, setOf(f, public))
	bySet, _ := newBackend(f, withIssuer(i, "RS256", "PS256", "ES256", "EdDSA"), nil)
	bySet.cfg.Header, bySet.header = "Authorization", "Authorization"
	bySecret, _ := newBackend(f, withSecret(func(c *Config) {
		c.Secret, c.Header = "another-secret-that-no-seed-was-signed-with", "Authorization"
	}), nil)
	f.Fuzz(func(t *testing.T, query, header string) {
		r := openingRequest("")
		r.Query, r.Headers = query, []backends.Header{{Name: "Authorization", Value: header}}
		for _, b := range []*Backend{bySet, bySecret} {
			d, err := b.Check(t.Context(), r)
			if err != nil || d.Verdict == backends.Allowed || d.Source != backends.FromLocal || d.Reason == "" {
				t.Errorf("got %+v and error %v, want no yes", d, err)
			}
			if d.Verdict == backends.Pending && d.Reason != "no token" {
				t.Errorf("got pending because %q", d.Reason)
			}
		}
	})
}

// For any published set: each key is of a requested kind, and a set without such a key is an error.
func FuzzParseSet(f *testing.F) {
	public := map[string]crypto.PublicKey{}
	for kind, p := range keyPairs() {
		public[kind] = p.public
	}
	f.Add([]byte(setOf(f, public)))
	for _, seed := range []string{
		`{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":null}`, `{}`, `[]`,
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`, `{"keys":[{"kty":"OKP","crv":"Ed448","x":"AAAA"}]}`,
	} {
		f.Add([]byte(seed))
	}
	wanted := []string{"RS256", "ES384", "EdDSA"}
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := parseSet(body, wanted)
		if (err == nil) != (len(set) > 0) {
			t.Fatalf("got %d keys and error %v", len(set), err)
		}
		for _, k := range set {
			if !slices.ContainsFunc(wanted, k.verifies) || k.verifies("HS256") || k.validate() != nil {
				t.Errorf("got a key of type %T for %q", k.value, k.algorithm)
			}
		}
	})
}

// Claims may be any JSON, also in a signed token.
func FuzzCheck_Claims(f *testing.F) {
	for _, seed := range []string{
		`{"exp":1767330000,"sub":"42","n":1,"ip":"192.0.2.7","ch":["a*"]}`, `{"exp":1e400}`, `{"exp":-0.5,"nbf":[]}`,
		`{"ch":"[","ip":1,"n":"99999999999999999999"}`, `null`, `[]`, `{"exp":1767330000,"exp":1}`,
	} {
		f.Add(seed)
	}
	b, _ := newBackend(f, withSecret(func(c *Config) {
		c.ChannelsClaim, c.AddressClaim, c.MaxSessionsClaim, c.EndSessionOnExpiry = "ch", "ip", "n", true
	}), nil)
	f.Fuzz(func(t *testing.T, claims string) {
		signed := encode(`{"alg":"HS256"}`) + "." + encode(claims)
		signature, err := methodHS256().Sign(signed, []byte(testSecret))
		if err != nil {
			t.Fatalf("sign: %v", err)
		}
		d, err := b.Check(t.Context(), openingRequest(signed+"."+encode(string(signature))))
		switch {
		case err != nil || d.Verdict == backends.Pending:
			t.Errorf("got %+v and error %v, want yes or no", d, err)
		case d.Verdict == backends.Allowed && (d.ValidFor <= 0 || d.ValidFor > maxValidity || d.MaxSessions < 0):
			t.Errorf("got %+v, which makes no sense", d)
		}
	})
}
