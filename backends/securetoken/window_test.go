package securetoken

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestCheck_Window(t *testing.T) {
	t.Parallel()
	const tolerance = 30 // the default
	tests := map[string]struct {
		now     int64
		verdict backends.Verdict
		reason  string
	}{
		"its first second":              {from, backends.Allowed, valid},
		"its last second":               {until, backends.Allowed, valid},
		"before, within the tolerance":  {from - tolerance, backends.Allowed, valid},
		"before, beyond the tolerance":  {from - tolerance - 1, backends.Denied, early},
		"after, within the tolerance":   {until + tolerance, backends.Allowed, valid},
		"after, beyond the tolerance":   {until + tolerance + 1, backends.Denied, late},
		"long before":                   {0, backends.Denied, early},
		"a clock from before all times": {-62135596800, backends.Denied, early},
		"long after":                    {253402300799, backends.Denied, late},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantDecision(t, mustCheck(t, newBackend(t, tt.now, nil), exampleRequest(vector2)), tt.verdict, tt.reason)
		})
	}
}

func TestCheck_ZeroTolerance(t *testing.T) {
	t.Parallel()
	exact := func(c *Config) { c.ClockSkew = 0 }
	wantDecision(t, mustCheck(t, newBackend(t, from-1, exact), exampleRequest(vector2)), backends.Denied, early)
	wantDecision(t, mustCheck(t, newBackend(t, from, exact), exampleRequest(vector2)), backends.Allowed, valid)
	wantDecision(t, mustCheck(t, newBackend(t, until, exact), exampleRequest(vector2)), backends.Allowed, valid)
	wantDecision(t, mustCheck(t, newBackend(t, until+1, exact), exampleRequest(vector2)), backends.Denied, late)
}

func TestCheck_SignatureBeforeWindow(t *testing.T) {
	t.Parallel()
	wantDecision(t, mustCheck(t, newBackend(t, until+3600, nil), exampleRequest(vector1)), backends.Denied, mismatch)
}

func TestCheck_WindowAppliesToOpening(t *testing.T) {
	t.Parallel()
	cuts := func(c *Config) { c.EndSessionOnExpiry = true }
	yes := backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: valid}
	tests := map[string]struct {
		change func(*Config)
		opened int64
		now    int64
		want   backends.Decision
	}{
		"a session opened in time continues after the end": {nil, inside, until + 3600, yes},
		"a session opened late does not":                   {nil, until + 31, until + 31, denied(late)},
		"an opening now":                                   {nil, 0, until + 31, denied(late)},
		"a session opened in time is cut":                  {cuts, inside, until + 31, denied(late)},
		"one that will be cut is allowed for the rest of its time": {
			cuts, inside, until - 3600, validFor(yes, 3631*time.Second),
		},
		"in its last second, tolerance and all, it still has that": {
			cuts, inside, until + 30, validFor(yes, time.Second),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := exampleRequest(vector2)
			r.Number = 1
			if tt.opened != 0 {
				r.TokenTime = time.Unix(tt.opened, 0)
			}
			if diff := cmp.Diff(tt.want, mustCheck(t, newBackend(t, tt.now, tt.change), r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func denied(reason string) backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: reason}
}

func validFor(d backends.Decision, life time.Duration) backends.Decision {
	d.ValidFor = life
	return d
}

// The remaining validity is always above zero, because zero means the backend's default.
func TestCheck_CutExpired_ValidityAboveZero(t *testing.T) {
	t.Parallel()
	b := newBackend(t, 0, func(c *Config) { c.EndSessionOnExpiry, c.ClockSkew = true, 0 })
	for _, now := range []time.Time{
		time.Unix(until, 999_999_999), time.Unix(until, 0), time.Unix(from, 0),
	} {
		b.now = func() time.Time { return now }
		d := mustCheck(t, b, exampleRequest(vector2))
		if d.Verdict != backends.Allowed || d.ValidFor <= 0 || d.ValidFor > (until-from+1)*time.Second {
			t.Errorf("at %v got %s for %s", now, d.Verdict, d.ValidFor)
		}
	}
}

func TestCheck_LatestEndTime(t *testing.T) {
	t.Parallel()
	b := newBackend(t, inside, func(c *Config) { c.EndSessionOnExpiry = true })
	r := exampleRequest(sign("travel-channel", "192.168.88.98", "1000000000", "9999999999", "secret", "o4rH", ""))
	d := mustCheck(t, b, r)
	if wanted := (9999999999 + 31 - inside) * time.Second; d.Verdict != backends.Allowed || d.ValidFor != wanted {
		t.Errorf("got %s for %s, want allowed for %s", d.Verdict, d.ValidFor, wanted)
	}
}
