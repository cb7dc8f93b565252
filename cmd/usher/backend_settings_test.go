package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"usher/backends/httprequest"
	"usher/cmd/usher/config"
)

func TestRemoteSettings_Validate_NamesTokenLife(t *testing.T) {
	t.Parallel()
	s := remoteSettings{TokenLife: -time.Second, Base: localSettings{time.Minute, 1}}
	if err := s.Validate(); err == nil || !strings.HasPrefix(err.Error(), "token_life: -1s") {
		t.Errorf("got %v, want an error that begins with token_life: -1s", err)
	}
	s.TokenLife = 0
	if err := s.Validate(); err != nil {
		t.Errorf("token_life 0: %v", err)
	}
}

// backendTimes are the settings that depend on a preset.
type backendTimes struct{ Timeout, Answer, Interval, Dial, TLS, Header, Idle time.Duration }

func TestBackendSettings_SetPreset(t *testing.T) {
	t.Parallel()
	usual := backendTimes{
		2 * time.Second, time.Second, 10 * time.Second, time.Second, 2 * time.Second, 0, time.Minute,
	}
	product := backendTimes{
		10 * time.Second, 10 * time.Second, time.Minute, 5 * time.Second, 3 * time.Second, 2 * time.Second, 90 * time.Second,
	}
	spelled := product
	spelled.Timeout, spelled.Dial = 500*time.Millisecond, 100*time.Millisecond
	tests := map[string]struct {
		text string
		env  []string
		want backendTimes
	}{
		"no preset":                      {"", nil, usual},
		"another preset":                 {"preset: alta", nil, usual},
		"auth-proxy":                     {"preset: auth-proxy", nil, product},
		"what the file says wins":        {"timeout: 500ms, preset: auth-proxy, dial_timeout: 100ms", nil, spelled},
		"a preset of the environment":    {"", []string{"USHER_BACKENDS_PORTAL_PRESET=auth-proxy"}, usual},
		"a time of the environment":      {"preset: auth-proxy", []string{"USHER_BACKENDS_PORTAL_TIMEOUT=500ms", "USHER_BACKENDS_PORTAL_DIAL_TIMEOUT=100ms"}, spelled},
		"a preset that a variable names": {"preset: \"${PRESET}\"", []string{"PRESET=auth-proxy"}, product},
		"a preset by default":            {"preset: \"${PRESET:-auth-proxy}\"", nil, product},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := checkSettings("  portal: { kind: httprequest, address: \"http://127.0.0.1:9/\", " + tt.text + " }\n")
			s := defaultSettings()
			if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{Variables: tt.env}); err != nil {
				t.Fatal(err)
			}
			b := s.Backends["portal"].Settings.(*settingsOf[remoteSettings, httprequest.Config]) //nolint:forcetypeassert // of that kind
			got := backendTimes{
				b.Common.Chain.Timeout, b.Common.Chain.Bulkhead.AnswerDeadline, b.Common.Chain.Breaker.Interval,
				b.Own.HTTP.DialTimeout, b.Own.HTTP.TLSTimeout, b.Own.HTTP.ResponseHeaderTimeout, b.Own.HTTP.IdleTimeout,
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("times (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBackendSettings_SetPreset_EveryHTTPKind(t *testing.T) {
	t.Parallel()
	for name, k := range kinds() {
		if _, isRemote := k.defaults(name, "").common().(remoteSettings); !isRemote {
			continue
		}
		common := k.defaults(name, "auth-proxy").common().(remoteSettings) //nolint:forcetypeassert // checked above
		text := checkSettings("  portal: { kind: " + name + ", preset: auth-proxy, address: \"http://127.0.0.1:9/\" }\n")
		if _, err := config.Parse("usher.yaml", []byte(text), defaultSettings(), config.Environment{}); err != nil || common.Chain.Timeout != authProxyTimeout {
			t.Errorf("%s: timeout %s and error %v, want %s and defaults that are valid", name, common.Chain.Timeout, err, authProxyTimeout)
		}
	}
}

func TestSettings_AnswerDeadline_LongestOfMembers(t *testing.T) {
	t.Parallel()
	s := defaultSettings()
	text := checkSettings(`
  portal: { kind: any, backends: [ fast, inner ] }
  inner: { kind: rules, rules: [ { backend: slow } ], default: deny }
  own: { kind: any, backends: [ slow ], answer_deadline: 3s }
  alone: { kind: rules, rules: [ { addresses: [ 192.0.2.0/24 ], action: allow } ], default: deny }
  fast: { kind: httprequest, address: "http://127.0.0.1:9/", answer_deadline: 500ms }
  slow: { kind: httprequest, address: "http://127.0.0.1:9/", preset: auth-proxy }
`)
	if _, err := config.Parse("usher.yaml", []byte(text), s, config.Environment{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Duration{
		"portal": 10 * time.Second, "inner": 10 * time.Second, "own": 3 * time.Second, "alone": time.Second, "fast": 500 * time.Millisecond,
	} {
		if got := s.answerDeadline(name, len(s.Backends)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if err := (compositeSettings{AnswerDeadline: -1, RecheckRate: 1}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "answer_deadline: -1ns") {
		t.Errorf("got %v, want an error that begins with answer_deadline: -1ns", err)
	}
}

// TestSettings_ValidateTokenPolicies: a policy for tokens that never expire has no effect.
func TestSettings_ValidateTokenPolicies(t *testing.T) {
	t.Parallel()
	const remote, says = `kind: httprequest, address: "http://127.0.0.1:9/", on_expired_token: deny`, `backends.portal.on_expired_token: deny has no effect, as token_life`
	for name, test := range map[string]struct{ backends, says string }{
		"tokens that last":          {"portal: { " + remote + " }", says + " is 0s, for ever; want a token_life, or no on_expired_token"},
		"tokens that expire":        {"portal: { " + remote + ", token_life: 1h }", ""},
		"tokens of the kind's own":  {`portal: { kind: ministra, address: "http://127.0.0.1:9/", on_expired_token: deny }`, ""},
		"the default":               {`portal: { kind: httprequest, address: "http://127.0.0.1:9/", on_expired_token: keep }`, ""},
		"members' tokens that last": {"portal: { kind: any, backends: [ a ], on_expired_token: deny }\n  a: { kind: iprules, rules: [ allow all ] }", says + " of its members is 0s, for ever; want no on_expired_token, as none of them has that setting"},
		"a member's tokens that last": {
			"portal: { kind: any, backends: [ a ], on_expired_token: deny }\n  a: { kind: any, backends: [ b, c ] }\n  b: { kind: iprules, rules: [ allow all ] }\n" +
				`  c: { kind: httprequest, address: "http://127.0.0.1:9/" }`,
			says + " of its members is 0s, for ever; want a token_life, or no on_expired_token",
		},
		"members' tokens that expire": {"portal: { kind: any, backends: [ a ], on_expired_token: deny }\n  a: { kind: smarty, address: \"http://127.0.0.1:9/\" }", ""},
		"a member of an unknown kind": {"portal: { kind: any, backends: [ a ], on_expired_token: deny }\n  a: { kind: minstra, address: \"http://127.0.0.1:9/\" }", `unknown kind "minstra"`},
		"a member of itself":          {"portal: { kind: any, backends: [ a ], on_expired_token: deny }\n  a: { kind: any, backends: [ portal ] }", "has it as a member"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse("usher.yaml", []byte(checkSettings("  "+test.backends+"\n")), defaultSettings(), config.Environment{})
			if (err == nil) != (test.says == "") || !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if strings.Contains(test.says, "unknown kind") && strings.Contains(fmt.Sprint(err), "has no effect") {
				t.Errorf("got %v; the token_life of an unknown kind is not known", err)
			}
		})
	}
}

// TestSettings_ValidateMembers_ShortDeadline: a check of users or jwt that lasts longer than a composite waits would count as an outage,
// and its viewer be admitted.
func TestSettings_ValidateMembers_ShortDeadline(t *testing.T) {
	t.Parallel()
	const members = `
  inner: { kind: any, backends: [ people ] }
  people: { kind: users, file: /nowhere.yaml }
  tokens: { kind: jwt, algorithms: [ ES256 ], jwks_url: "https://login.example/keys" }
  signed: { kind: securetoken, key: "7f3a9c1e5b8d2046" }
  remote: { kind: httprequest, address: "http://127.0.0.1:9/" }
`
	for name, test := range map[string]struct{ portal, says string }{
		"users": {
			"{ kind: rules, rules: [ { backend: people } ], answer_deadline: 300ms }",
			`backends.portal.answer_deadline: 300ms is too short for "people", which it calls; want at least 1s, or 0s for the longest of the members'`,
		},
		"jwt among others": {
			"{ kind: any, backends: [ remote, tokens ], answer_deadline: 999ms }", `backends.portal.answer_deadline: 999ms is too short for "tokens"`,
		},
		"users through another composite": {
			"{ kind: rules, rules: [ { backend: inner } ], answer_deadline: 1ms }", `backends.portal.answer_deadline: 1ms is too short for "people"`,
		},
		"as long as jwt itself":      {"{ kind: any, backends: [ people, tokens ], answer_deadline: 1s }", ""},
		"the longest of the members": {"{ kind: any, backends: [ people, tokens ] }", ""},
		"no member that takes time":  {"{ kind: any, backends: [ remote, signed ], answer_deadline: 300ms }", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := checkSettings("  portal: " + test.portal + members)
			_, err := config.Parse("usher.yaml", []byte(text), defaultSettings(), config.Environment{})
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}
