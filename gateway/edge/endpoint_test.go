package edge

import (
	"net/netip"
	"testing"
	"time"
)

func TestWarning_IsDue_OnceAMinute(t *testing.T) {
	t.Parallel()
	w, now := &warning{}, time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {0, false}, {59 * time.Second, false}, {60 * time.Second, true}, {119 * time.Second, false}, {time.Hour, true}} {
		if got := w.isDue(now.Add(tc.after)); got != tc.want {
			t.Errorf("after %v: got %v", tc.after, got)
		}
	}
}

func TestEndpoint_MatchesPath(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		dialect    Dialect
		path       string
		asked      string
		wantsMatch bool
	}{
		"the path":                    {Nginx, "/auth", "/auth", true},
		"below the path":              {Nginx, "/auth", "/auth/x", false},
		"another path":                {Nginx, "/auth", "/aut", false},
		"no path":                     {Nginx, "/auth", "", false},
		"a prefix":                    {Nginx, "/auth/*", "/auth/x/y", true},
		"a prefix and nothing":        {Nginx, "/auth/*", "/auth/", true},
		"a prefix without its slash":  {Nginx, "/auth/*", "/auth", false},
		"Envoy, which asks elsewhere": {Envoy, "", "", false},
	} {
		e := NewEndpoint(&Config{Dialect: tc.dialect}, tc.path)
		if got := e.MatchesPath(tc.asked); got != tc.wantsMatch {
			t.Errorf("%s: got %v, want %v", name, got, tc.wantsMatch)
		}
	}
}

func TestEndpoints_AtPath_PrefersTheAllowed(t *testing.T) {
	t.Parallel()
	listing := func(path, network string) *Endpoint {
		return NewEndpoint(&Config{Dialect: Nginx, Networks: []netip.Prefix{netip.MustParsePrefix(network)}}, path)
	}
	first, second := listing("/auth", "192.0.2.0/28"), listing("/auth", "198.51.100.0/24")
	all := Endpoints{listing("/other", "0.0.0.0/0"), first, second}
	for address, want := range map[string]*Endpoint{"192.0.2.1": first, "198.51.100.1": second} {
		if got, isAllowed := all.AtPath("/auth", netip.MustParseAddr(address)); got != want || !isAllowed {
			t.Errorf("%s: got %p %v, want %p", address, got, isAllowed, want)
		}
	}
	unlisted := netip.MustParseAddr("203.0.113.1")
	if got, isAllowed := all.AtPath("/auth", unlisted); got != first || isAllowed {
		t.Errorf("unlisted: got %p %v, want the first at the path, %p", got, isAllowed, first)
	}
	if got, isAllowed := all.OfDialect(Alta, unlisted); got != nil || isAllowed {
		t.Errorf("another dialect: got %p %v", got, isAllowed)
	}
}
