package backends

import (
	"fmt"
	"testing"
)

func TestPolicy_Text(t *testing.T) {
	t.Parallel()
	for _, want := range []Policy{policyFromPreset, PolicyAllow, PolicyKeep, PolicyDeny} {
		text, _ := want.MarshalText()
		var got Policy
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var p Policy
	if got, want := fmt.Sprint(p.UnmarshalText([]byte("open"))), `on_failure "open": want allow, keep or deny`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPolicy_Or(t *testing.T) {
	t.Parallel()
	if got := policyFromPreset.Or(PolicyKeep); got != PolicyKeep {
		t.Errorf("without a policy: got %s, want the fallback", got)
	}
	if got := PolicyDeny.Or(PolicyKeep); got != PolicyDeny {
		t.Errorf("with a policy: got %s, want it", got)
	}
}
