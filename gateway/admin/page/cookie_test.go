package page

import (
	"testing"
	"time"
)

// FuzzOpenLogin opens what a client may send as a cookie.
func FuzzOpenLogin(f *testing.F) {
	const token = "the token of admin"
	own := newLogin(time.Unix(1_800_000_000, 0))
	sealed := own.seal(token)
	f.Add(sealed)
	f.Add(sealed[:len(sealed)-1])
	f.Add(own.seal("another token"))
	f.Add("")
	if l, err := openLogin(sealed, token); err != nil || *l != *own {
		f.Errorf("got %+v, %v, want %+v", l, err, own)
	}
	f.Fuzz(func(t *testing.T, value string) {
		l, err := openLogin(value, token)
		if err == nil && !l.until.Equal(own.until) { // a process makes its own seeds
			t.Errorf("%q opens as %+v", value, l)
		}
		if _, errOther := openLogin(value, "a third token"); errOther == nil {
			t.Errorf("%q opens with a token that sealed nothing", value)
		}
	})
}

func TestLogin_Seal_DiffersEachTime(t *testing.T) {
	t.Parallel()
	l := newLogin(time.Unix(1_800_000_000, 0))
	if a, b := l.seal("a token"), l.seal("a token"); a == b || len(a) > maxCookieBytes {
		t.Errorf("%q and %q", a, b)
	}
	if other := newLogin(l.until); other.id == l.id || other.csrf == l.csrf {
		t.Error("two logins have one id or one CSRF token")
	}
}
