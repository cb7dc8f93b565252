package jwt

import (
	"crypto"
	"encoding/json"
	"strings"
	"testing"

	"github.com/MicahParks/jwkset"

	"usher/backends"
)

func TestParseSet(t *testing.T) {
	t.Parallel()
	all := []string{"RS256", "ES256", "EdDSA"}
	object := func(change func(*jwkset.JWKMarshal), kind string) string {
		jwk := jwkOf(t, "k", keyPairs()[kind].public)
		if change != nil {
			change(&jwk)
		}
		return string(must(json.Marshal(jwk)))
	}
	small := jwkOf(t, "k", newRSA(1024).public)
	tests := map[string]struct {
		key       string
		algorithm string // the one that it verifies; empty: none
	}{
		"RSA":                       {object(nil, "RSA"), "RS256"},
		"P-256":                     {object(nil, "P-256"), "ES256"},
		"Ed25519":                   {object(nil, "Ed25519"), "EdDSA"},
		"Ed25519 by its newer name": {object(func(k *jwkset.JWKMarshal) { k.ALG = "Ed25519" }, "Ed25519"), "EdDSA"},
		"one for signatures":        {object(func(k *jwkset.JWKMarshal) { k.USE = "sig" }, "P-256"), "ES256"},
		"one for encryption":        {object(func(k *jwkset.JWKMarshal) { k.USE = "enc" }, "RSA"), ""},
		"one for verifying": {
			object(func(k *jwkset.JWKMarshal) { k.KEYOPS = []jwkset.KEYOPS{"verify"} }, "RSA"), "RS256",
		},
		"one for signing alone": {
			object(func(k *jwkset.JWKMarshal) { k.KEYOPS = []jwkset.KEYOPS{"sign"} }, "RSA"), "",
		},
		"one for its algorithm":     {object(func(k *jwkset.JWKMarshal) { k.ALG = "RS256" }, "RSA"), "RS256"},
		"one for another algorithm": {object(func(k *jwkset.JWKMarshal) { k.ALG = "RS512" }, "RSA"), ""},
		"one with alg HS256":        {object(func(k *jwkset.JWKMarshal) { k.ALG = "HS256" }, "RSA"), ""},
		"a curve not listed":        {object(nil, "P-384"), ""},
		"a broken certificate beside it": {object(func(k *jwkset.JWKMarshal) {
			k.X5C, k.X5T, k.X5U = []string{"AAAA"}, "AAAA", "http://127.0.0.1:1/"
		}, "P-256"), "ES256"},
		"a private key, of which the public part is taken": {
			string(must(json.Marshal(jwkOf(t, "k", keyPairs()["P-256"].private)))), "ES256",
		},
		"a point beside the curve": {object(func(k *jwkset.JWKMarshal) { k.X, k.Y = k.Y, k.X }, "P-256"), ""},
		"a small RSA key":          {string(must(json.Marshal(small))), ""},
		"a giant RSA key":          {object(func(k *jwkset.JWKMarshal) { k.N = strings.Repeat("_", 2000) }, "RSA"), ""},
		"an even exponent":         {object(func(k *jwkset.JWKMarshal) { k.E = "AA" }, "RSA"), ""},
		"a secret":                 {`{"kty":"oct","kid":"k","k":"` + encode(testSecret) + `"}`, ""},
		"an unknown kind":          {`{"kty":"PQ","kid":"k"}`, ""},
		"no key":                   {`7`, ""},
	}
	other := string(must(json.Marshal(jwkOf(t, "other", keyPairs()["other P-256"].public))))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := parseSet([]byte(`{"keys":[`+tt.key+`,`+other+`]}`), all)
			if err != nil {
				t.Fatalf("parse: %v", err)
			}
			for _, algorithm := range algorithms() {
				n := len(set.matching(algorithm, "k"))
				if algorithm == tt.algorithm && n != 1 || n > 0 && tt.algorithm == "" {
					t.Errorf("got %d keys for %s, want one for %q alone", n, algorithm, tt.algorithm)
				}
			}
			if len(set.matching("ES256", "other")) != 1 {
				t.Error("the other key is gone")
			}
		})
	}
}

func TestParseSet_MostKeys(t *testing.T) {
	t.Parallel()
	good := string(must(json.Marshal(jwkOf(t, "k", keyPairs()["P-256"].public))))
	set, err := parseSet([]byte(`{"keys":[`+strings.Repeat("{},", 63)+good+`]}`), []string{"ES256"})
	if err != nil || len(set) != 1 {
		t.Errorf("64 keys, one usable: got %d and error %v, want one", len(set), err)
	}
}

func TestKeySet_TokenWithoutKid_TriesFewKeys(t *testing.T) {
	t.Parallel()
	public := map[string]crypto.PublicKey{"1": keyPairs()["P-256"].public, "2": keyPairs()["other P-256"].public}
	i := startIssuer(t, setOf(t, public))
	b, _ := newBackend(t, withIssuer(i), nil)
	for _, kind := range []string{"P-256", "other P-256"} {
		token := sign(t, "ES256", "", keyPairs()[kind].private, goodClaims(nil))
		wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Allowed, "token is valid")
	}
	var set keySet
	for range 20 {
		set = append(set, key{value: keyPairs()["P-256"].public})
	}
	if n := len(set.matching("ES256", "")); n != 8 {
		t.Errorf("got %d keys to try, want 8", n)
	}
}
