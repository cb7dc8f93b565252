package redisclient

import "testing"

func TestSlots(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]uint16{ // by CLUSTER KEYSLOT
		"123456789": 12739, "foo": 12182, "a{foo}b": 12182, "a{}foo": 16292, "{a{b}c": 13340,
	} {
		if got := hashSlot(key); got != want {
			t.Errorf("%q lies in slot %d, want %d", key, got, want)
		}
	}
}
