package edge

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
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

func TestEndpoint_Matches(t *testing.T) {
	t.Parallel()
	listing := func(d Dialect) *Endpoint {
		return NewEndpoint(&Config{Dialect: d, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "/auth")
	}
	for name, tc := range map[string]struct {
		endpoint *Endpoint
		dialect  Dialect
		edge     string
		path     string
		want     bool
	}{
		"its own":             {listing(Nginx), Nginx, "192.0.2.1", "/auth", true},
		"no endpoint":         {nil, Nginx, "192.0.2.1", "/auth", false},
		"another dialect":     {listing(Nginx), Alta, "192.0.2.1", "/auth", false},
		"another path":        {listing(Nginx), Nginx, "192.0.2.1", "/other", false},
		"an unlisted edge":    {listing(Nginx), Nginx, "198.51.100.1", "/auth", false},
		"Envoy, at no path":   {listing(Envoy), Envoy, "192.0.2.1", "", true},
		"an unlisted Envoy":   {listing(Envoy), Envoy, "198.51.100.1", "", false},
		"not Envoy's dialect": {listing(Envoy), Nginx, "192.0.2.1", "/auth", false},
	} {
		if got := tc.endpoint.Matches(tc.dialect, netip.MustParseAddr(tc.edge), tc.path); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

func TestEndpoints_Allow(t *testing.T) {
	t.Parallel()
	all := Endpoints{
		NewEndpoint(&Config{Dialect: Nginx, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}}, "/auth"),
		NewEndpoint(&Config{Dialect: Envoy, Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, ""),
	}
	for address, want := range map[string]bool{"192.0.2.1": true, "198.51.100.1": true, "203.0.113.1": false} {
		if got := all.Allow(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %v, want %v", address, got, want)
		}
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body io.Reader
		want string
		err  error
	}{
		"none":           {nil, "", nil},
		"a little":       {strings.NewReader("{}"), "{}", nil},
		"the largest":    {strings.NewReader(strings.Repeat("x", MaxBody)), strings.Repeat("x", MaxBody), nil},
		"a byte more":    {strings.NewReader(strings.Repeat("x", MaxBody+1)), "", errBody},
		"one that stops": {io.MultiReader(strings.NewReader("{"), iotest.ErrReader(io.ErrUnexpectedEOF)), "", errBody},
	} {
		if got, err := ReadBody(tc.body); string(got) != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: got %d bytes and %v, want %d and %v", name, len(got), err, len(tc.want), tc.err)
		}
	}
}

// TestEndpoint_Warn writes each warning once a minute, the kinds apart, and none for an endpoint that there is not.
func TestEndpoint_Warn(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	e, address := NewEndpoint(&Config{Dialect: Nginx}, "/auth"), netip.MustParseAddr("192.0.2.1")
	(*Endpoint)(nil).WarnUnlisted(log, address)
	var unrouted []bool
	for range 2 {
		e.WarnUnlisted(log, address)
		e.WarnUnreadable(log, address, errBody)
		unrouted = append(unrouted, e.WarnUnrouted(log, address, "tv"))
	}
	if !unrouted[0] || unrouted[1] {
		t.Errorf("the edge without a route: warned %v, want once", unrouted)
	}
	for _, message := range []string{"unlisted edge rejected", "edge request invalid", "no route matches at the edge"} {
		if n := strings.Count(text.String(), message); n != 1 {
			t.Errorf("%q is written %d times, want once:\n%s", message, n, &text)
		}
	}
}
