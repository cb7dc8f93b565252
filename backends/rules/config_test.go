package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/setting"
	"usher/cmd/usher/config"
)

func readConfig(t testing.TB, text string) Config {
	t.Helper()
	cfg := DefaultConfig()
	if err := config.Decode([]byte(text), &cfg); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	return cfg
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Each condition counts, alone and beside each other one.
func TestConfig_Validate_AllowWithCondition(t *testing.T) {
	t.Parallel()
	conditions := []string{
		"addresses: [192.0.2.7]", "channels: [a001]", "user_agents: [VLC]", "hosts: [tv.example.com]", "referers: [tv.example.com]",
		"tokens: [t-1]",
	}
	for i, one := range conditions {
		for _, list := range append([]string{one}, conditions[i+1:]...) {
			if list != one {
				list = one + ", " + list
			}
			if err := readConfig(t, "rules: [{ "+list+", action: allow }]").Validate(); err != nil {
				t.Errorf("allow with %s: got %v, want none", list, err)
			}
		}
	}
}

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := readConfig(t, string(text))
	want := Config{
		Rules: []Rule{
			{Addresses: []string{"192.0.2.0/24", "2001:db8::7"}, Channels: []string{"hd-*"}, Action: Allow},
			{UserAgents: []string{"*bot*"}, Hosts: []string{"*.example.com"}, Action: Deny},
			{Referers: []string{"tv.example.com"}, Tokens: []setting.Secret{"t-1"}, Action: Pass},
			{Backend: "portal", OnAllow: Pass, OnDeny: Pass, OnFailure: Deny},
			{Backend: "legacy"},
		},
		Default: Pass,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
	if diff := cmp.Diff([]string{"portal", "legacy"}, Members(got)); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if text := fmt.Sprintf("%v %+v", got, got); strings.Contains(text, "t-1") {
		t.Errorf("the config shows a token: %s", text)
	}
}

// TestConfig_Print validates what is printed of rules, which mostly have few of the conditions.
func TestConfig_Print(t *testing.T) {
	t.Parallel()
	var printed strings.Builder
	if err := config.Print(&printed, readConfig(t, `rules: [{ channels: [a], action: deny }, { backend: p }]`)); err != nil {
		t.Fatal(err)
	}
	if err := readConfig(t, printed.String()).Validate(); err != nil {
		t.Errorf("got %v for\n%s", err, printed.String())
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ config, want string }{
		"the default wants rules":    {`{}`, "rules: none; want at least one, such as { addresses: [192.0.2.0/24], action: allow }"},
		"neither action nor backend": {`rules: [{ channels: [a] }]`, "rules[0]: want action or backend"},
		"both":                       {`rules: [{ action: deny, backend: portal }]`, "rules[0].action: deny excludes backend: portal"},
		"actions in a wrong place": {
			`{ rules: [{ channels: [a], action: fail }, { backend: p, on_allow: deny, on_deny: allow, on_failure: allow }], default: fail }`,
			"rules[0].action: \"fail\" is not possible here; want allow, deny or pass\n" +
				"rules[1].on_allow: \"deny\" is not possible here; want allow or pass\n" +
				"rules[1].on_deny: \"allow\" is not possible here; want deny or pass\n" +
				"rules[1].on_failure: \"allow\" is not possible here; want fail, pass or deny\n" +
				"default: \"fail\" is not possible here; want allow, deny or pass",
		},
		"on_deny without backend":     {`rules: [{ channels: [a], action: deny, on_deny: pass }]`, "rules[0].on_deny: pass needs backend"},
		"no default":                  {`{ rules: [{ backend: p }], default: "" }`, `default: "" is not possible here; want allow, deny or pass`},
		"a wrong address":             {`rules: [{ addresses: [192.0.2.7, 192.0.2, "fe80::1%eth0"], action: deny }]`, "rules[0].addresses[1]: \"192.0.2\": want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24\nrules[0].addresses[2]: \"fe80::1%eth0\": want an address such as 192.0.2.7, or a CIDR such as 192.0.2.0/24"},
		"a wrong network":             {`rules: [{ addresses: [192.0.2.0/33], action: deny }]`, `rules[0].addresses[0]: "192.0.2.0/33": want a CIDR such as 192.0.2.0/24 or 2001:db8::/32`},
		"a network of both":           {`rules: [{ addresses: ["::ffff:0:0/64"], action: deny }]`, `rules[0].addresses[0]: "::ffff:0:0/64": want a CIDR such as 192.0.2.0/24 or 2001:db8::/32`},
		"a wrong channel":             {`rules: [{ channels: ["[a"], action: deny }]`, `rules[0].channels[0]: "[a": has [ or \, but only * and ? are wildcards; want a channel, with * for any text, such as "sport-*"`},
		"a host that DNS cannot have": {`rules: [{ hosts: ["*.т_в.рф"], action: deny }]`, `rules[0].hosts[0]: "*.т_в.рф": is no name that DNS can have: idna: disallowed rune U+005F`},
		"a host with a scheme":        {`rules: [{ hosts: ["http://a"], action: deny }]`, `rules[0].hosts[0]: "http://a": want a host such as tv.example.com or *.example.com, without scheme, port and path`},
		"a page with a path":          {`rules: [{ referers: [tv.example.com/x, "a*b", "*.", "*.192.0.2.7:1"], action: deny }]`, hostErrors("rules[0].referers", "tv.example.com/x", "a*b", "*.", "*.192.0.2.7:1")},
		"an IPv6 host":                {`rules: [{ hosts: ["2001:db8::1"], action: deny }]`, ""},
		"allow without a condition":   {`rules: [{ action: allow }]`, "rules[0].action: allow without a condition allows every viewer; if that is intended, use default: allow"},
		"a condition got lost": {
			`rules: [{ addresses: [], action: allow }]`,
			"rules[0].addresses: is empty; leave the key out if there is no such condition\n" +
				"rules[0].action: allow without a condition allows every viewer; if that is intended, use default: allow",
		},
		"one of two got lost": {
			`rules: [{ addresses: [192.0.2.7], channels: [], tokens: [], action: allow }]`,
			"rules[0].channels: is empty; leave the key out if there is no such condition\n" +
				"rules[0].tokens: is empty; leave the key out if there is no such condition",
		},
		"deny all, then others": {`rules: [{ action: deny }, { backend: p }]`, "rules[0].action: deny without a condition; the rules after it are never reached"},
		"deny all in the end":   {`rules: [{ backend: p, on_deny: pass }, { action: deny }]`, ""},
		"empty entries": {
			`rules: [{ addresses: [""], channels: [""], user_agents: [""], hosts: [""], referers: [""], tokens: [""], action: deny }]`,
			"rules[0].addresses[0]: must not be empty\nrules[0].channels[0]: must not be empty\n" +
				"rules[0].user_agents[0]: must not be empty\nrules[0].hosts[0]: must not be empty\n" +
				"rules[0].referers[0]: must not be empty\nrules[0].tokens[0]: must not be empty",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := errorText(readConfig(t, tt.config).Validate()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func hostErrors(key string, hosts ...string) string {
	var lines []string
	for i, h := range hosts {
		lines = append(lines, fmt.Sprintf("%s[%d]: %q: want a host such as tv.example.com or *.example.com, without scheme, port and path", key, i, h))
	}
	return strings.Join(lines, "\n")
}

func TestAction_MarshalText(t *testing.T) {
	t.Parallel()
	for _, want := range []Action{NoAction, Allow, Deny, Pass, Fail} {
		text, _ := want.MarshalText()
		var got Action
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Errorf("%q read as %d with error %v, want %d", text, got, err, want)
		}
	}
	var a Action
	if got, want := errorText(a.UnmarshalText([]byte("skip"))), `action "skip": want allow, deny, pass or fail`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	ask := Config{Rules: []Rule{{Backend: "a"}, {Backend: "b"}, {Backend: "a"}}, Default: Deny}
	tests := map[string]struct {
		cfg     Config
		members []backends.Member
		want    string
	}{
		"no rules":            {DefaultConfig(), nil, `make backend "gate": rules: none; want at least one, such as { addresses: [192.0.2.0/24], action: allow }`},
		"a member is missing": {ask, []backends.Member{{Name: "a"}}, `make backend "gate": rules: got members ["a"], want ["a" "b"]`},
		"a member too many":   {ask, []backends.Member{{Name: "a"}, {Name: "b"}, {Name: "c"}}, `make backend "gate": rules: got members ["a" "b" "c"], want ["a" "b"]`},
		"out of order":        {ask, []backends.Member{{Name: "b"}, {Name: "a"}}, `make backend "gate": rules: got members ["b" "a"], want ["a" "b"]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := New("gate", tt.cfg, tt.members); errorText(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
