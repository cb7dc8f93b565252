package backends

import (
	"fmt"
	"testing"
)

func TestExpiredTokenText(t *testing.T) {
	t.Parallel()
	for _, want := range []ExpiredToken{ExpiredKeep, ExpiredDeny} {
		text, _ := want.MarshalText()
		var got ExpiredToken
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var e ExpiredToken
	if got, want := fmt.Sprint(e.UnmarshalText(nil)), `on_expired_token "": want keep or deny`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
