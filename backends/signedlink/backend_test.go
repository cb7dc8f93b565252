package signedlink

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/setting"
)

// vector is the hash of the link to /live/ch1 with the secret supersecret; until is its last second.
const (
	vector = "-AVOya7ms1YAcvp7glK_Xg"
	until  = 1669890000
	query  = "st=" + vector + "&e=1669890000"
)

const (
	valid    = "signed link is valid"
	expired  = "signed link has expired"
	mismatch = "signed link is for another path, or made with another secret"
	none     = "no signed link"
	unlike   = "link's parameters are not a signature"
)

// newBackend uses the vector's secret, at the time now.
func newBackend(t testing.TB, now int64, change func(*Config)) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Secret = "supersecret"
	if change != nil {
		change(&cfg)
	}
	b, err := New("links", cfg, nil)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	b.now = func() time.Time { return time.Unix(now, 0) }
	return b
}

// backendOf makes a backend that checks like nginx, with the same clock.
func backendOf(t testing.TB, c checker) *Backend {
	t.Helper()
	b := newBackend(t, 0, c.change)
	b.now = time.Now
	return b
}

// hashOf returns the hash that portals make of an expression's value.
func hashOf(input string) string {
	sum := md5.Sum([]byte(input))
	return strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(base64.StdEncoding.EncodeToString(sum[:]))
}

// mustCheck checks and fails the test on an error.
func mustCheck(t testing.TB, b *Backend, r *backends.Request) backends.Decision {
	t.Helper()
	d, err := b.Check(t.Context(), r)
	if err != nil {
		t.Fatalf("got error %v, want a decision", err)
	}
	if d.Source != backends.FromLocal {
		t.Errorf("got a decision from %s, want a local one", d.Source)
	}
	return d
}

func TestCheck_Links(t *testing.T) {
	t.Parallel()
	withAddress := func(c *Config) { c.Expression = "$expires$uri$remote_addr $secret" }
	bound := "st=" + hashOf("1669890000/live/ch1192.0.2.7 supersecret") + "&e=1669890000"
	tests := map[string]struct {
		change  func(*Config)
		path    string
		query   string
		address string
		verdict backends.Verdict
		reason  string
	}{
		"the vector":               {nil, "/live/ch1", query, "", backends.Allowed, valid},
		"with the playlist's name": {nil, "/live/ch1/playlist.m3u8", query, "", backends.Allowed, valid},
		"with the playlist's name signed": {
			nil, "/live/ch1/playlist.m3u8", linkFor("/live/ch1/playlist.m3u8"), "", backends.Allowed, valid,
		},
		"with another name": {nil, "/live/ch1/index.m3u8", query, "", backends.Denied, mismatch},
		"another suffix to trim": {
			func(c *Config) { c.TrimSuffixes = []string{"/a.m3u8", "/index.m3u8"} }, "/live/ch1/index.m3u8", query, "",
			backends.Allowed, valid,
		},
		"a path that is only the suffix": {
			nil, "/playlist.m3u8", "st=" + hashOf("supersecret1669890000") + "&e=1669890000", "", backends.Denied, mismatch,
		},
		"an older secret": {
			func(c *Config) { c.Secret, c.ExtraSecrets = "new", []setting.Secret{"other", "supersecret"} },
			"/live/ch1", query, "", backends.Allowed, valid,
		},
		"with padding":    {nil, "/live/ch1", "st=" + vector + "==&e=1669890000", "", backends.Allowed, valid},
		"another channel": {nil, "/live/ch2", query, "", backends.Denied, mismatch},
		"another secret": {
			func(c *Config) { c.Secret = "Supersecret" }, "/live/ch1", query, "", backends.Denied, mismatch,
		},
		"a later end":          {nil, "/live/ch1", "st=" + vector + "&e=1669890001", "", backends.Denied, mismatch},
		"no link":              {nil, "/live/ch1", "token=1", "", backends.Pending, none},
		"a hash alone":         {nil, "/live/ch1", "st=" + vector, "", backends.Pending, none},
		"an expiry alone":      {nil, "/live/ch1", "e=1669890000&st=", "", backends.Pending, none},
		"another kind of hash": {nil, "/live/ch1", "st=0151c4a5&e=1669890000", "", backends.Pending, unlike},
		"an expiry beyond time": {
			nil, "/live/ch1", "st=" + vector + "&e=99999999999999999999", "", backends.Pending, unlike,
		},
		"a letter in the expiry, signed": {
			nil, "/live/ch1", "st=" + hashOf("supersecret/live/ch116698900e0") + "&e=16698900e0", "", backends.Pending, unlike,
		},
		"a digit moved from the path to the expiry": {
			nil, "/live/ch", "st=" + vector + "&e=11669890000", "", backends.Pending, unlike,
		},
		"a path with dot segments": {
			nil, "/live/x/../ch1", query, "", backends.Denied, "path is invalid for signed links",
		},
		"a path with a broken escape": {
			nil, "/live/ch1%zz", query, "", backends.Denied, "path is invalid for signed links",
		},
		"no path":                          {nil, "", query, "", backends.Denied, "path is invalid for signed links"},
		"the viewer's address":             {withAddress, "/live/ch1", bound, "192.0.2.7", backends.Allowed, valid},
		"the viewer's address within IPv6": {withAddress, "/live/ch1", bound, "::ffff:192.0.2.7", backends.Allowed, valid},
		"another address": {
			withAddress, "/live/ch1", bound, "192.0.2.8", backends.Denied,
			"signed link is for another path or address, or made with another secret",
		},
		"an unknown address": {
			withAddress, "/live/ch1", bound, "", backends.Denied,
			"signed link needs the viewer's address, which is unknown",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &backends.Request{Path: tt.path, Query: tt.query}
			if tt.address != "" {
				r.Address = netip.MustParseAddr(tt.address)
			}
			want := backends.Decision{Verdict: tt.verdict, Source: backends.FromLocal, Reason: tt.reason}
			if diff := cmp.Diff(want, mustCheck(t, newBackend(t, until, tt.change), r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// linkFor returns the query of a valid link with the default expression.
func linkFor(uri string) string {
	return "st=" + hashOf("supersecret"+uri+"1669890000") + "&e=1669890000"
}

// Every character of a link counts: no replacement is allowed.
func TestCheck_OneCharacterChanged_NotAllowed(t *testing.T) {
	t.Parallel()
	b := newBackend(t, until, nil)
	for at := range len(query) {
		for c := byte(0x21); c < 0x7f; c++ {
			changed := query[:at] + string(c) + query[at+1:]
			if strings.EqualFold(changed, query) && (at < len("st=") || at >= len("st="+vector)) {
				continue // the same link, its parameters' names in another case
			}
			if changed == query {
				continue
			}
			if d := mustCheck(t, b, &backends.Request{Path: "/live/ch1", Query: changed}); d.Verdict == backends.Allowed {
				t.Errorf("allowed by %s", changed)
			}
		}
	}
}

func TestCheck_Expiry(t *testing.T) {
	t.Parallel()
	cuts := func(c *Config) { c.EndSessionOnExpiry, c.ClockSkew = true, 10*time.Second }
	yes := backends.Decision{Verdict: backends.Allowed, Source: backends.FromLocal, Reason: valid}
	no := backends.Decision{Verdict: backends.Denied, Source: backends.FromLocal, Reason: expired}
	tests := map[string]struct {
		change      func(*Config)
		opened, now int64
		want        backends.Decision
	}{
		"long before":                         {nil, 0, 0, yes},
		"the last second":                     {nil, 0, until, yes},
		"the second after":                    {nil, 0, until + 1, no},
		"within the tolerance":                {func(c *Config) { c.ClockSkew = 10 * time.Second }, 0, until + 10, yes},
		"beyond the tolerance":                {func(c *Config) { c.ClockSkew = 10 * time.Second }, 0, until + 11, no},
		"a session opened in time continues":  {nil, until - 5, until + 3600, yes},
		"a session opened late":               {nil, until + 1, until + 1, no},
		"a session that is cut":               {cuts, until - 5, until + 11, no},
		"one that is cut, before its end":     {cuts, until - 5, until, validFor(yes, 11*time.Second)},
		"one that is cut, in its last second": {cuts, until - 5, until + 10, validFor(yes, time.Second)},
		"a clock from before all times":       {cuts, 0, -62135596800, validFor(yes, 1<<63-1)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &backends.Request{Path: "/live/ch1", Query: query, Number: 1}
			if tt.opened != 0 {
				r.TokenTime = time.Unix(tt.opened, 0)
			}
			if diff := cmp.Diff(tt.want, mustCheck(t, newBackend(t, tt.now, tt.change), r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func validFor(d backends.Decision, life time.Duration) backends.Decision {
	d.ValidFor = life
	return d
}

func TestNew_ShortSecretIsLogged(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	cfg := DefaultConfig()
	cfg.Secret, cfg.ExtraSecrets = "a-secret-of-16-b", []setting.Secret{"short-secret"}
	if _, err := New("links", cfg, slog.New(slog.NewTextHandler(&text, nil))); err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	if got := text.String(); !strings.Contains(got, "backend=links secrets=1 shorter_than=16") ||
		strings.Contains(got, "short-secret") {
		t.Errorf("logged %q", got)
	}
	text.Reset()
	cfg.ExtraSecrets = nil
	if _, err := New("links", cfg, slog.New(slog.NewTextHandler(&text, nil))); err != nil || text.Len() > 0 {
		t.Errorf("got error %v, and logged %q", err, text.String())
	}
}

func TestCheck_NoAllocation(t *testing.T) {
	b := newBackend(t, until, func(c *Config) { c.Expression = "$expires$uri$remote_addr $secret" })
	good := "st=" + hashOf("1669890000/live/ch1192.0.2.7 supersecret") + "&e=1669890000"
	for _, q := range []string{good, query, "x=1"} {
		r := &backends.Request{Path: "/live/ch1/playlist.m3u8", Query: q, Address: netip.MustParseAddr("192.0.2.7")}
		if n := testing.AllocsPerRun(100, func() { _, _ = b.Check(t.Context(), r) }); n != 0 {
			t.Errorf("%v allocations for %s", n, q)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	backend := newBackend(b, until, nil)
	r := &backends.Request{Path: "/live/ch1/playlist.m3u8", Query: query}
	b.ReportAllocs()
	for b.Loop() {
		if d, _ := backend.Check(b.Context(), r); d.Verdict != backends.Allowed {
			b.Fatal(d.Reason)
		}
	}
}
