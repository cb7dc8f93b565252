package backends

import "testing"

func TestParseSessionID(t *testing.T) {
	t.Parallel()
	id := SessionID{0: 1, 7: 2, 15: 3}
	if got, err := ParseSessionID(id.String()); err != nil || got != id {
		t.Errorf("got %v, %v, want %v", got, err, id)
	}
	for name, text := range map[string]string{
		"nothing":                    "",
		"a byte too few":             "AQAAAAAAAAIAAAAAAAAA",
		"a byte too many":            "AQAAAAAAAAIAAAAAAAAAAwM",
		"the right length, no digit": "AQAAAAAAAAIAAAAAAAAAA!",
		"all bytes, then no digit":   id.String() + "!",
	} {
		if got, err := ParseSessionID(text); err == nil || !got.IsZero() {
			t.Errorf("%s: got %v, %v, want an error and no id", name, got, err)
		}
	}
}

func TestSessionID_IsZero(t *testing.T) {
	t.Parallel()
	if !(SessionID{}).IsZero() || (SessionID{15: 1}).IsZero() {
		t.Error("the zero id is not zero, or another one is")
	}
}
