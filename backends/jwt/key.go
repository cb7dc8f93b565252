package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends/setting"
)

// Bounds of an RSA key. RFC 7518 §3.3 requires 2048; beyond the upper bound a single token would cost a millisecond.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// maxKeysTried bounds the keys that are tried for a token without a kid.
const maxKeysTried = 8

// algorithms returns all supported algorithms.
func algorithms() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA",
	}
}

func isSymmetric(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

// key is one key of an issuer.
type key struct {
	// id is the kid; empty: none.
	id string
	// algorithm is the only one that the key verifies; empty: all of its kind.
	algorithm string
	// value is the secret as []byte, or a public key.
	value crypto.PublicKey
}

// verifies reports whether the key is for that algorithm. It binds keys to their kind: a public key never serves as a
// secret, nor one curve for another.
func (k key) verifies(algorithm string) bool {
	if k.algorithm != "" && k.algorithm != algorithm {
		return false
	}
	switch value := k.value.(type) {
	case []byte:
		return isSymmetric(algorithm)
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == curveAlgorithm(value.Curve)
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	default:
		return false
	}
}

// curveAlgorithm returns the algorithm of RFC 7518 §3.4 for the curve, or empty.
func curveAlgorithm(curve elliptic.Curve) string {
	switch curve {
	case elliptic.P256():
		return "ES256"
	case elliptic.P384():
		return "ES384"
	case elliptic.P521():
		return "ES512"
	default:
		return ""
	}
}

// validate returns why the key must not be used.
func (k key) validate() error {
	public, ok := k.value.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return fmt.Errorf("RSA key of %d bits: want %d to %d", bits, minRSABits, maxRSABits)
	}
	return nil
}

// keySet holds the keys of an issuer. It is immutable once in use.
type keySet []key

// matching returns the keys for a token of that algorithm: those with the id, or any if the id is empty.
func (s keySet) matching(algorithm, id string) []jwt.VerificationKey {
	var found []jwt.VerificationKey
	for _, k := range s {
		if (id == "" || k.id == id) && k.verifies(algorithm) && len(found) < maxKeysTried {
			found = append(found, k.value)
		}
	}
	return found
}

// readPublicKey reads the key of a PEM file. The key must verify all of the algorithms.
func readPublicKey(file setting.File, algorithms []string) (keySet, error) {
	if file.Err != nil {
		return nil, fmt.Errorf("public_key_file: %w", file.Err)
	}
	value, err := parsePublicKey([]byte(file.Text.Reveal()))
	if err != nil {
		return nil, fmt.Errorf("public_key_file: %s: %w", file.Path, err)
	}
	k := key{value: value}
	if err := k.validate(); err != nil {
		return nil, fmt.Errorf("public_key_file: %s: %w", file.Path, err)
	}
	for _, algorithm := range algorithms {
		if !k.verifies(algorithm) {
			return nil, fmt.Errorf("algorithms: %s is not for the key in public_key_file: %s", algorithm, file.Path)
		}
	}
	return keySet{k}, nil
}

var errNoPublicKey = errors.New("no public key or certificate in PEM")

// parsePublicKey parses a key in PEM. Its errors show nothing of the content, which may be a private key.
func parsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errNoPublicKey
	}
	switch block.Type {
	case "PUBLIC KEY":
		value, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errNoPublicKey
		}
		return value, nil
	case "RSA PUBLIC KEY":
		value, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, errNoPublicKey
		}
		return value, nil
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errNoPublicKey
		}
		return certificate.PublicKey, nil
	default:
		return nil, fmt.Errorf("%w, but %q", errNoPublicKey, block.Type)
	}
}
