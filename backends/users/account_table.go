package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// accountTable is a file, read. It is not changed after it was made.
type accountTable struct {
	accounts map[string]*account
	// tokens are looked up by their hashes, so the time of a look-up tells nothing about a token.
	tokens map[fingerprint]*account
	// passwords are those of all accounts that have one, in the file's order.
	passwords []password
}

// findByToken is the token's account, or nil.
func (t *accountTable) findByToken(token string) *account {
	if token == "" || len(token) > maxTokenBytes {
		return nil
	}
	return t.tokens[fingerprintOf(token)]
}

// passwordFor is what to compare a password with that is given for a login. For a login without a password, or without
// an account, it is a decoy: the one of another account, always the same for a login, so that unknown logins take as
// long as known ones do, in the same proportions where hashes differ in kind and cost. It is unset if nobody has one.
func (t *accountTable) passwordFor(login string, secret []byte) (p password, decoy bool) {
	var other password
	if n := uint64(len(t.passwords)); n > 0 {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(login))
		other = t.passwords[binary.BigEndian.Uint64(mac.Sum(nil))%n]
	}
	if a := t.accounts[login]; a != nil && a.password.isSet() {
		return a.password, false
	}
	return other, true
}
