package securetoken

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/setting"
)

// The vendors' example, and the same request by the other formulas. vector5 also signs the user user1.
const (
	vector1 = "e8bff06f373694dda657e8417fe76f6b54b69807-a5cd6c00-1669890000-1669810000"
	vector2 = "0151c4a5447da00dbd273e5470b69d4528f7c85d-a5cd6c00-1669890000-1669810000"
	vector3 = "b2e21fa7a49a1decee5cd90ebd2c4c48bef2495d-a5cd6c00-1657761115-1657750015"
	vector4 = "823a06361ac210694721aac1148fb18efe1d3155-a5cd6c00-1669890000-1669810000"
	vector5 = "213796d55a7c702f2cfd3da5a177eda69056d86f-a5cd6c00-1669890000-1669810000"
	vector6 = "d5c55f937f3b14a563889af7defdb452e4e22309-eb77c133b8068a19049566ce5dfe8d33-1561464903-1561453803"
)

// inside is a time within the example's window; from and until are its first and last second.
const (
	inside = 1669850000
	from   = 1669810000
	until  = 1669890000
)

const (
	valid    = "secure token is valid"
	mismatch = "secure token is for another channel or address, or made with another key"
	early    = "secure token is not valid yet"
	late     = "secure token has expired"
	none     = "no secure token"
	unlike   = "token is not a secure token"
)

// newBackend uses the example's key, at the time now.
func newBackend(t testing.TB, now int64, change func(*Config)) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Key = "secret"
	if change != nil {
		change(&cfg)
	}
	b, err := New("tokens", cfg, nil)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	b.now = func() time.Time { return time.Unix(now, 0) }
	return b
}

// exampleRequest returns the request of the vendors' example, with that token.
func exampleRequest(token string) *backends.Request {
	return &backends.Request{
		Channel: "travel-channel", Path: "/tv/travel-channel/index.m3u8",
		Query: "token=" + token, Address: netip.MustParseAddr("192.168.88.98"),
	}
}

// mustCheck checks and fails the test on an error.
func mustCheck(t testing.TB, b *Backend, r *backends.Request) backends.Decision {
	t.Helper()
	d, err := b.Check(t.Context(), r)
	if err != nil {
		t.Fatalf("got error %v, want a decision", err)
	}
	if d.Source != backends.FromLocal {
		t.Errorf("got a decision from %s, want one from a rule", d.Source)
	}
	return d
}

func wantDecision(t testing.TB, got backends.Decision, verdict backends.Verdict, reason string) {
	t.Helper()
	if got.Verdict != verdict || got.Reason != reason {
		t.Errorf("got %s: %s\nwant %s: %s", got.Verdict, got.Reason, verdict, reason)
	}
}

// sign makes a token as portals do, exactly as on the vendors' pages.
func sign(name, ip, start, end, key, salt, user string) string {
	sum := sha1.Sum([]byte(name + ip + start + end + key + salt + user))
	return hex.EncodeToString(sum[:]) + "-" + salt + "-" + end + "-" + start
}

func TestCheck_VendorTokens_Allowed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		now    int64
		path   string
		query  string
		user   string
	}{
		"Alta's example": {func(c *Config) { c.Formula = FormulaAlta }, inside, "", "token=" + vector1, ""},
		"the same by Astra's formula": {
			nil, inside, "", "token=" + vector2, "",
		},
		"the same by Flussonic's formula": {
			func(c *Config) { c.Formula = FormulaFlussonic }, inside, "", "token=" + vector2, "",
		},
		"Alta's example of 2022": {
			func(c *Config) { c.Formula, c.Key = FormulaAlta, "SECRETKEY" },
			1657755000, "/test/index.m3u8", "token=" + vector3, "",
		},
		"without the address": {func(c *Config) { c.NoCheckIP = true }, inside, "", "token=" + vector4, ""},
		"without the address, and saying so": {
			func(c *Config) { c.NoCheckIP = true }, inside, "", "token=" + vector4 + "&remote=no_check_ip", "",
		},
		"with a user": {signsUsers, inside, "", "token=" + vector5 + "&user=user1", "user1"},
		"with the user in front, and other parameters": {
			signsUsers, inside, "", "a=1&user=user1&b&token=" + vector5 + "&c=", "user1",
		},
		"without a user where others have one": {signsUsers, inside, "", "token=" + vector2, ""},
		"in another parameter": {
			func(c *Config) { c.Parameter = "st" }, inside, "", "token=1-2-3-4&st=" + vector2, "",
		},
		"escaped": {nil, inside, "", "%74oken=" + strings.ReplaceAll(vector2, "-", "%2D"), ""},
		"made with an older key": {
			func(c *Config) { c.Key, c.ExtraKeys = "new", []setting.Secret{"other", "secret"} },
			inside, "", "token=" + vector2, "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := exampleRequest("")
			r.Query = tt.query
			if tt.path != "" {
				r.Path = tt.path
			}
			d := mustCheck(t, newBackend(t, tt.now, tt.change), r)
			wanted := backends.Decision{
				Verdict: backends.Allowed, Source: backends.FromLocal, Reason: valid, UserID: tt.user,
			}
			if diff := cmp.Diff(wanted, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func signsUsers(c *Config) {
	c.Formula, c.UserParameter, c.SaltLength = FormulaFlussonic, "user", 8
}

func TestCheck_OtherTokens_Denied(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change  func(*Config)
		request func(*backends.Request)
		verdict backends.Verdict
		reason  string
	}{
		"no token": {
			nil, func(r *backends.Request) { r.Query = "a=1&tokens=" + vector2 }, backends.Pending, none,
		},
		"an empty token": {nil, func(r *backends.Request) { r.Query = "token=" }, backends.Pending, none},
		"a token of another kind": {
			nil, func(r *backends.Request) { r.Query = "token=eyJhbGciOi" }, backends.Pending, unlike,
		},
		"another address": {
			nil, func(r *backends.Request) { r.Address = netip.MustParseAddr("192.168.88.99") }, backends.Denied, mismatch,
		},
		"another channel": {
			nil, func(r *backends.Request) { r.Channel = "travel" }, backends.Denied, mismatch,
		},
		"another key":            {func(c *Config) { c.Key = "Secret" }, nil, backends.Denied, mismatch},
		"another formula":        {func(c *Config) { c.Formula = FormulaAlta }, nil, backends.Denied, mismatch},
		"a token for an address": {func(c *Config) { c.NoCheckIP = true }, nil, backends.Denied, mismatch},
		"a token for any address": {
			nil, func(r *backends.Request) { r.Query = "token=" + vector4 }, backends.Denied, mismatch,
		},
		"a viewer who asks to ignore the address": {
			nil, func(r *backends.Request) { r.Query = "token=" + vector4 + "&remote=no_check_ip" },
			backends.Denied, mismatch,
		},
		"a viewer who names another address": {
			nil,
			func(r *backends.Request) {
				r.Query, r.Address = "token="+vector2+"&remote=192.168.88.98", netip.MustParseAddr("192.0.2.7")
			},
			backends.Denied, mismatch,
		},
		"a viewer without an address": {
			nil, func(r *backends.Request) { r.Address = netip.Addr{} },
			backends.Denied, "secure token needs the viewer's address, which is unknown",
		},
		"the first of two tokens counts": {
			nil, func(r *backends.Request) { r.Query = "token=" + vector1 + "&token=" + vector2 }, backends.Denied, mismatch,
		},
		"another user": {
			signsUsers, func(r *backends.Request) { r.Query = "token=" + vector5 + "&user=user2" }, backends.Denied, mismatch,
		},
		"a missing user": {
			signsUsers, func(r *backends.Request) { r.Query = "token=" + vector5 }, backends.Denied, mismatch,
		},
		"an added user": {
			signsUsers, func(r *backends.Request) { r.Query = "token=" + vector2 + "&user=user1" }, backends.Denied, mismatch,
		},
		"a user's characters moved to the salt": {
			signsUsers,
			func(r *backends.Request) {
				r.Query = "token=" + strings.Replace(vector5, "a5cd6c00", "a5cd6c00us", 1) + "&user=er1"
			},
			backends.Denied, "secure token's salt does not have salt_length characters",
		},
		"an invalid user": {
			signsUsers, func(r *backends.Request) { r.Query = "token=" + vector5 + "&user=a%0Ab" },
			backends.Denied, "user's id is too long or has control characters",
		},
		"the path of another file": {
			func(c *Config) { c.Formula = FormulaAlta },
			func(r *backends.Request) { r.Query, r.Path = "token="+vector1, "/tv/travel-channel/other.m3u8" },
			backends.Denied, mismatch,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := exampleRequest(vector2)
			if tt.request != nil {
				tt.request(r)
			}
			wantDecision(t, mustCheck(t, newBackend(t, inside, tt.change), r), tt.verdict, tt.reason)
		})
	}
}

// Every character of a token counts: no replacement is allowed.
func TestCheck_OneCharacterChanged_NotAllowed(t *testing.T) {
	t.Parallel()
	b := newBackend(t, inside, nil)
	for i := range len(vector2) {
		for _, c := range "0123456789abcdefABCDEF-x%" {
			changed := vector2[:i] + string(c) + vector2[i+1:]
			if changed == vector2 {
				continue
			}
			if d := mustCheck(t, b, exampleRequest(changed)); d.Verdict == backends.Allowed {
				t.Errorf("allowed by %s", changed)
			}
		}
	}
	for _, field := range []int{0, 41, 50, 61} { // a hex digit for a hex digit, a digit for a digit: still a token
		changed := []byte(vector2)
		changed[field+2] = '3' + (changed[field+2]-'0')%2
		wantDecision(t, mustCheck(t, b, exampleRequest(string(changed))), backends.Denied, mismatch)
	}
}

// The hash has no separator between start and end, so a viewer can keep the hash and move digits.
func TestCheck_MovedDigits_NotAllowed(t *testing.T) {
	t.Parallel()
	b := newBackend(t, until+365*86400, nil)
	digits := "16698100001669890000"
	for at := range len(digits) + 1 {
		moved := vector2[:40] + "-a5cd6c00-" + digits[at:] + "-" + digits[:at]
		if d := mustCheck(t, b, exampleRequest(moved)); d.Verdict == backends.Allowed {
			t.Errorf("allowed by %s", moved)
		}
	}
	wantDecision(t, mustCheck(t, b, exampleRequest(vector2[:40]+"-a5cd6c00-6698100001669890000-1")), backends.Pending, unlike)
}

func TestCheck_AddressForms(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ signed, viewer string }{
		"IPv4":             {"192.0.2.7", "192.0.2.7"},
		"IPv4 within IPv6": {"192.0.2.7", "::ffff:192.0.2.7"},
		"IPv6 in canonical text, without its zone": {"2001:db8::1", "2001:db8:0:0:0:0:0:1%eth0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := exampleRequest(sign("travel-channel", tt.signed, "1669810000", "1669890000", "secret", "o4rH", ""))
			r.Address = netip.MustParseAddr(tt.viewer)
			wantDecision(t, mustCheck(t, newBackend(t, inside, nil), r), backends.Allowed, valid)
		})
	}
}

// TestIsValidUserID_EachBoundAlone has one thing wrong at a time.
func TestIsValidUserID_EachBoundAlone(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"":                                  true,
		"user 1":                            true,
		strings.Repeat("x", maxUserBytes):   true,
		strings.Repeat("x", maxUserBytes+1): false,
		"\xff":                              false,
		"a\x00b":                            false,
		"a\u0085b":                          false,
	} {
		if got := isValidUserID(id); got != want {
			t.Errorf("%.20q of %d bytes is valid: %t, want %t", id, len(id), got, want)
		}
	}
}

func TestCheck_AltaPathUnescaped(t *testing.T) {
	t.Parallel()
	b := newBackend(t, inside, func(c *Config) { c.Formula = FormulaAlta })
	for path, signed := range map[string]string{
		"/tv/%D0%9C%20%28HD%29/index.m3u8": "/tv/М (HD)/index.m3u8",
		"/tv/a+b/index.m3u8":               "/tv/a+b/index.m3u8",
		"/tv/100%/index.m3u8":              "/tv/100%/index.m3u8",
	} {
		r := exampleRequest(sign(signed, "192.168.88.98", "1669810000", "1669890000", "secret", "o4rH", ""))
		r.Path = path
		wantDecision(t, mustCheck(t, b, r), backends.Allowed, valid)
	}
}

func TestNew_ShortKeyIsLogged(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	cfg := DefaultConfig()
	cfg.Key, cfg.ExtraKeys = "a-key-of-16-byte", []setting.Secret{"short-key"}
	if _, err := New("tokens", cfg, slog.New(slog.NewTextHandler(&text, nil))); err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	if got := text.String(); !strings.Contains(got, "backend=tokens keys=1 shorter_than=16") ||
		strings.Contains(got, "short-key") {
		t.Errorf("logged %q", got)
	}
	text.Reset()
	cfg.ExtraKeys = nil
	if _, err := New("tokens", cfg, slog.New(slog.NewTextHandler(&text, nil))); err != nil || text.Len() > 0 {
		t.Errorf("got error %v, and logged %q", err, text.String())
	}
}

func TestCheck_NoAllocation(t *testing.T) {
	b := newBackend(t, inside, func(c *Config) { c.ExtraKeys = []setting.Secret{"old"} })
	for _, r := range []*backends.Request{exampleRequest(vector2), exampleRequest(vector1), exampleRequest("x")} {
		if n := testing.AllocsPerRun(100, func() { _, _ = b.Check(t.Context(), r) }); n != 0 {
			t.Errorf("%v allocations for %s", n, r.Query)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	backend, r := newBackend(b, inside, nil), exampleRequest(vector2)
	b.ReportAllocs()
	for b.Loop() {
		if d, _ := backend.Check(b.Context(), r); d.Verdict != backends.Allowed {
			b.Fatal(d.Reason)
		}
	}
}
