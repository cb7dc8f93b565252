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
		"a bit beyond all bytes":     "AQAAAAAAAAIAAAAAAAAAAx",
		"a line break in it":         "AQAAAAAAAAI\nAAAAAAAAAAw",
	} {
		if got, err := ParseSessionID(text); err == nil || !got.IsZero() {
			t.Errorf("%s: got %v, %v, want an error and no id", name, got, err)
		}
	}
}

// TestSessionID_Forms pins what middlewares, logs and operators see of an id: nodes of two versions must agree.
func TestSessionID_Forms(t *testing.T) {
	t.Parallel()
	for id, want := range map[SessionID]struct {
		text, uuid string
		number     uint64
	}{
		{}: {"AAAAAAAAAAAAAAAAAAAAAA", "00000000-0000-8000-8000-000000000000", 0},
		{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10}: {
			"EjRWeJq83vD-3LqYdlQyEA", "12345678-9abc-8ef0-bedc-ba9876543210", 0x123456789abcdef0 >> 11,
		},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}: {
			"_____________________w", "ffffffff-ffff-8fff-bfff-ffffffffffff", 1<<53 - 1,
		},
	} {
		if id.String() != want.text || id.UUID() != want.uuid || id.Number() != want.number {
			t.Errorf("got %s, %s and %d, want %s, %s and %d", id, id.UUID(), id.Number(), want.text, want.uuid, want.number)
		}
	}
}

func TestSessionID_IsZero(t *testing.T) {
	t.Parallel()
	if !(SessionID{}).IsZero() || (SessionID{15: 1}).IsZero() {
		t.Error("the zero id is not zero, or another one is")
	}
}
