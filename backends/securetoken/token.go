package securetoken

import (
	"crypto/sha1" //nolint:gosec // the vendors' formula is SHA-1
	"encoding/hex"
	"strings"
)

// Bounds of a token. Vendors' salts have 4 to 32 characters.
const (
	timeDigits = 10
	maxSalt    = 256
	hashDigits = 2 * sha1.Size
)

// token is a parsed token, not yet verified.
type token struct {
	hash [sha1.Size]byte
	salt string
	// start and end are the Unix times of the window's first and last second, as the token spells them.
	start, end string
	// from and until are start and end as numbers.
	from, until int64
}

// parseToken parses a token. ok is false if the text has another format. The times end the token, so a salt may contain
// any character before them, even a hyphen.
func parseToken(s string) (t token, ok bool) {
	rest, start, found := cutLast(s)
	if !found {
		return token{}, false
	}
	rest, end, found := cutLast(rest)
	if !found {
		return token{}, false
	}
	hash, salt, found := strings.Cut(rest, "-")
	if !found || salt == "" || len(salt) > maxSalt || !t.setHash(hash) {
		return token{}, false
	}
	t.salt, t.start, t.end = salt, start, end
	var isStart, isEnd bool
	t.from, isStart = parseTime(start)
	t.until, isEnd = parseTime(end)
	if !isStart || !isEnd {
		return token{}, false
	}
	return t, true
}

// cutLast splits at the last hyphen.
func cutLast(s string) (before, after string, found bool) {
	at := strings.LastIndexByte(s, '-')
	if at < 0 {
		return s, "", false
	}
	return s[:at], s[at+1:], true
}

// setHash parses lower-case hex of the right length.
func (t *token) setHash(text string) bool {
	if len(text) != hashDigits || strings.ContainsFunc(text, func(r rune) bool { return r >= 'A' && r <= 'F' }) {
		return false
	}
	var digits [hashDigits]byte
	copy(digits[:], text)
	_, err := hex.Decode(t.hash[:], digits[:])
	return err == nil
}

// parseTime parses a Unix time of ten digits. Other lengths would let a viewer move digits between a token's times.
func parseTime(text string) (int64, bool) {
	if len(text) != timeDigits || text[0] == '0' {
		return 0, false
	}
	var n int64
	for i := range len(text) {
		digit := text[i] - '0'
		if digit > 9 {
			return 0, false
		}
		n = 10*n + int64(digit)
	}
	return n, true
}
