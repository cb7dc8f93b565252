package jwt

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestDateClaim_LatestDateIsValid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"100000000000": true, "-100000000000": true, "100000000001": false} {
		if _, got := dateClaim(jwt.MapClaims{"exp": json.Number(text)}, "exp"); got != want {
			t.Errorf("%s is a date: %t, want %t", text, got, want)
		}
	}
}

func TestDateClaim_KeepsFractions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"1893456000": time.Unix(1893456000, 0), "1893456000.25": time.Unix(1893456000, 250_000_000), "-0.5": time.Unix(0, -500_000_000),
		"1.5e3": time.Unix(1500, 0),
	} {
		if got, ok := dateClaim(jwt.MapClaims{"exp": json.Number(text)}, "exp"); !ok || !got.Equal(want) {
			t.Errorf("%s: got %s, %t, want %s", text, got, ok, want)
		}
	}
}

func TestIDClaim_LongestIsKept(t *testing.T) {
	t.Parallel()
	for _, length := range []int{maxUserLength, maxUserLength + 1} {
		_, got := idClaim(jwt.MapClaims{"sub": strings.Repeat("x", length)}, "sub")
		if want := length <= maxUserLength; got != want {
			t.Errorf("%d bytes are an id: %t, want %t", length, got, want)
		}
	}
}

func TestCountClaim_BoundsAreIncluded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"0": true, "1000000": true, "1000001": false, "-1": false, "1.5": false} {
		if _, got := countClaim(jwt.MapClaims{"max": json.Number(text)}, "max"); got != want {
			t.Errorf("%s is a count: %t, want %t", text, got, want)
		}
	}
	if got, ok := countClaim(jwt.MapClaims{"max": "3"}, "max"); !ok || got != 3 {
		t.Errorf("a text: got %d, %t, want 3", got, ok)
	}
	if _, got := countClaim(jwt.MapClaims{"max": true}, "max"); got {
		t.Error("a truth value is a count, want none")
	}
}
