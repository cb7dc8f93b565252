package jwt

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func privatePEM(k *rsa.PrivateKey) []byte {
	return pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k))
}

func certificate(t *testing.T, p keyPair) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.public, p.private)
	if err != nil {
		t.Fatalf("make a certificate: %v", err)
	}
	return pemBlock("CERTIFICATE", der)
}

func TestReadPublicKey(t *testing.T) {
	t.Parallel()
	key := keyPairs()["RSA"]
	tests := map[string]struct {
		text       []byte
		algorithms []string
		wrong      string
	}{
		"a public key": {pemOf(t, key.public), []string{"RS256", "PS512"}, ""},
		"one as PKCS #1": {
			pemBlock("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(key.public.(*rsa.PublicKey))), []string{"RS256"}, "",
		},
		"a certificate":  {certificate(t, key), []string{"RS256"}, ""},
		"text before it": {append([]byte("the portal's key\n"), pemOf(t, key.public)...), []string{"RS256"}, ""},
		"an algorithm of other keys": {
			pemOf(t, key.public),
			[]string{"RS256", "ES256"},
			"algorithms: ES256 is not for the key in public_key_file: ",
		},
		"another curve": {
			pemOf(t, keyPairs()["P-384"].public), []string{"ES256"}, "algorithms: ES256 is not for the key",
		},
		"an unsupported curve": {
			pemOf(t, newCurve(elliptic.P224()).public), []string{"ES256"}, "algorithms: ES256 is not for the key",
		},
		"a small key": {
			pemOf(t, newRSA(1024).public), []string{"RS256"}, "RSA key of 1024 bits: want 2048 to 8192",
		},
		"a private key": {
			privatePEM(key.private.(*rsa.PrivateKey)),
			[]string{"RS256"},
			`no public key or certificate in PEM, but "RSA PRIVATE KEY"`,
		},
		"nothing": {nil, []string{"RS256"}, "no public key or certificate in PEM"},
		"a broken key": {
			pemBlock("PUBLIC KEY", []byte("x")), []string{"RS256"}, "no public key or certificate in PEM",
		},
		"a broken old key": {
			pemBlock("RSA PUBLIC KEY", []byte("x")), []string{"RS256"}, "no public key or certificate in PEM",
		},
		"a broken certificate": {
			pemBlock("CERTIFICATE", []byte("x")), []string{"RS256"}, "no public key or certificate in PEM",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.Algorithms, cfg.PublicKeyFile = tt.algorithms, keyFile(t, tt.text)
			b, err := New("tokens", cfg, nil)
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Fatalf("got %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatalf("make the backend: %v", err)
			}
			b.now = func() time.Time { return testNow }
			token := sign(t, "RS256", "whatever", key.private, goodClaims(nil))
			wantDecision(t, mustCheck(t, b, openingRequest(token)), backends.Allowed, "token is valid")
		})
	}
}

func TestKey_Validate_Size(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint]bool{2047: false, 2048: true, 8192: true, 8193: false} {
		k := key{value: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}}
		if got := k.validate() == nil; got != want {
			t.Errorf("an RSA key of %d bits is valid: %t, want %t", bits, got, want)
		}
	}
}

func TestNew_MissingKeyFile(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Algorithms, cfg.PublicKeyFile = []string{"RS256"}, setting.ReadFile(t.TempDir()+"/none.pem")
	_, err := New("tokens", cfg, nil)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "public_key_file: ") {
		t.Errorf("got %v, want that the file is not there", err)
	}
}
