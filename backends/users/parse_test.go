package users

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
)

func mustParse(t testing.TB, text string) *accountTable {
	t.Helper()
	parsed, err := parse("f", []byte(text))
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return parsed
}

func TestParse_Example(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/users.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := mustParse(t, string(text))
	alice := &account{
		login: "alice", enabled: true, expires: expiry, connections: 2, channels: []string{"a001", "sport-*"},
		password: password{bcrypt: "$2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS"},
		addresses: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::7/128"),
			netip.MustParsePrefix("198.51.100.0/24"),
		},
	}
	same := []cmp.Option{
		cmp.AllowUnexported(account{}, password{}),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if diff := cmp.Diff(alice, got.accounts["alice"], same...); diff != "" {
		t.Errorf("alice (-want +got):\n%s", diff)
	}
	if len(got.accounts) != 4 || len(got.tokens) != 3 || len(got.passwords) != 3 {
		t.Errorf("got %d accounts, %d tokens, %d passwords, want 4, 3, 3",
			len(got.accounts), len(got.tokens), len(got.passwords))
	}
	if dave := got.accounts["dave"]; !dave.enabled || !dave.expires.Equal(time.Unix(1798675200, 0)) {
		t.Errorf("dave: enabled %t, expires %s", dave.enabled, dave.expires)
	}
	if got.accounts["carol"].enabled {
		t.Error("carol is enabled")
	}
}

func TestParse_ErrorPositions(t *testing.T) {
	t.Parallel()
	const bcryptHash = "$2y$05$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS"
	tests := map[string]struct{ text, want string }{
		"nothing":         {"", "f:1:1: no accounts; want users: { … }"},
		"a comment":       {"# none", "f:1:1: no accounts; want users: { … }"},
		"no users":        {"{}", "f:1:1: no accounts; want users: { … }"},
		"a list":          {"- a", "f:1:1: want keys and values, found a list"},
		"another section": {"users: {}\nroles: {}", "f:2:1: unknown key; want users"},
		"a second one":    {"users: {}\n---\nusers: {}", "f:2:1: second YAML document; a file must be one document"},
		"half a second one": {
			"users: {}\n---\n{", "f:3:1: not valid YAML: did not find expected node content",
		},
		"no YAML":         {"users: {", "f:1:1: not valid YAML: did not find expected node content"},
		"a quoted secret": {"users: { a: { password: |s3cret\n", "f:1:1: not valid YAML: found character that cannot start any token"},
		"no YAML in line 3": {
			"users:\n  a: { tokens: [x] }\n  b: [\n", "f:3:1: not valid YAML: did not find expected node content",
		},
		"too deep":         {"[[[[[[[[[", "f:1:1: not valid YAML: did not find expected node content"},
		"no accounts' map": {"users:", "f:1:7: users: want keys and values, found nothing"},
		"an account alone": {"users: { a: }", "f:1:13: users.a: want keys and values, found nothing"},
		"no credentials": {
			"users: { a: { enable: true } }",
			"f:1:10: users.a: has neither password nor tokens, so no viewer can use it",
		},
		"no tokens": {
			"users: { a: { tokens: [] } }",
			"f:1:10: users.a: has neither password nor tokens, so no viewer can use it",
		},
		"a typo": {
			"users:\n  a:\n    tokens: [x]\n    enabled: false",
			"f:4:5: users.a: unknown key; want " + accountKeys,
		},
		"a login twice": {
			"users:\n  a: { tokens: [x] }\n  a: { tokens: [y] }",
			"f:3:3: users: a key is given twice, first at 2:3",
		},
		"a key twice": {
			"users: { a: { tokens: [x], tokens: [y] } }",
			"f:1:28: users.a: a key is given twice, first at 1:15",
		},
		"a key that is a list, and more": {
			"users:\n  ? [a]\n  : x\n  b: {}",
			"f:2:5: users: a key must be plain text, found a list\n" +
				"f:4:3: users.b: has neither password nor tokens, so no viewer can use it",
		},
		"a login twice, and more": {
			"users:\n  a: { tokens: [x] }\n  a: { tokens: [y] }\n  b: []",
			"f:3:3: users: a key is given twice, first at 2:3\nf:4:6: users.b: want keys and values, found a list",
		},
		"an empty login": {`users: { "": { tokens: [x] } }`, "f:1:10: users: a login is empty"},
		"a colon": {
			`users: { "a:s3cret": { tokens: [x] } }`,
			"f:1:10: users: a login has a colon, which separates login and password",
		},
		"a long login": {
			"users: { " + strings.Repeat("a", 257) + ": {} }",
			"f:1:10: users: a login is longer than 256 bytes",
		},
		"a control": {
			`users: { "a\tb": { tokens: [x] } }`,
			"f:1:10: users: a login has unprintable characters",
		},
		"a dotted login": {"users: { a.b: { enable: 1 , tokens: [x] } }", `f:1:25: users."a.b".enable: want true or false`},
		"a plain password": {
			"users: { a: { password: s3cret } }",
			"f:1:25: users.a.password: is not a hash, and plain passwords are not accepted; " +
				"make one with: htpasswd -nbB a PASSWORD (it is what follows the colon; Debian's apache2-utils has it)",
		},
		"htpasswd's whole line": {
			"users: { a: { password: 'a:" + bcryptHash + "' } }",
			"f:1:25: users.a.password: is not a hash, and plain passwords are not accepted; " +
				"make one with: htpasswd -nbB a PASSWORD (it is what follows the colon; Debian's apache2-utils has it)",
		},
		"an empty password": {
			"users: { a: { password: '' } }",
			"f:1:25: users.a.password: is empty; leave the key out for an account without password",
		},
		"half a hash": {
			"users: { a: { password: $2y$05$abc } }",
			"f:1:25: users.a.password: is not a bcrypt hash: want 60 characters that begin with $2y$, $2b$ or $2a$",
		},
		"a broken algorithm": {
			"users: { a: { password: " + strings.Replace(bcryptHash, "y", "x", 1) + " } }",
			"f:1:25: users.a.password: is not a bcrypt hash: want 60 characters that begin with $2y$, $2b$ or $2a$",
		},
		"a hash too costly": {
			"users: { a: { password: " + strings.Replace(bcryptHash, "05", "13", 1) + " } }",
			"f:1:25: users.a.password: has a bcrypt cost that takes too long; want 4 to 12",
		},
		"a cost too low": {
			"users: { a: { password: " + strings.Replace(bcryptHash, "05", "03", 1) + " } }",
			"f:1:25: users.a.password: has a bcrypt cost that takes too long; want 4 to 12",
		},
		"half a SHA-256": {
			"users: { a: { password: 'sha256:0011223344556677:00' } }",
			"f:1:25: users.a.password: is not a SHA-256 hash: " +
				"want sha256:<salt in hex>:<SHA-256 of salt and password, 64 hex digits>",
		},
		"a salt that is no hex": {
			"users: { a: { password: 'sha256:0011223344556677x:" + strings.Repeat("0", 64) + "' } }",
			"f:1:25: users.a.password: is not a SHA-256 hash: " +
				"want sha256:<salt in hex>:<SHA-256 of salt and password, 64 hex digits>",
		},
		"a short salt": {
			"users: { a: { password: 'sha256:00112233445566:" + strings.Repeat("0", 64) + "' } }",
			"f:1:25: users.a.password: has a salt of 7 bytes; want at least 8",
		},
		"a token twice": {
			"users: { a: { tokens: [s3cret] }, b: { tokens: [x, s3cret] } }",
			"f:1:52: users.b.tokens[1]: is already a token of a",
		},
		"an empty token": {"users: { a: { tokens: [''] } }", "f:1:24: users.a.tokens[0]: is empty"},
		"a null token": {
			"users: { a: { tokens: [~] } }",
			"f:1:24: users.a.tokens[0]: want a text or a number, found nothing",
		},
		"a token for a list": {
			"users: { a: { tokens: s3cret } }",
			"f:1:23: users.a.tokens: want a list such as [a, b], found a text",
		},
		"a long token": {
			"users: { a: { tokens: [" + strings.Repeat("a", 1025) + "] } }",
			"f:1:24: users.a.tokens[0]: is longer than 1024 bytes",
		},
		"half a token's hash": {
			"users: { a: { tokens: ['sha256:00'] } }",
			"f:1:24: users.a.tokens[0]: is not a token hash: want sha256:<SHA-256 of the token, 64 hex digits>",
		},
		"yes": {
			"users: { a: { tokens: [x], enable: yes } }", "f:1:36: users.a.enable: want true or false",
		},
		"a date": {
			"users: { a: { tokens: [x], expires: 2026-12-31 } }",
			"f:1:37: users.a.expires: want a time such as 2026-12-31T00:00:00Z, or seconds since 1970 such as 1798675200",
		},
		"milliseconds": {
			"users: { a: { tokens: [x], expires: 1798675200000 } }",
			"f:1:37: users.a.expires: want a time such as 2026-12-31T00:00:00Z, or seconds since 1970 such as 1798675200",
		},
		"a second in the year 10000": {
			"users: { a: { tokens: [x], expires: 253402300800 } }",
			"f:1:37: users.a.expires: want a time such as 2026-12-31T00:00:00Z, or seconds since 1970 such as 1798675200",
		},
		"a Unix time of zero": {
			"users: { a: { tokens: [x], expires: 0 } }",
			"f:1:37: users.a.expires: want a time such as 2026-12-31T00:00:00Z, or seconds since 1970 such as 1798675200",
		},
		"negative connections": {
			"users: { a: { tokens: [x], connections: -1 } }",
			"f:1:41: users.a.connections: want a number from 0 (unlimited) to 1000000",
		},
		"too many connections": {
			"users: { a: { tokens: [x], connections: 1000001 } }",
			"f:1:41: users.a.connections: want a number from 0 (unlimited) to 1000000",
		},
		"an ambiguous network": {
			"users: { a: { tokens: [x], addresses: [192.0.2.7/24] } }",
			"f:1:40: users.a.addresses[0]: has bits beyond its prefix length; want 192.0.2.0/24",
		},
		"a name for an address": {
			"users: { a: { tokens: [x], addresses: [tv.example.com] } }",
			"f:1:40: users.a.addresses[0]: want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24 or 2001:db8::/32",
		},
		"a network beyond IPv4": {
			"users: { a: { tokens: [x], addresses: ['::ffff:0:0/95'] } }",
			"f:1:40: users.a.addresses[0]: want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24 or 2001:db8::/32",
		},
		"no pattern": {
			"users: { a: { tokens: [x], channels: ['a['] } }",
			`f:1:39: users.a.channels[0]: "a[": has [ or \, but only * and ? are wildcards; ` +
				`want a channel, with * for any text, such as "sport-*"`,
		},
		"no channel": {
			"users: { a: { tokens: [x], channels: [''] } }", "f:1:39: users.a.channels[0]: must not be empty",
		},
		"no channels": {
			"users: { a: { tokens: [x], channels: [] } }",
			"f:1:38: users.a.channels: is empty; leave the key out for all, or set enable: false for none",
		},
		"no addresses": {
			"users: { a: { tokens: [x], addresses: [] } }",
			"f:1:39: users.a.addresses: is empty; leave the key out for all, or set enable: false for none",
		},
		"an alias": {
			"users: { a: { tokens: &t [x] }, b: { tokens: *t } }",
			"f:1:46: users.b.tokens: want a list such as [a, b], found an alias",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parsed, err := parse("f", []byte(tt.text))
			if err == nil || err.Error() != tt.want || parsed != nil {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParse_Bounds(t *testing.T) {
	t.Parallel()
	login, token := strings.Repeat("a", 256), strings.Repeat("t", 1024)
	costly := "$2y$12$abcdefghijklmnopqrstuuceoIQuaP.5etEpp9yRDVWWtgzuH1TCS"
	got := mustParse(t, "users:\n  "+login+": { tokens: ["+token+"], connections: 1000000, expires: 253402300799 }\n"+
		"  b: { password: "+costly+", connections: 0, expires: 1 }\n")
	a, b := got.accounts[login], got.accounts["b"]
	if a.connections != 1_000_000 || a.expires.UTC().Year() != 9999 || got.findByToken(token) != a {
		t.Errorf("the largest: %d connections, expires %s, by token %v", a.connections, a.expires, got.findByToken(token))
	}
	if b.password.bcrypt != costly || b.connections != 0 || b.expires.Unix() != 1 {
		t.Errorf("the most costly hash: got %+v", b)
	}
}

func TestParse_ManyProblems(t *testing.T) {
	t.Parallel()
	text := "users:\n" + strings.Repeat("  \"\": {}\n", 1)
	for i := range 25 {
		text += fmt.Sprintf("  a%d: {}\n", i)
	}
	_, err := parse("f", []byte(text))
	if err == nil || strings.Count(err.Error(), "\n") != 10 || !strings.HasSuffix(err.Error(), "\nf: and 16 more") {
		t.Errorf("got %v, want ten problems and 16 more", err)
	}
}

func TestParse_LinesInLongFile(t *testing.T) {
	t.Parallel()
	text := "users:\n"
	for i := range 1000 {
		text += fmt.Sprintf("  u%d: { tokens: [t%d] } # paid\n\n", i, i)
	}
	_, err := parse("f", []byte(text+"  last: { tokens: [t7] }\n"))
	if want := "f:2002:20: users.last.tokens[0]: is already a token of u7"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// No error repeats any part of a misplaced password.
func FuzzParse_ErrorsHideSecrets(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""},
		{`"`, ""},
		{"|", ""},
		{"{", ""},
		{"{", "}"},
		{"[", "]"},
		{"&", ""},
		{"*", ""},
		{"!", ""},
		{"!!int ", ""},
		{"%", ""},
		{"@", ""},
		{"'", "'"},
		{"? ", ""},
		{": ", ":"},
		{"- ", ""},
		{"sha256:", ":"},
		{"$2y$05$", ""},
		{`"\`, `"`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "S3cretOfAlice"
		if strings.ContainsAny(before+after, "\r\n") {
			return // a login or a key could begin there, and errors show logins
		}
		for _, key := range []string{"password: ", "tokens: ", "tokens: [", "expires: ", "enable: ", ""} {
			_, err := parse("f", []byte("users:\n  alice:\n    "+key+before+secret+after+"\n"))
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile("testdata/users.yaml")
	if err != nil {
		f.Fatalf("read the example: %v", err)
	}
	f.Add(text)
	for _, seed := range []string{
		"", "users: {}", "users:\n  a: {tokens: [x]}", "users: {a: {tokens: &a [*a]}}",
		"%YAML 1.2\n---\nusers: {}", "? [a]\n: b",
		"users: {a: {expires: 2026-01-01T00:00:00+14:00, tokens: [1.5, true, .inf]}}", "\xff", "users: {<<: *x}", "!!map {}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := parse("f", data)
		if (err == nil) != (parsed != nil) {
			t.Fatalf("got %v and %v", parsed, err)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f:") {
					t.Errorf("the line %q of the error has no position", line)
				}
			}
			return
		}
		for login, a := range parsed.accounts {
			if login != a.login || validateLogin(login) != nil || a.connections < 0 {
				t.Errorf("got %q: %+v", login, a)
			}
			for _, network := range a.addresses {
				if network != network.Masked() || network.Addr().Is4In6() || !a.hasAddress(network.Addr()) {
					t.Errorf("%q: network %s", login, network)
				}
			}
			for _, pattern := range a.channels {
				if err := setting.ValidateChannelPattern(pattern); err != nil {
					t.Errorf("%q: pattern %q", login, pattern)
				}
			}
		}
		for _, a := range parsed.tokens {
			if parsed.accounts[a.login] != a {
				t.Errorf("a token of %q, which has no account", a.login)
			}
		}
	})
}
