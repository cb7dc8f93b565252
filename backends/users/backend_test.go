package users

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/httpbackend"
)

// expiry is when alice's account expires; dave's expires at about the same time.
var expiry = time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)

// newBackend reads the example file, at a time one year before its accounts expire.
func newBackend(t testing.TB, change func(*Config)) *Backend {
	t.Helper()
	cfg := DefaultConfig()
	cfg.File = "testdata/users.yaml"
	if change != nil {
		change(&cfg)
	}
	b, err := New("subscribers", cfg, nil)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	b.now = func() time.Time { return expiry.AddDate(-1, 0, 0) }
	b.verifier.timeout = time.Minute // a busy machine must not fail the test
	t.Cleanup(b.Close)
	return b
}

// withFile makes a backend with a file of that text.
func withFile(t testing.TB, text string) *Backend {
	t.Helper()
	name := filepath.Join(t.TempDir(), "users.yaml")
	writeFile(t, name, text)
	return newBackend(t, func(c *Config) { c.File = name })
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatalf("write the accounts: %v", err)
	}
}

// requestWith returns a request that alice's account allows, with that query.
func requestWith(query string) *backends.Request {
	return &backends.Request{Query: query, Channel: "a001", Address: netip.MustParseAddr("192.0.2.7")}
}

func check(t testing.TB, b *Backend, r *backends.Request) backends.Decision {
	t.Helper()
	d, err := b.Check(t.Context(), r)
	if err != nil {
		t.Fatalf("check %s: %v", r.Query, err)
	}
	return d
}

func allowedDecision(login, reason string, connections int) backends.Decision {
	return backends.Decision{
		Verdict: backends.Allowed, Source: backends.FromLocal, Reason: reason,
		UserID: login, User: login, MaxSessions: int32(connections),
	}
}

func deniedDecision(login, reason string) backends.Decision {
	return backends.Decision{
		Verdict: backends.Denied, Source: backends.FromLocal, Reason: reason, UserID: login, User: login,
	}
}

const (
	byToken    = "valid token"
	byPassword = "valid login and password"
)

func TestCheck_Credentials(t *testing.T) {
	t.Parallel()
	none := backends.Decision{Verdict: backends.Pending, Source: backends.FromLocal, Reason: "neither token nor login"}
	wrong, missing := deniedDecision("", "wrong login or password"), deniedDecision("", "login or password is missing")
	tests := map[string]struct {
		query string
		want  backends.Decision
	}{
		"a token":                 {"token=a-token-in-plain", allowedDecision("alice", byToken, 2)},
		"a token by its hash":     {"token=a-token-by-its-hash", allowedDecision("alice", byToken, 2)},
		"a token of digits":       {"token=0123456789", allowedDecision("dave", byToken, 0)},
		"digits without the zero": {"token=123456789", deniedDecision("", "unknown token")},
		"the hash instead of a token": {
			"token=sha256:e1f4fdae0931d441a09ffa9a7e53d53819e39ede86bde7e4310a06c4da026902",
			deniedDecision("", "unknown token"),
		},
		"an unknown token":                   {"token=a-token-in-plai", deniedDecision("", "unknown token")},
		"a token too long to be one":         {"token=" + strings.Repeat("a", maxTokenBytes+1), deniedDecision("", "unknown token")},
		"a bcrypt password":                  {"auth=alice:rasmuslerdorf", allowedDecision("alice", byPassword, 2)},
		"a SHA-256 password":                 {"auth=bob:builder", allowedDecision("bob", byPassword, 0)},
		"an escaped password":                {"auth=bob%3Abu%69lder", allowedDecision("bob", byPassword, 0)},
		"from the path":                      {"user=alice&password=rasmuslerdorf", allowedDecision("alice", byPassword, 2)},
		"a disabled account":                 {"auth=carol:U*U", deniedDecision("carol", "account is disabled")},
		"a disabled account, wrong password": {"auth=carol:U*V", wrong},
		"a wrong bcrypt password":            {"auth=alice:rasmuslerdorg", wrong},
		"a wrong SHA-256 password":           {"auth=bob:builders", wrong},
		"another's password":                 {"auth=alice:builder", wrong},
		"an unknown login":                   {"auth=mallory:rasmuslerdorf", wrong},
		"an unknown login, builder":          {"auth=mallory:builder", wrong},
		"a login in another case":            {"auth=Alice:rasmuslerdorf", wrong},
		"no password in the file":            {"auth=dave:rasmuslerdorf", wrong},
		"no password in the file, sha":       {"auth=dave:builder", wrong},
		"a login too long":                   {"auth=" + strings.Repeat("a", maxLoginBytes+1) + ":builder", wrong},
		"a password too long":                {"auth=alice:" + strings.Repeat("a", maxPasswordBytes+1), wrong},
		"no colon":                           {"auth=alice", missing},
		"an empty login":                     {"auth=:rasmuslerdorf", missing},
		"an empty password":                  {"auth=alice:", missing},
		"a user alone":                       {"user=alice", missing},
		"a password alone":                   {"password=rasmuslerdorf", missing},
		"auth precedes user":                 {"user=alice&password=rasmuslerdorf&auth=bob:builder", allowedDecision("bob", byPassword, 0)},
		"no way around a wrong auth":         {"user=alice&password=rasmuslerdorf&auth=bob:x", wrong},
		"a known token decides":              {"auth=alice:wrong&token=0123456789", allowedDecision("dave", byToken, 0)},
		"an unknown one does not":            {"auth=alice:rasmuslerdorf&token=of-the-portal", allowedDecision("alice", byPassword, 2)},
		"nothing":                            {"", none},
		"no credentials of ours":             {"st=abc&e=123&tokens=a-token-in-plain", none},
		"an empty token":                     {"token=&auth=", none},
	}
	b := newBackend(t, nil)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, check(t, b, requestWith(tt.query))); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// Credentials of the longest accepted length work, and longer ones are refused without a hash, even if the file has them.
func TestCheck_CredentialBounds(t *testing.T) {
	t.Parallel()
	login, secret, token := strings.Repeat("a", 256), strings.Repeat("p", 1024), strings.Repeat("t", 1024)
	salt := []byte("8 octets")
	sum := sha256.Sum256(append(salt, secret...))
	long, empty := sha256.Sum256([]byte(token+"t")), sha256.Sum256(nil)
	b := withFile(t, fmt.Sprintf("users: { %s: { password: 'sha256:%x:%x', tokens: [%s, 'sha256:%x', 'sha256:%x'] } }",
		login, salt, sum, token, long, empty))
	wrong, unknown := deniedDecision("", "wrong login or password"), deniedDecision("", "unknown token")
	for name, tt := range map[string]struct {
		query  string
		want   backends.Decision
		hashes int64
	}{
		"the longest login and password": {"auth=" + login + ":" + secret, allowedDecision(login, byPassword, 0), 1},
		"a longer login":                 {"auth=" + login + "a:" + secret, wrong, 0},
		"a longer password":              {"auth=" + login + ":" + secret + "p", wrong, 0},
		"the longest token":              {"token=" + token, allowedDecision(login, byToken, 0), 0},
		"a longer token":                 {"token=" + token + "t", unknown, 0},
		"an empty token beside a login":  {"token=&auth=" + login + ":wrong", wrong, 1},
	} {
		n := countHashes(b)
		if diff := cmp.Diff(tt.want, check(t, b, requestWith(tt.query))); diff != "" || n.Load() != tt.hashes {
			t.Errorf("%s: %d hashes, want %d; decision (-want +got):\n%s", name, n.Load(), tt.hashes, diff)
		}
	}
}

func TestCheck_Basic(t *testing.T) {
	t.Parallel()
	const byToken, byPassword = "valid token", "valid login and password"
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	alice, bob := allowedDecision("alice", byPassword, 2), allowedDecision("bob", byPassword, 0)
	challenged := func(d backends.Decision) backends.Decision {
		d.Challenge = `Basic realm="Channel Ten", charset="UTF-8"`
		return d
	}
	none := backends.Decision{Verdict: backends.Pending, Source: backends.FromLocal, Reason: "neither token nor login"}
	wrong, missing := deniedDecision("", "wrong login or password"), deniedDecision("", "login or password is missing")
	tests := map[string]struct {
		query, header string
		want          backends.Decision
	}{
		"login and password":            {"", basic("alice:rasmuslerdorf"), alice},
		"the scheme in lower case":      {"", "basic" + strings.TrimPrefix(basic("bob:builder"), "Basic"), bob},
		"beside a query of others'":     {"site=1", basic("bob:builder"), bob},
		"a wrong password":              {"", basic("bob:builders"), challenged(wrong)},
		"no colon":                      {"", basic("bob"), challenged(missing)},
		"no base64":                     {"", "Basic *", challenged(missing)},
		"the scheme alone":              {"", "Basic", challenged(missing)},
		"another scheme":                {"", "Bearer x", challenged(none)},
		"nothing":                       {"", "", challenged(none)},
		"an unknown token":              {"token=x", "", challenged(deniedDecision("", "unknown token"))},
		"the query first":               {"auth=alice:rasmuslerdorf", basic("bob:builder"), alice},
		"no way around a wrong auth":    {"auth=alice:x", basic("bob:builder"), challenged(wrong)},
		"a disabled account is told so": {"", basic("carol:U*U"), deniedDecision("carol", "account is disabled")},
		"a known token decides":         {"token=0123456789", basic("bob:x"), allowedDecision("dave", byToken, 0)},
	}
	b := newBackend(t, func(c *Config) { c.Realm = "Channel Ten" })
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := requestWith(tt.query)
			if tt.header != "" {
				r.Headers = []backends.Header{{Name: "X-Device", Value: "1"}, {Name: "Authorization", Value: tt.header}}
			}
			if diff := cmp.Diff(tt.want, check(t, b, r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck_AccountRestrictions(t *testing.T) {
	t.Parallel()
	address := func(s string) func(*backends.Request) {
		return func(r *backends.Request) { r.Address = netip.MustParseAddr(s) }
	}
	addresses := deniedDecision("alice", "account is for other addresses")
	channels := deniedDecision("alice", "account is for other channels")
	tests := map[string]struct {
		change func(*backends.Request)
		want   backends.Decision
	}{
		"an address outside the network": {address("192.0.3.7"), addresses},
		"no address":                     {func(r *backends.Request) { r.Address = netip.Addr{} }, addresses},
		"IPv4 written as IPv6":           {address("::ffff:192.0.2.9"), allowedDecision("alice", byToken, 2)},
		"a network written as IPv6":      {address("198.51.100.9"), allowedDecision("alice", byToken, 2)},
		"a single address":               {address("2001:db8::7"), allowedDecision("alice", byToken, 2)},
		"with a zone":                    {address("2001:db8::7%eth0"), allowedDecision("alice", byToken, 2)},
		"its neighbour":                  {address("2001:db8::8"), addresses},
		"a channel by its pattern":       {func(r *backends.Request) { r.Channel = "sport-1" }, allowedDecision("alice", byToken, 2)},
		"a folder by its pattern":        {func(r *backends.Request) { r.Channel = "sport-1/hd" }, allowedDecision("alice", byToken, 2)},
		"another channel":                {func(r *backends.Request) { r.Channel = "a002" }, channels},
		"no channel":                     {func(r *backends.Request) { r.Channel = "" }, channels},
	}
	b := newBackend(t, nil)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := requestWith("token=a-token-in-plain")
			tt.change(r)
			if diff := cmp.Diff(tt.want, check(t, b, r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck_Expiry(t *testing.T) {
	t.Parallel()
	expired, allowed := deniedDecision("alice", "account has expired"), allowedDecision("alice", byToken, 2)
	until := func(left time.Duration) backends.Decision {
		d := allowed
		d.ValidFor = left
		return d
	}
	before := func(left time.Duration) time.Time { return expiry.Add(-left) }
	tests := map[string]struct {
		cut         bool
		opened, now time.Time
		want        backends.Decision
	}{
		"an opening in time":                {false, time.Time{}, before(1), allowed},
		"an opening too late":               {false, time.Time{}, expiry, expired},
		"a session that was opened in time": {false, before(time.Second), expiry.Add(time.Hour), allowed},
		"one that was opened too late":      {false, expiry, expiry.Add(time.Hour), expired},
		"a session is cut":                  {true, before(time.Hour), expiry, expired},
		"a session will be cut":             {true, before(time.Hour), before(3 * time.Second), until(3 * time.Second)},
		"long before, validity is bounded":  {true, before(time.Hour), before(48 * time.Hour), until(maxExpiryValidity)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t, func(c *Config) { c.EndSessionOnExpiry = tt.cut })
			b.now = func() time.Time { return tt.now }
			r := requestWith("token=a-token-in-plain")
			r.TokenTime = tt.opened
			if diff := cmp.Diff(tt.want, check(t, b, r)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
	b := newBackend(t, func(c *Config) { c.EndSessionOnExpiry = true })
	if d := check(t, b, requestWith("auth=bob:builder")); d.ValidFor != 0 {
		t.Errorf("an account that never expires: valid for %s, want 0", d.ValidFor)
	}
}

func TestCheck_ParameterNames(t *testing.T) {
	t.Parallel()
	b := newBackend(t, func(c *Config) {
		c.AuthParameter, c.TokenParameter, c.UserParameter, c.PasswordParameter = "", "t", "u", "p"
	})
	for query, want := range map[string]backends.Verdict{
		"t=0123456789":             backends.Allowed,
		"token=0123456789":         backends.Pending,
		"u=bob&p=builder":          backends.Allowed,
		"user=bob&password=x":      backends.Pending,
		"auth=bob:builder":         backends.Pending,
		"=bob:builder&=0123456789": backends.Pending,
	} {
		if d := check(t, b, requestWith(query)); d.Verdict != want {
			t.Errorf("%s: %s, want %s", query, d.Verdict, want)
		}
	}
}

func TestNew_InvalidFile(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	wrong := filepath.Join(folder, "wrong.yaml")
	writeFile(t, wrong, "users:\n  alice: { password: hunter2 }\n")
	for name, want := range map[string]string{
		filepath.Join(folder, "none.yaml"): "no such file or directory",
		folder:                             folder + " is not a file",
		wrong:                              wrong + ":2:22: users.alice.password: is not a hash",
	} {
		cfg := DefaultConfig()
		cfg.File = name
		_, err := New("subscribers", cfg, nil)
		if err == nil || !strings.HasPrefix(err.Error(), `make backend "subscribers": file: `) ||
			!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
	if _, err := New("subscribers", DefaultConfig(), nil); err == nil ||
		err.Error() != `make backend "subscribers": file: must be set` {
		t.Errorf("no file: got %v", err)
	}
}

func FuzzCredentials(f *testing.F) {
	for _, seed := range []string{
		"", "auth=a:b", "auth=a", "auth=:", "token=x&auth=a%3Ab", "user=a&password=b", "user=&password=b", "auth=a:b:c",
		"%61uth=a:b;token=x", "token=%zz", "auth=a:b&auth=c:d",
	} {
		f.Add(seed, "alice", "wonder:land&1")
	}
	cfg := DefaultConfig()
	f.Fuzz(func(t *testing.T, query, login, password string) {
		c := cfg.readCredentials(&backends.Request{Query: query})
		if (c.login == "") != (c.password == "") || c.isIncomplete && c.login != "" || strings.Contains(c.login, ":") &&
			httpbackend.QueryValue(query, "auth") != "" {
			t.Errorf("%q was read as %+v", query, c)
		}
		if login == "" || password == "" || strings.Contains(login, ":") {
			return
		}
		for _, given := range []string{
			"auth=" + url.QueryEscape(login+":"+password),
			"user=" + url.QueryEscape(login) + "&password=" + url.QueryEscape(password),
		} {
			if got := cfg.readCredentials(&backends.Request{Query: given}); got != (credentials{login: login, password: password}) {
				t.Errorf("%q was read as %+v, want %q and %q", given, got, login, password)
			}
		}
		basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(login+":"+password))
		given := &backends.Request{Headers: []backends.Header{{Name: "Authorization", Value: basic}}}
		if got := cfg.readCredentials(given); got != (credentials{login: login, password: password}) {
			t.Errorf("%q was read as %+v, want %q and %q", basic, got, login, password)
		}
	})
}
