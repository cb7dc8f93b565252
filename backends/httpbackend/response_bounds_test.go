package httpbackend

import (
	"net/http"
	"strings"
	"testing"
)

func TestClassification_UserID_LongestIsKept(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("x", maxUserLength)
	for id, want := range map[string]string{longest: longest, longest + "x": "", "a\x00b": "", "\xff": ""} {
		var c Classification
		if got := c.userID(http.Header{"X-Userid": {id}}); got != want || (c.Raised != 0) != (want == "") {
			t.Errorf("%.10q of %d bytes: got %.10q and alarms %b", id, len(id), got, c.Raised)
		}
	}
}

func TestClassification_Number_BoundsAreIncluded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"2": 2, "9": 9, " 5 ": 5, "1": 0, "10": 0, "x": 0, "5.0": 0} {
		var c Classification
		if got := c.number(http.Header{"X-N": {text}}, "X-N", 2, 9, "nothing"); got != want || (c.Raised != 0) != (want == 0) {
			t.Errorf("%q: got %d and alarms %b, want %d", text, got, c.Raised, want)
		}
	}
}

func TestIsPrintableASCII_EveryByte(t *testing.T) {
	t.Parallel()
	for r := range rune(256) {
		if got, want := isPrintableASCII("a"+string(r)), r >= '!' && r <= '~' && r != '\\'; got != want {
			t.Errorf("%q is printable: %t, want %t", r, got, want)
		}
	}
}
