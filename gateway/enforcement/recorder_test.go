package enforcement

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"usher/backends"
)

func TestMode_TextForms(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Mode{"true": Enforced, "false": Unenforced} {
		var m Mode
		if err := m.UnmarshalText([]byte(text)); err != nil || m != want {
			t.Errorf("%s: read %v, %v; want %v", text, m, err, want)
		}
		written, err := m.MarshalText()
		if err != nil || string(written) != text || m.String() != text {
			t.Errorf("%s: written as %s, %v", text, written, err)
		}
		if printed, err := m.MarshalYAML(); err != nil || printed != (want == Enforced) {
			t.Errorf("%s: printed as %v, %v; want no quotes", text, printed, err)
		}
	}
	m := Unenforced
	if err := m.UnmarshalText([]byte("yes")); err == nil || err.Error() != `enforce: "yes": want true or false` || m != Unenforced {
		t.Errorf("yes: got %v and %v, want an error and no change", err, m)
	}
}

func TestReasons_Closed(t *testing.T) {
	t.Parallel()
	reasons := Reasons()
	slices.Sort(reasons)
	if len(slices.Compact(slices.Clone(reasons))) != len(reasons) {
		t.Errorf("a reason is there twice: %q", reasons)
	}
	for _, want := range []Reason{"backend", "local", "fail-open", "cached", "ticket", "limit", "ban", "operator", Unchecked, NoTicket, Publish, BadReference} {
		if !slices.Contains(reasons, want) {
			t.Errorf("%s is missing in %q", want, reasons)
		}
	}
}

// TestRecorder_Record_OncePerSessionAndReason records refusals of two routes, one of which is enforced.
func TestRecorder_Record_OncePerSessionAndReason(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := New([]string{"open"}, slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(r.Close)
	alice, bob := backends.SessionID{1}, backends.SessionID{2}
	for range 3 {
		r.Record(Refusal{Route: "open", Session: alice, Reason: "backend", Facts: []slog.Attr{slog.String("user", "alice")}})
		r.Record(Refusal{Route: "open", Session: alice, Reason: "limit"})
		r.Record(Refusal{Route: "open", Session: bob, Reason: "backend"})
		r.Record(Refusal{Route: "closed", Session: bob, Reason: "backend"})
		r.Record(Refusal{Route: "open", Session: bob, Reason: "of a viewer's own"})
	}
	counts := r.Counts()
	if routes := slices.Collect(maps.Keys(counts)); !slices.Equal(routes, []string{"open"}) || len(counts["open"]) != len(waivable()) {
		t.Errorf("counted %v, want every reason of the open route that may be left unenforced", counts)
	}
	if counts["open"]["backend"] != 2 || counts["open"]["limit"] != 1 || counts["open"]["ban"] != 0 {
		t.Errorf("counted %v, want two sessions by the backend and one by the limit", counts)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	want := `level=WARN msg="refusal not enforced" route=open session=` + alice.String() + " reason=backend user=alice"
	if len(lines) != 3 || !strings.HasSuffix(lines[0], want) {
		t.Errorf("logged %q, want three lines, the first with %s", lines, want)
	}
}

// TestRecorder_NothingUnenforced_CostsNothing records on a node whose routes are all enforced.
func TestRecorder_NothingUnenforced_CostsNothing(t *testing.T) {
	t.Parallel()
	r := New(nil, slog.New(slog.DiscardHandler))
	r.Record(Refusal{Route: "closed", Reason: "backend"})
	r.Close()
	if len(r.Counts()) != 0 || r.recorded != nil {
		t.Errorf("got %v and a memory, want neither", r.Counts())
	}
}
