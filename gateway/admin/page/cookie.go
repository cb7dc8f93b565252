package page

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"

	"usher/backends/setting"
)

// CookieName is the name of the page's cookie.
const CookieName = "usher_page"

// CSRFHeader is the header with the CSRF token, which every write by the cookie must have.
const CSRFHeader = "X-Usher-CSRF"

// secretBytes is the length of a login's id and of its CSRF token.
const secretBytes = 32

// login is what a cookie holds. Only nodes that have the API's token can read or make one.
type login struct {
	id, csrf [secretBytes]byte
	until    time.Time
}

// newLogin returns a login that lasts until a time.
func newLogin(until time.Time) *login {
	l := &login{until: until.Truncate(time.Second)}
	_, _ = rand.Read(l.id[:]) // it never fails
	_, _ = rand.Read(l.csrf[:])
	return l
}

// token returns the CSRF token.
func (l *login) token() string { return base64.RawURLEncoding.EncodeToString(l.csrf[:]) }

// cookieAEAD returns the cipher of the cookies of those who logged in with the token.
func cookieAEAD(token setting.Secret) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, []byte(token.Reveal()), nil, "usher admin page cookie, AES-256-GCM, version 1", 32)
	if err != nil {
		panic("BUG: " + err.Error()) // only a longer key has an error
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("BUG: " + err.Error()) // the key has 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("BUG: " + err.Error()) // AES has GCM
	}
	return aead
}

// seal returns the cookie's value.
func (l *login) seal(token setting.Secret) string {
	text := binary.BigEndian.AppendUint64(nil, uint64(l.until.Unix()))
	text = append(append(text, l.id[:]...), l.csrf[:]...)
	return base64.RawURLEncoding.EncodeToString(cookieAEAD(token).Seal(nil, nil, text, []byte(CookieName)))
}

// errCookie means that a cookie is not one of this token.
var errCookie = errors.New("the login is unknown or has ended")

// maxCookieBytes is more than the length of any cookie of seal.
const maxCookieBytes = 256

// openLogin returns the login of a cookie's value, whether or not it has ended.
func openLogin(value string, token setting.Secret) (*login, error) {
	if len(value) > maxCookieBytes {
		return nil, errCookie
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(value)
	if err != nil {
		return nil, errCookie
	}
	text, err := cookieAEAD(token).Open(nil, nil, sealed, []byte(CookieName))
	if err != nil || len(text) != 8+2*secretBytes {
		return nil, errCookie
	}
	l := &login{until: time.Unix(int64(binary.BigEndian.Uint64(text)), 0)}
	copy(l.id[:], text[8:])
	copy(l.csrf[:], text[8+secretBytes:])
	return l, nil
}

// isTLS reports whether the operator's browser speaks TLS, with this node or with the proxy before it. A browser that lies
// changes only its own cookie. Of several proxies the first tells what the browser speaks.
func isTLS(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.EqualFold(strings.TrimSpace(scheme), "https")
}

// setCookie sets the cookie. An empty value ends it.
func setCookie(w http.ResponseWriter, r *http.Request, value string, lifetime time.Duration) {
	age := int(lifetime.Seconds())
	if value == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever the browser speaks TLS
		Name: CookieName, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: isTLS(r), SameSite: http.SameSiteStrictMode,
	})
}
