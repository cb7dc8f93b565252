package config

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const overridden = `
listen: "${USHER_ONLY_IN_THE_FILE}"
admin: { debug: false }
cluster: { redis: { } }
origins:
  a-1: { url: u }
backends:
  portal: { kind: portal, address: x, headers: { X-Key: k } }
  list: { kind: list, users: [u] }
`

func TestParse_Overrides(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		variable string
		got      func(s *settings) any
		want     any
	}{
		"over a text":                      {"USHER_LISTEN=x", func(s *settings) any { return s.Listen }, "x"},
		"taken as they are":                {"USHER_LISTEN=${HOME} $$", func(s *settings) any { return s.Listen }, "${HOME} $$"},
		"over a secret":                    {"USHER_ADMIN_TOKEN=hunter2", func(s *settings) any { return s.Admin.Token.Reveal() }, "hunter2"},
		"over a type that reads its texts": {"USHER_ADMIN_LISTEN=[::1]:1", func(s *settings) any { return s.Admin.Listen }, netip.MustParseAddrPort("[::1]:1")},
		"behind a pointer":                 {"USHER_ADMIN_DEBUG=true", func(s *settings) any { return *s.Admin.Debug }, true},
		"in a section behind a pointer":    {"USHER_CLUSTER_REDIS_PASSWORD=p", func(s *settings) any { return *s.Cluster.Redis }, redisSettings{[]string{"127.0.0.1:6379"}, "p"}},
		"over a list, with commas":         {"USHER_CLUSTER_REDIS_ADDRESSES=a:1, b:2,", func(s *settings) any { return s.Cluster.Redis.Addresses }, []string{"a:1", "b:2"}},
		"over a list, with nothing":        {"USHER_BACKENDS_LIST_USERS=", func(s *settings) any { return s.Backends["list"].Adapter }, &listSettings{}},
		"in a map's entry":                 {"USHER_ORIGINS_A_1_TIMEOUT=2d", func(s *settings) any { return s.Origins["a-1"] }, originSettings{"u", 48 * time.Hour}},
		"in a kind's own keys":             {"USHER_BACKENDS_PORTAL_RETRIES=9", func(s *settings) any { return s.Backends["portal"].Adapter.(*portalSettings).Retries }, int8(9)},
		"over a map's scalar":              {"USHER_BACKENDS_PORTAL_HEADERS_X_KEY=h", func(s *settings) any { return s.Backends["portal"].Adapter.(*portalSettings).Headers["X-Key"].Reveal() }, "h"},
		"by the longer key":                {"USHER_CACHE_KEEP_FOR=7s", func(s *settings) any { return []any{s.Cache.KeepFor, s.Cache.Keep.For} }, []any{7 * time.Second, 0}},
		"by the only key that fits":        {"USHER_CACHE_KEEP_FOR2=7", func(s *settings) any { return []any{s.Cache.KeepFor, s.Cache.Keep.For2} }, []any{90 * time.Second, 7}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := defaults()
			environment := Environment{Variables: []string{"USHER_ONLY_IN_THE_FILE=f", "USHER_CONFIG=c", test.variable}, Reserved: []string{"USHER_CONFIG"}}
			if _, err := Parse("usher.yaml", []byte(overridden), s, environment); err != nil {
				t.Fatalf("Parse: %v, want no problem", err)
			}
			if diff := cmp.Diff(test.want, test.got(s), compare()); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", test.variable, diff)
			}
		})
	}
}

func TestParse_Overrides_Errors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ variable, want string }{
		"a name that is near another":     {"USHER_LISEN=hunter2", "environment: USHER_LISEN: names no setting; did you mean USHER_LISTEN?"},
		"an entry that the file lacks":    {"USHER_ORIGINS_B_1_TIMEOUT=1s", "environment: USHER_ORIGINS_B_1_TIMEOUT: names no setting; did you mean USHER_ORIGINS_A_1_TIMEOUT?"},
		"a name like no other":            {"USHER_X=hunter2", "environment: USHER_X: names no setting; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only"},
		"a kind":                          {"USHER_BACKENDS_PORTAL_KIND=list", "environment: USHER_BACKENDS_PORTAL_KIND: names no setting; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only"},
		"a list of sections":              {"USHER_ROUTES=x", "environment: USHER_ROUTES: names no setting; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only"},
		"a wrong type":                    {"USHER_CACHE_RATIO=x", `environment: USHER_CACHE_RATIO: found "x", want a number such as 0.5`},
		"bytes that are no text":          {"USHER_LISTEN=\x80", `environment: USHER_LISTEN: found "\x80", whose value is not UTF-8`},
		"an item that is no text":         {"USHER_TRUSTED_PROXIES=10.0.0.1,\x80", `environment: USHER_TRUSTED_PROXIES: found "\x80", whose value is not UTF-8`},
		"nothing for a number":            {"USHER_CACHE_RATIO=", `environment: USHER_CACHE_RATIO: found "", want a number such as 0.5`},
		"what Validate refuses":           {"USHER_CACHE_MAX_BYTES=-1", "environment: USHER_CACHE_MAX_BYTES: -1 is negative"},
		"a missing file of a secret":      {"USHER_ADMIN_TOKEN=file:/no/such", "environment: USHER_ADMIN_TOKEN: read the secret: stat /no/such: no such file or directory"},
		"a wrong item of a list":          {"USHER_TRUSTED_PROXIES=10.0.0.1,x", `environment: USHER_TRUSTED_PROXIES: found "x", want an address range such as 192.0.2.0/24 or 2001:db8::/48`},
		"what a type reads itself":        {"USHER_STATUSES_NONE=300", `environment: USHER_STATUSES_NONE: found "300", want a whole number such as 10`},
		"an address of the wrong service": {"USHER_PORT=8080", "environment: USHER_PORT: names no setting; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := overridden + "statuses: { none: 1 }\n"
			environment := Environment{Variables: []string{"USHER_ONLY_IN_THE_FILE=f", test.variable}}
			_, err := Parse("usher.yaml", []byte(file), defaults(), environment)
			if err == nil || err.Error() != test.want {
				t.Errorf("Parse = %v\nwant    %s", err, test.want)
			}
		})
	}
}

// Kubernetes gives every container these variables for a service called usher, in the shapes that Docker links had.
func TestParse_KubernetesVariables_Ignored(t *testing.T) {
	t.Parallel()
	environment := Environment{Variables: []string{
		"USHER_SERVICE_HOST=10.0.0.1", "USHER_SERVICE_PORT=8080", "USHER_SERVICE_PORT_HTTP=8080",
		"USHER_PORT=tcp://10.0.0.1:8080", "USHER_PORT_8080_TCP=tcp://10.0.0.1:8080", "USHER_PORT_8080_TCP_PROTO=tcp",
		"USHER_PORT_8080_TCP_PORT=8080", "USHER_PORT_8080_TCP_ADDR=10.0.0.1", "USHER_ADMIN_PORT=tcp://10.0.0.1:8081",
		"USHER_ADMIN_SERVICE_HOST=10.0.0.1",
	}}
	if _, err := Parse("usher.yaml", nil, defaults(), environment); err != nil {
		t.Errorf("Parse: %v, want them ignored", err)
	}
}

// A section that cannot be read has settings all the same, which their variables name.
func TestParse_OverrideInBrokenSection_OneProblem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, variable, want string }{
		"a text":         {"cache: x", "USHER_CACHE_RATIO=0.5", "f:1:8: cache: found text, want a section, such as key: value"},
		"a list":         {"cache: [x]", "USHER_CACHE_RATIO=0.5", "f:1:8: cache: found a list, want a section, such as key: value"},
		"a map's entry":  {"origins: {a: x}", "USHER_ORIGINS_A_TIMEOUT=1s", "f:1:14: origins.a: found text, want a section, such as key: value"},
		"the whole file": {"x", "USHER_LISTEN=a", "f:1:1: found text, want a section, such as key: value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("f", []byte(test.file), defaults(), Environment{Variables: []string{test.variable}})
			if err == nil || err.Error() != test.want {
				t.Errorf("Parse = %v\nwant    %s", err, test.want)
			}
		})
	}
}

func TestParse_EnvironmentProblemsLast(t *testing.T) {
	t.Parallel()
	environment := Environment{Variables: []string{"USHER_B=1", "USHER_A=1"}}
	_, err := Parse("f", []byte("cache: {ratio: x}\nlisten: ''"), defaults(), environment)
	want := `f:1:16: cache.ratio: found "x", want a number such as 0.5
f:2:1: listen: missing
environment: USHER_A: names no setting; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only
environment: USHER_B: names no setting; the variable of admin.listen is USHER_ADMIN_LISTEN; kinds, lists of sections and new entries of maps are in the file only`
	if err == nil || err.Error() != want {
		t.Errorf("Parse = %v\nwant %s", err, want)
	}
}
