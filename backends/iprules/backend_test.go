package iprules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/cmd/usher/config"
)

func newBackend(t testing.TB, fallback Action, rules ...string) *Backend {
	t.Helper()
	b, err := New("office", Config{Rules: rules, Default: fallback}, nil)
	if err != nil {
		t.Fatalf("make the backend: %v", err)
	}
	return b
}

func check(t testing.TB, b *Backend, address netip.Addr) backends.Decision {
	t.Helper()
	d, err := b.Check(t.Context(), &backends.Request{Address: address})
	if err != nil {
		t.Fatalf("check %s: %v", address, err)
	}
	if d.Source != backends.FromLocal {
		t.Fatalf("check %s: source %s, want local", address, d.Source)
	}
	return d
}

func TestCheck_FirstMatchDecides(t *testing.T) {
	t.Parallel()
	rules := []string{
		"deny 192.0.2.13", "allow 192.0.2.0/24", "pass 192.0.0.0/16", "skip 198.51.100.0/24",
		"allow 2001:db8::/32", "deny 2001:db8:1::/48", "allow ::ffff:203.0.113.0/120", "deny 192.0.2.0/24",
	}
	b := newBackend(t, Deny, rules...)
	tests := map[string]struct {
		verdict backends.Verdict
		reason  string
	}{
		"192.0.2.13":          {backends.Denied, "rules[0]: deny 192.0.2.13"},
		"192.0.2.14":          {backends.Allowed, "rules[1]: allow 192.0.2.0/24"},
		"::ffff:192.0.2.13":   {backends.Denied, "rules[0]: deny 192.0.2.13"},
		"192.0.77.1":          {backends.Pending, "rules[2]: pass 192.0.0.0/16"},
		"198.51.100.255":      {backends.Pending, "rules[3]: skip 198.51.100.0/24"},
		"2001:db8:1::7":       {backends.Allowed, "rules[4]: allow 2001:db8::/32"},
		"2001:db8:1::7%eth0":  {backends.Allowed, "rules[4]: allow 2001:db8::/32"},
		"203.0.113.9":         {backends.Allowed, "rules[6]: allow ::ffff:203.0.113.0/120"},
		"2001:db9::1":         {backends.Denied, "no rule matches; default: deny"},
		"198.51.101.0":        {backends.Denied, "no rule matches; default: deny"},
		"255.255.255.255":     {backends.Denied, "no rule matches; default: deny"},
		"::":                  {backends.Denied, "no rule matches; default: deny"},
		"::ffff:198.51.100.1": {backends.Pending, "rules[3]: skip 198.51.100.0/24"},
	}
	for address, want := range tests {
		d := check(t, b, netip.MustParseAddr(address))
		if d.Verdict != want.verdict || d.Reason != want.reason {
			t.Errorf("%s: %s because %q, want %s because %q", address, d.Verdict, d.Reason, want.verdict, want.reason)
		}
	}
}

func TestCheck_RuleForAll(t *testing.T) {
	t.Parallel()
	b := newBackend(t, Allow, "allow 192.0.2.0/24", "deny all", "allow 198.51.100.0/24", "allow all")
	for address, want := range map[netip.Addr]backends.Verdict{
		netip.MustParseAddr("192.0.2.1"):    backends.Allowed,
		netip.MustParseAddr("198.51.100.1"): backends.Denied,
		netip.MustParseAddr("2001:db8::1"):  backends.Denied,
		{}:                                  backends.Denied, // unknown address
	} {
		if d := check(t, b, address); d.Verdict != want {
			t.Errorf("%s: %s, want %s", address, d.Verdict, want)
		}
	}
	if d := check(t, newBackend(t, Pass, "allow 0.0.0.0/0", "allow ::/0"), netip.Addr{}); d.Verdict != backends.Pending {
		t.Errorf("without an address: %s, want no opinion", d.Verdict)
	}
}

// The lookup must agree with a linear search.
func TestCheck_OrderHoldsAmongManyRules(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	rules := randomRules(random, 3000)
	b := newBackend(t, Pass, rules...)
	parsed := make([]rule, len(rules))
	for i, text := range rules {
		r, err := parseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		parsed[i] = r
	}
	fits := 0
	for range 20_000 {
		address := randomAddress(random)
		want := "no rule matches; default: pass"
		for i, r := range parsed {
			if r.network.Contains(address) {
				want, fits = fmt.Sprintf("rules[%d]: %s", i, rules[i]), fits+1
				break
			}
		}
		if d := check(t, b, address); d.Reason != want {
			t.Fatalf("%s: %q, want %q", address, d.Reason, want)
		}
	}
	if fits < 1000 {
		t.Errorf("only %d addresses fit a rule", fits)
	}
}

func randomAddress(random *rand.Rand) netip.Addr {
	if random.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(random.IntN(4)), byte(random.IntN(256)), byte(random.IntN(256))})
	}
	raw := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(random.IntN(4)), byte(random.IntN(256)), byte(random.IntN(256))}
	return netip.AddrFrom16(raw)
}

func randomRules(random *rand.Rand, n int) []string {
	rules := make([]string, n)
	for i := range rules {
		address := randomAddress(random)
		least := 12
		if address.Is6() {
			least = 44
		}
		network, err := address.Prefix(least + random.IntN(address.BitLen()-least+1))
		if err != nil {
			panic(err)
		}
		rules[i] = []string{"allow ", "deny ", "pass "}[random.IntN(3)] + network.String()
	}
	return rules
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                        `rules[0]: "": want an action and a network, such as "allow 192.0.2.0/24"`,
		"allow":                   `rules[0]: "allow": want an action and a network, such as "allow 192.0.2.0/24"`,
		"allow 192.0.2.0/24 now":  `rules[0]: "allow 192.0.2.0/24 now": want an action and a network, such as "allow 192.0.2.0/24"`,
		"permit 192.0.2.0/24":     `rules[0]: "permit": want allow, deny or pass`,
		"allow 192.0.2.0/33":      `rules[0]: "192.0.2.0/33": ` + errNetwork.Error(),
		"allow 192.0.2":           `rules[0]: "192.0.2": ` + errNetwork.Error(),
		"deny tv.example.com":     `rules[0]: "tv.example.com": ` + errNetwork.Error(),
		"deny fe80::1%eth0":       `rules[0]: "fe80::1%eth0": ` + errNetwork.Error(),
		"allow 192.0.2.7/24":      `rules[0]: "192.0.2.7/24": has bits beyond its prefix length; want 192.0.2.0/24`,
		"allow ::ffff:10.0.0.0/8": `rules[0]: "::ffff:10.0.0.0/8": ` + errNetwork.Error(),
	}
	for text, want := range tests {
		err := Config{Rules: []string{text}}.Validate()
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if err := DefaultConfig().Validate(); err == nil || !strings.HasPrefix(err.Error(), "rules: none") {
		t.Errorf("no rules: got %v", err)
	}
	_, err := New("office", Config{Rules: []string{"allow"}}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), `make backend "office": rules[0]: `) {
		t.Errorf("New: got %v", err)
	}
}

func TestConfig_Warnings_RuleNeverReached(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{
		"allow 10.0.0.0/8,deny all":                               "",
		"allow 10.1.0.0/16,deny 10.0.0.0/8":                       "",
		"deny 10.0.0.0/8,deny 10.1.0.0/16":                        "",
		"deny 0.0.0.0/0,allow 2001:db8::/32":                      "",
		"allow 10.0.0.0/8,allow 10.1.0.0/16,wrong":                "",
		"deny 10.0.0.0/8,allow 10.1.0.0/16":                       `rules[1]: "allow 10.1.0.0/16" is never reached: rules[0], "deny 10.0.0.0/8", decides before it on all that it matches; put it first`,
		"pass 2001:db8::/32,deny 2001:db8::1":                     `rules[1]: "deny 2001:db8::1" is never reached: rules[0], "pass 2001:db8::/32", decides`,
		"allow 10.0.0.7,deny 10.0.0.7":                            `rules[1]: "deny 10.0.0.7" is never reached: rules[0], "allow 10.0.0.7", decides`,
		"allow all,deny 10.0.0.7":                                 `rules[1]: "deny 10.0.0.7" is never reached: rules[0], "allow all", decides`,
		"deny all,allow all":                                      `rules[1]: "allow all" is never reached: rules[0], "deny all", decides`,
		"allow 10.0.0.0/8,deny 192.0.2.7,allow all,deny 10.1.1.1": `rules[3]: "deny 10.1.1.1" is never reached: rules[0], "allow 10.0.0.0/8", decides`,
	} {
		err := Config{Rules: strings.Split(rules, ",")}.Warnings()
		if (err == nil) != (want == "") || err != nil && (!strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: got %v, want %q", rules, err, want)
		}
	}
}

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	want := Config{Rules: []string{"allow 192.0.2.0/24", "skip all"}, Default: Deny}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
	if text, err := got.Default.MarshalText(); err != nil || string(text) != "deny" {
		t.Errorf("spelled %q, %v", text, err)
	}
	if err := config.Decode([]byte(`default: maybe`), &got); err == nil {
		t.Error("an unknown action was accepted")
	}
}

func FuzzParseRule(f *testing.F) {
	for _, seed := range []string{
		"allow 192.0.2.0/24", "deny 2001:db8::/32", "pass all", "skip ::ffff:10.0.0.0/104", "allow 1.2.3.4/-1", "deny fe80::1%a/64",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRule(text)
		if err != nil || r.matchesAll {
			return
		}
		if !r.network.IsValid() || r.network.Addr().Is4In6() || r.network.Addr().Zone() != "" {
			t.Fatalf("%q became %v", text, r.network)
		}
		b := newBackend(t, Pass, text)
		if d := check(t, b, r.network.Addr()); !strings.HasPrefix(d.Reason, "rules[0]") {
			t.Errorf("%q does not fit %s", text, r.network.Addr())
		}
	})
}

func TestCheck_NoAllocation(t *testing.T) {
	b := newBackend(t, Pass, randomRules(rand.New(rand.NewPCG(3, 4)), 1000)...)
	r := &backends.Request{Address: netip.MustParseAddr("10.1.2.3")}
	if n := testing.AllocsPerRun(100, func() { _, _ = b.Check(t.Context(), r) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		random := rand.New(rand.NewPCG(5, 6))
		rules := randomRules(random, n)
		backend := newBackend(b, Pass, rules...)
		parsed := make([]rule, n)
		for i, text := range rules {
			parsed[i], _ = parseRule(text)
		}
		r := &backends.Request{Address: netip.MustParseAddr("10.255.2.3")}
		b.Run(fmt.Sprintf("%d rules", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = backend.Check(b.Context(), r)
			}
		})
		b.Run(fmt.Sprintf("%d rules, one after the other", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range parsed {
					if parsed[i].network.Contains(r.Address) {
						break
					}
				}
			}
		})
	}
}
