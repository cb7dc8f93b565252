package users

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// sha256Prefix precedes SHA-256 hashes of passwords and tokens.
const sha256Prefix = "sha256:"

// minSaltBytes is the length of a salt below which tables of common passwords could be precomputed.
const minSaltBytes = 8

// maxCost is the bcrypt cost above which a hash takes longer than a viewer may wait. One more doubles the time.
const maxCost = 12

// password is a stored password hash. The zero value is none.
type password struct {
	bcrypt    string // the whole hash, or empty
	salt, sum []byte // of SHA-256
}

func (p password) isSet() bool { return p.bcrypt != "" || p.sum != nil }

// equal reports whether the text has this hash, in constant time.
func (p password) equal(text string) bool {
	if p.bcrypt != "" {
		return bcrypt.CompareHashAndPassword([]byte(p.bcrypt), []byte(text)) == nil
	}
	sum := sha256.Sum256(append(slices.Clip(p.salt), text...))
	return subtle.ConstantTimeCompare(sum[:], p.sum) == 1
}

// parsePassword parses a file's password hash. Its errors show nothing of it.
func parsePassword(text, login string) (password, error) {
	switch {
	case text == "":
		return password{}, errors.New("is empty; leave the key out for an account without password")
	case strings.HasPrefix(text, sha256Prefix):
		return parseSHA256(strings.TrimPrefix(text, sha256Prefix))
	case strings.HasPrefix(text, "$2"):
		return parseBcrypt(text)
	default:
		return password{}, fmt.Errorf("is not a hash, and plain passwords are not accepted; "+
			"make one with: htpasswd -nbB %s PASSWORD (it is what follows the colon; Debian's apache2-utils has it)", displayLogin(login))
	}
}

func parseBcrypt(text string) (password, error) {
	// Minor versions b, y and a are the same algorithm today; x marks hashes of a broken one.
	if !isBcrypt(text) {
		return password{}, errors.New("is not a bcrypt hash: want 60 characters that begin with $2y$, $2b$ or $2a$")
	}
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil || cost > maxCost {
		return password{}, fmt.Errorf("has a bcrypt cost that takes too long; want %d to %d", bcrypt.MinCost, maxCost)
	}
	return password{bcrypt: text}, nil
}

// isBcrypt reports whether a text looks like "$2y$05$" and 53 characters of salt and hash. A regular
// expression would be too slow for the accounts of a long file.
func isBcrypt(text string) bool {
	const digits, alphabet = "0123456789", "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	return len(text) == 60 && text[:2] == "$2" && strings.Contains("aby", text[2:3]) && text[3] == '$' && text[6] == '$' &&
		strings.Trim(text[4:6], digits) == "" && strings.Trim(text[7:], alphabet) == ""
}

func parseSHA256(text string) (password, error) {
	saltText, sumText, _ := strings.Cut(text, ":")
	salt, saltErr := hex.DecodeString(saltText)
	sum, sumErr := hex.DecodeString(sumText)
	if saltErr != nil || sumErr != nil || len(sum) != sha256.Size {
		return password{}, errors.New(
			"is not a SHA-256 hash: want sha256:<salt in hex>:<SHA-256 of salt and password, 64 hex digits>")
	}
	if len(salt) < minSaltBytes {
		return password{}, fmt.Errorf("has a salt of %d bytes; want at least %d", len(salt), minSaltBytes)
	}
	return password{salt: salt, sum: sum}, nil
}

// fingerprint is the SHA-256 of a token.
type fingerprint [sha256.Size]byte

// fingerprintOf returns a token's fingerprint. It does not allocate for tokens of common length.
func fingerprintOf(token string) fingerprint {
	var space [128]byte
	return sha256.Sum256(append(space[:0], token...))
}

// parseToken parses a file's token: plain, or its hash. Its errors show nothing of it.
func parseToken(text string) (fingerprint, error) {
	switch sumText, hashed := strings.CutPrefix(text, sha256Prefix); {
	case text == "":
		return fingerprint{}, errors.New("is empty")
	case len(text) > maxTokenBytes:
		return fingerprint{}, fmt.Errorf("is longer than %d bytes", maxTokenBytes)
	case hashed:
		sum, err := hex.DecodeString(sumText)
		if err != nil || len(sum) != sha256.Size {
			return fingerprint{}, errors.New("is not a token hash: want sha256:<SHA-256 of the token, 64 hex digits>")
		}
		return fingerprint(sum), nil
	default:
		return fingerprintOf(text), nil
	}
}
