package users

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// accountTable holds the accounts of a parsed file. It is immutable.
type accountTable struct {
	accounts map[string]*account
	// tokens are looked up by their hashes, so that the time of a lookup reveals nothing about a token.
	tokens map[fingerprint]*account
	// passwords are those of all accounts with one, in the file's order.
	passwords []password
}

// findByToken returns the token's account, or nil.
func (t *accountTable) findByToken(token string) *account {
	if token == "" || len(token) > maxTokenBytes {
		return nil
	}
	return t.tokens[fingerprintOf(token)]
}

// passwordFor returns the password to compare with for a login. For a login without a password or an account it is a
// decoy: another account's password, always the same one for a login, so that unknown logins take as long as known ones,
// also where hashes differ in kind and cost. It is unset if no account has a password.
func (t *accountTable) passwordFor(login string, secret []byte) (p password, isDecoy bool) {
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
