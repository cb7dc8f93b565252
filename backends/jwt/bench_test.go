package jwt

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
)

func methodHS256() jwt.SigningMethod { return jwt.SigningMethodHS256 }

// The cost of an opening decides whether caching verified tokens is worth it.
func BenchmarkCheck(b *testing.B) {
	for _, algorithm := range []string{"HS256", "RS256", "ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			cfg := withSecret(nil)
			if !isSymmetric(algorithm) {
				cfg.Secret, cfg.Algorithms = "", []string{algorithm}
				cfg.PublicKeyFile = keyFile(b, pemOf(b, keyPairs()[kindOf(algorithm)].public))
			}
			backend, _ := newBackend(b, cfg, nil)
			r := openingRequest(sign(b, algorithm, "1", signingKey(algorithm), goodClaims(nil)))
			b.ReportAllocs()
			for b.Loop() {
				if d, err := backend.Check(b.Context(), r); err != nil || d.Verdict != backends.Allowed {
					b.Fatalf("got %+v and error %v", d, err)
				}
			}
		})
	}
}

// The cost of a viewer without a valid token.
func BenchmarkCheck_Denied(b *testing.B) {
	backend, _ := newBackend(b, withSecret(nil), nil)
	for name, token := range map[string]string{
		"no token": "", "a random one": "c2VjcmV0", "a forged one": sign(b, "HS256", "", []byte("x"), goodClaims(nil)),
	} {
		b.Run(name, func(b *testing.B) {
			r := openingRequest(token)
			b.ReportAllocs()
			for b.Loop() {
				if d, err := backend.Check(b.Context(), r); err != nil || d.Verdict == backends.Allowed {
					b.Fatalf("got %+v and error %v", d, err)
				}
			}
		})
	}
}
