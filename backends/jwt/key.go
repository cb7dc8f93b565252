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
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Bounds of an RSA key in bits. RFC 7518 §3.3 asks for 2048; beyond the upper one a single token would cost a
// millisecond.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// maxKeysTried is how many keys a token is tried with that names none.
const maxKeysTried = 8

// algorithms are all that are known.
func algorithms() []string {
	return []string{
		"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
		"ES256", "ES384", "ES512", "EdDSA",
	}
}

func isSymmetric(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

// key is one key of an issuer.
type key struct {
	// id is its kid; empty: it has none.
	id string
	// algorithm is the one that it is for; empty: those of its kind.
	algorithm string
	// value is the secret as []byte, or a public key.
	value crypto.PublicKey
}

// verifies reports whether the key is for that algorithm. It binds keys to their kind: a public key is never taken for
// a secret, nor a curve for another.
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

// curveAlgorithm is the algorithm of RFC 7518 §3.4 for the curve, or empty.
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

// validate reports why the key is not to be used.
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

// keySet is the keys of an issuer. It is not changed once it is in use.
type keySet []key

// matching are the keys for a token of that algorithm: those of that id, or, if it names none, any.
func (s keySet) matching(algorithm, id string) []jwt.VerificationKey {
	var found []jwt.VerificationKey
	for _, k := range s {
		if (id == "" || k.id == id) && k.verifies(algorithm) && len(found) < maxKeysTried {
			found = append(found, k.value)
		}
	}
	return found
}

// readPublicKey reads the key of a PEM file, and requires that it is one for all of the algorithms.
func readPublicKey(file string, algorithms []string) (keySet, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("public_key_file: %w", err)
	}
	value, err := parsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("public_key_file: %s: %w", file, err)
	}
	k := key{value: value}
	if err := k.validate(); err != nil {
		return nil, fmt.Errorf("public_key_file: %s: %w", file, err)
	}
	for _, algorithm := range algorithms {
		if !k.verifies(algorithm) {
			return nil, fmt.Errorf("algorithms: %s is not for the key in public_key_file: %s", algorithm, file)
		}
	}
	return keySet{k}, nil
}

var errNoPublicKey = errors.New("no public key or certificate in PEM")

// parsePublicKey shows nothing of what it cannot read: it may be a private key.
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
