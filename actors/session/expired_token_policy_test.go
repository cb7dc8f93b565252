package session

import (
	"fmt"
	"testing"
)

func TestExpiredTokenPolicy_Text(t *testing.T) {
	t.Parallel()
	for _, want := range []ExpiredTokenPolicy{keepOnExpiredToken, denyOnExpiredToken} {
		text, _ := want.MarshalText()
		var got ExpiredTokenPolicy
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var e ExpiredTokenPolicy
	if got, want := fmt.Sprint(e.UnmarshalText(nil)), `on_expired_token "": want keep or deny`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
