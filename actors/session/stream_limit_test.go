package session

import "testing"

func TestLimitPolicy_Text(t *testing.T) {
	t.Parallel()
	for _, want := range []LimitPolicy{EvictOldest, RejectNew} {
		text, err := want.MarshalText()
		got := LimitPolicy(255)
		if err != nil || got.UnmarshalText(text) != nil || got != want {
			t.Errorf("%q reads as %d, want %d; error %v", text, got, want, err)
		}
	}
	got := RejectNew
	if err := got.UnmarshalText([]byte("evict-newest")); err == nil || got != RejectNew {
		t.Errorf("an unknown policy: error %v, policy %v", err, got)
	}
	if EvictOldest.String() != "evict-oldest" || RejectNew.String() != "reject-new" {
		t.Errorf("policies %v and %v", EvictOldest, RejectNew)
	}
}
