package origin

import "testing"

func TestSource_URL(t *testing.T) {
	t.Parallel()
	for want, source := range map[string]Source{
		"http://a/x":         {Scheme: "http", Host: "a", Path: "/x"},
		"https://a:8443/x?q": {Scheme: "https", Host: "a:8443", Path: "/x", Query: "q"},
	} {
		if got := source.URL(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestObjectDerive_KeysInTurn checks which results are kept.
func TestObjectDerive_KeysInTurn(t *testing.T) {
	t.Parallel()
	o := &Object{}
	for i := range 2 * maxDerived {
		for k := range i + 1 {
			computed := false
			got := o.Derive(1, k, func() any { computed = true; return k })
			if want := k == i || k >= maxDerived; got != k || computed != want {
				t.Errorf("round %d, key %d: got %v, computed %v, want %v", i, k, got, computed, want)
			}
		}
	}
	if got := o.derived.Load().depth; got != maxDerived {
		t.Errorf("%d results are kept, want %d", got, maxDerived)
	}
}
