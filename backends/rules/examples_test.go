package rules

import (
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/backends/backendtest"
)

// examples returns the examples of the package's documentation, in order, so that it stays correct.
func examples(t *testing.T) []Config {
	t.Helper()
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatalf("read the documentation: %v", err)
	}
	var texts []string
	for line := range strings.Lines(string(source)) {
		text, ok := strings.CutPrefix(line, "//\t")
		switch {
		case !ok:
		case strings.HasPrefix(text, "kind: rules"):
			texts = append(texts, "")
		default:
			texts[len(texts)-1] += text
		}
	}
	if len(texts) != 2 {
		t.Fatalf("got %d examples in the documentation, want Alta's and Flussonic's", len(texts))
	}
	configs := make([]Config, len(texts))
	for i, text := range texts {
		configs[i] = DefaultConfig()
		if err := yaml.UnmarshalWithOptions([]byte(text), &configs[i], yaml.Strict()); err != nil {
			t.Fatalf("read example %d: %v", i, err)
		}
		if err := configs[i].Validate(); err != nil {
			t.Fatalf("example %d is invalid: %v", i, err)
		}
	}
	return configs
}

func exampleBackend(t *testing.T, cfg Config, adapters map[string]backends.Backend) *Backend {
	t.Helper()
	var members []backends.Member
	for _, name := range Members(cfg) {
		members = append(members, backends.Member{Name: name, Backend: adapters[name]})
	}
	b, err := New("gate", cfg, members)
	if err != nil {
		t.Fatalf("make the example's backend: %v", err)
	}
	return b
}

// Alta's order: addresses, secure token unless the token does not look like one, backend unless it is down, default.
func TestCheck_Example_AltaOrder(t *testing.T) {
	t.Parallel()
	cfg := examples(t)[0]
	down, open := failingWith(backends.FailureTransport), failingWith(backends.FailureBreakerOpen)
	tests := map[string]struct {
		address       string
		token, portal backends.Backend
		want          string
	}{
		"an allowed address, without a call":       {"192.168.0.7", unexpectedBackend(t), unexpectedBackend(t), "allowed local rules[0]: allow"},
		"a denied address, without a call":         {"203.0.113.9", unexpectedBackend(t), unexpectedBackend(t), "denied local rules[1]: deny"},
		"a secure token is enough":                 {"192.0.2.7", allowingBackend(), unexpectedBackend(t), "allowed backend securetoken: backend answered 200"},
		"a wrong secure token denies":              {"192.0.2.7", denyingBackend(), unexpectedBackend(t), "denied backend securetoken: backend answered 403"},
		"no secure token: the backend allows":      {"192.0.2.7", pendingBackend(), allowingBackend(), "allowed backend portal: backend answered 200"},
		"no secure token: the backend denies":      {"192.0.2.7", pendingBackend(), denyingBackend(), "denied backend portal: backend answered 403"},
		"the backend is down: the default":         {"192.0.2.7", pendingBackend(), down, "allowed fail-open default: allow; portal did not answer"},
		"the breaker is open: the default":         {"192.0.2.7", pendingBackend(), open, "allowed fail-open default: allow; portal did not answer"},
		"the backend fails by viewer input":        {"192.0.2.7", pendingBackend(), failingWith(backends.FailureMalformed), "failure malformed"},
		"the backend is busy":                      {"192.0.2.7", pendingBackend(), failingBackend(overloadError()), "overload"},
		"the backend is down, but the token holds": {"192.0.2.7", allowingBackend(), down, "allowed backend securetoken: backend answered 200"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := backendtest.NewRequest("123")
			at(tt.address)(r)
			b := exampleBackend(t, cfg, map[string]backends.Backend{"securetoken": tt.token, "portal": tt.portal})
			if got := describeOutcome(b.Check(t.Context(), r)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Flussonic's order: token, address, agent, for each first the allowed ones; then all backends, then the default.
func TestCheck_Example_FlussonicOrder(t *testing.T) {
	t.Parallel()
	cfg := examples(t)[1]
	open := cfg
	open.Default = Allow
	const page, elsewhere = "https://tv.example.com/watch", "https://evil.example/"
	tests := map[string]struct {
		cfg                    Config
		token, address, player string
		page                   string
		portals                backends.Backend
		want                   string
	}{
		"allow token goes before deny ip":                 {cfg, "t-of-a-monitor", "198.51.100.7", "bot", elsewhere, unexpectedBackend(t), "allowed local rules[0]: allow"},
		"deny token goes before allow ip":                 {cfg, "t-of-a-thief", "10.0.0.1", "SmartTV", page, unexpectedBackend(t), "denied local rules[1]: deny"},
		"allow ip goes before deny ua":                    {cfg, "1", "10.0.0.1", "bot", elsewhere, unexpectedBackend(t), "allowed local rules[2]: allow"},
		"deny ip goes before allow ua":                    {cfg, "1", "198.51.100.7", "SmartTV/1", page, unexpectedBackend(t), "denied local rules[3]: deny"},
		"allow ua goes before deny ua":                    {cfg, "1", "192.0.2.7", "smarttv bot", elsewhere, unexpectedBackend(t), "allowed local rules[4]: allow"},
		"deny ua goes before the backends":                {cfg, "1", "192.0.2.7", "GoogleBot/2", page, unexpectedBackend(t), "denied local rules[5]: deny"},
		"the backends allow":                              {cfg, "1", "192.0.2.7", "VLC", page, allowingBackend(), "allowed backend portals: backend answered 200"},
		"the backends deny":                               {cfg, "1", "192.0.2.7", "VLC", page, denyingBackend(), "denied backend portals: backend answered 403"},
		"a page on another domain":                        {cfg, "1", "192.0.2.7", "VLC", elsewhere, unexpectedBackend(t), "denied local default: deny"},
		"the backends are unavailable":                    {cfg, "1", "192.0.2.7", "VLC", page, failingWith(backends.FailureTimeout), "denied fail-open default: deny; portals did not answer"},
		"the backends are unavailable, and allow default": {open, "1", "192.0.2.7", "VLC", page, failingWith(backends.FailureTimeout), "allowed fail-open default: allow; portals did not answer"},
		"the backends deny in spite of allow default":     {open, "1", "192.0.2.7", "VLC", page, denyingBackend(), "denied backend portals: backend answered 403"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := backendtest.NewRequest(tt.token)
			at(tt.address)(r)
			r.UserAgent, r.Referer = tt.player, tt.page
			b := exampleBackend(t, tt.cfg, map[string]backends.Backend{"portals": tt.portals})
			if got := describeOutcome(b.Check(t.Context(), r)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestMembers_Examples(t *testing.T) {
	t.Parallel()
	var got [][]string
	for _, cfg := range examples(t) {
		got = append(got, Members(cfg))
	}
	if diff := cmp.Diff([][]string{{"securetoken", "portal"}, {"portals"}}, got); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
}

func describeOutcome(d backends.Decision, err error) string {
	switch f := backends.AsFailure(err); {
	case f != nil:
		return "failure " + f.Kind.String()
	case backends.IsOverload(err):
		return "overload"
	case err != nil:
		return err.Error()
	default:
		return d.Verdict.String() + " " + d.Source.String() + " " + d.Reason
	}
}
