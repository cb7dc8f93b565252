package backends

import "testing"

func TestSource_IsAuthoritative(t *testing.T) {
	t.Parallel()
	for source, want := range map[Source]bool{
		SourceNone: false, FromFailOpen: false, FromCached: false, FromTicket: false,
		FromBackend: true, FromLocal: true, FromLimit: true, FromBan: true, FromOperator: true,
	} {
		if got := source.IsAuthoritative(); got != want {
			t.Errorf("%s is verified: %t, want %t", source, got, want)
		}
	}
}

func TestRequest_IsUnknown(t *testing.T) {
	t.Parallel()
	for verdict, want := range map[Verdict]bool{Pending: true, Allowed: false, Denied: false} {
		if got := (&Request{Current: Decision{Verdict: verdict}}).IsUnknown(); got != want {
			t.Errorf("with %s the viewer is unknown: %t, want %t", verdict, got, want)
		}
	}
}
