package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends/setting"
)

const (
	supportToken = "tq7PzW2mXc9LrB4n"
	grafanaToken = "Hs5vKd8yUe3JfG6a"
)

// secretSettings has every kind of secret that a settings file can hold, each with S3 in its text.
const secretSettings = `
listen: "127.0.0.1:0"
admin:
  token: S3k1Pq7wZx2mVb9n
  tokens:
    - { name: support, token: "` + supportToken + `S3", role: write }
    - { name: grafana, token: "` + grafanaToken + `S3", role: read }
identity: { secret: S3k2Pq7wZx2mVb9n }
tickets: { keys: [ { id: a, secret: S3k3Pq7wZx2mVb9n } ] }
origins:
  one:
    url: "http://me:S3k4'Pq@127.0.0.1:9/live?a=S3k5"
    fallback: [ "http://S3k6@127.0.0.1:9/?S3k7" ]
    headers: { X-Key: S3k8Pq7wZx2mVb9n }
backends:
  portal: { kind: httprequest, address: "http://me:S3k9@127.0.0.1:9/check?key=S3k10'x", headers: { X-Key: S3k11Pq7wZx2mVb9n } }
  signed: { kind: jwt, algorithms: [ HS256 ], secret: S3k12Pq7wZx2mVb9nS3k12Pq7wZx2mVb9n }
  keyset: { kind: jwt, algorithms: [ ES256 ], jwks_url: "http://me:S3k13@127.0.0.1:9/keys?key=S3k14" }
  linked: { kind: signedlink, secret: S3k15Pq7wZx2mVb9n, extra_secrets: [ S3k16Pq7wZx2mVb9n ] }
  secure: { kind: securetoken, key: S3k17Pq7wZx2mVb9n, extra_keys: [ S3k18Pq7wZx2mVb9n ] }
  chosen: { kind: rules, rules: [ { tokens: [ S3k19Pq7wZx2mVb9n ], action: deny } ], default: deny }
routes:
  - { path: "/play/{channel}/*", origin: one, backend: portal }
cluster:
  encryption_keys: [ { id: a, secret: S3k20Pq7wZx2mVb9n } ]
  redis: { addresses: [ "127.0.0.1:1" ], username: me, password: S3k21Pq7wZx2mVb9n, sentinel_password: S3k22Pq7wZx2mVb9n }
tracing: { endpoint: "http://127.0.0.1:9" }
`

// apiOf returns a function that calls the API of a node of the settings file, which answers queries.
func apiOf(t *testing.T, path string) func(token, method, path, body string) (int, string) {
	t.Helper()
	n, end, err := fileFlag{Config: path}.build(runtime{t.Context(), console{out: io.Discard, err: io.Discard}}, func(*settings) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	n.handleEvents()
	server := httptest.NewServer(n.adminHandler())
	t.Cleanup(server.Close)
	return func(token, method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/api/v1/"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}
}

func TestAdminHandler_Config_HidesEverySecret(t *testing.T) {
	path := writeFile(t, secretSettings)
	code, printed, errs := usher("validate", "--config", path, "--print")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	status, got := apiOf(t, path)(grafanaToken+"S3", "GET", "config", "")
	if diff := cmp.Diff(printed, got); diff != "" || status != http.StatusOK {
		t.Errorf("status %d; the API differs from validate --print (-printed +got):\n%s", status, diff)
	}
	secrets := regexp.MustCompile(`S3k\d+`)
	if leaked := secrets.FindAllString(got, -1); len(leaked) > 0 || strings.Contains(got, "S3") {
		t.Errorf("it shows %q:\n%s", leaked, got)
	}
	hidden := regexp.MustCompile(`\[hidden\]`).FindAllString(got, -1)
	if given := slices.Compact(slices.Sorted(slices.Values(secrets.FindAllString(secretSettings, -1)))); len(hidden) < len(given) {
		t.Errorf("it hides %d values of at least %d:\n%s", len(hidden), len(given), got)
	}
}

func TestAdminHandler_Roles_AuditedInFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	t.Setenv("USHER_ADMIN_AUDIT_FILE", file)
	call := apiOf(t, writeFile(t, secretSettings[:strings.Index(secretSettings, "cluster:")]))
	const ban = `{"user":"Ann","duration":"1h","reason":"unpaid"}`
	for token, want := range map[string]int{
		"guess": http.StatusUnauthorized, grafanaToken + "S3": http.StatusForbidden, supportToken + "S3": http.StatusOK,
		"S3k1Pq7wZx2mVb9n": http.StatusOK,
	} {
		if status, answer := call(token, "POST", "bans", ban); status != want {
			t.Errorf("got %d, want %d: %s", status, want, answer)
		}
	}
	if status, answer := call(grafanaToken+"S3", "POST", "bans", strings.Replace(ban, "{", `{"dry_run":true,`, 1)); status != http.StatusOK {
		t.Errorf("a dry run: got %d %s", status, answer)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var r struct{ Actor, Action, Target, Result, Reason string }
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.Join([]string{r.Actor, r.Action, r.Target, r.Result, r.Reason}, " | "))
	}
	slices.Sort(got)
	want := []string{
		" | ban | /api/v1/bans | the API needs the header Authorization: Bearer <token>, with admin.token or one of admin.tokens | ",
		"admin | ban | user Ann | done | unpaid",
		`grafana | ban | user Ann | token "grafana" has the role read; ban needs the role write | unpaid`,
		"support | ban | user Ann | done | unpaid",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
	if strings.Contains(string(text), "S3") {
		t.Errorf("the audit holds a token:\n%s", text)
	}
}

func TestAdminHandler_FailingAuditFile_StopsNoChange(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "audit")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("USHER_ADMIN_AUDIT_FILE", filepath.Join(folder, "audit.jsonl"))
	call := apiOf(t, writeFile(t, secretSettings[:strings.Index(secretSettings, "cluster:")]))
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if status, answer := call(supportToken+"S3", "POST", "bans", `{"user":"Ann","duration":"1h"}`); status != http.StatusOK {
		t.Errorf("got %d %s", status, answer)
	}
}

func TestValidate_AccessSettings(t *testing.T) {
	folder := t.TempDir()
	for name, test := range map[string]struct{ more, says string }{
		"a retention that is too short": {"retention: 23h", ":9:1: retention: 23h0m0s is too short; want at least 24h0m0s"},
		"the shortest retention":        {"retention: 1d", ""},
		"an audit in no folder": {
			"admin: { audit: { file: " + folder + "/none/a } }", ":9:19: admin.audit.file: " + folder + "/none/a is not writable: no such file or directory",
		},
		"an audit": {"admin: { audit: { file: " + folder + "/a } }", ""},
		"two equal tokens": {
			"admin: { listen: '127.0.0.1:0', token: " + supportToken + ", tokens: [ { name: a, role: read, token: " + supportToken + " } ] }",
			"admin.tokens[0].token: is the token of admin.token; want another",
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := usher("validate", "--config", writeFile(t, settingsFor("http://127.0.0.1:9/")+test.more+"\n"))
			if (code == exitOK) != (test.says == "") || !strings.Contains(errs, test.says) {
				t.Errorf("exit code %d, want %q:\n%s", code, test.says, errs)
			}
		})
	}
}

// TestSettings_NamedAsSecrets_Hidden finds settings that are named as secrets are, and that a print shows.
func TestSettings_NamedAsSecrets_Hidden(t *testing.T) {
	t.Parallel()
	isSecret := regexp.MustCompile(`(?:^|_)(?:secrets?|passwords?|tokens?|keys?|headers)$`)
	found := 0
	seen := map[reflect.Type]bool{}
	var walk func(of reflect.Type)
	walk = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || seen[of] {
			return
		}
		seen[of] = true
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			held := f.Type
			for held.Kind() == reflect.Slice || held.Kind() == reflect.Map {
				held = held.Elem()
			}
			switch {
			case held == reflect.TypeFor[setting.Secret]():
				found++
			case held.Kind() == reflect.String && isSecret.MatchString(name) && !slices.Contains([]string{"credential_headers", "signed_headers"}, name):
				t.Errorf("%s.%s: %q is shown; make it a setting.Secret", of, f.Name, name)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[settings]())
	for name, k := range kinds() {
		walk(reflect.TypeOf(k.defaults(name, "")))
	}
	if found < 14 {
		t.Errorf("only %d settings with secrets were found", found)
	}
}

// TestValidateCommand_OperatorToken: an operator exports their own token for `usher sessions`, and validates the file that has it.
func TestValidateCommand_OperatorToken(t *testing.T) {
	path := writeFile(t, secretSettings)
	address, _ := fakeAPI(t, http.StatusOK, `{"bans":[]}`, "", false)
	for name, token := range map[string]string{"of the file": grafanaToken + "S3", "of the API": apiToken} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("USHER_TOKEN", token)
			if code, _, errs := usher("validate", "--config", path); code != exitOK {
				t.Errorf("validate: exit code %d, want %d: %s", code, exitOK, errs)
			}
			want := exitFailed
			if token == apiToken {
				want = exitOK
			}
			if code, _, errs := usher("sessions", "bans", "--admin", address); code != want {
				t.Errorf("sessions bans: exit code %d, want %d: %s", code, want, errs)
			}
		})
	}
}

// TestRun_Sessions_AdminToken: the variable of the setting admin.token serves as well where an operator has no token of their own.
func TestRun_Sessions_AdminToken(t *testing.T) {
	address, _ := fakeAPI(t, http.StatusOK, `{"bans":[]}`, "", false)
	t.Setenv("USHER_ADMIN_TOKEN", apiToken)
	if code, _, errs := usher("sessions", "bans", "--admin", address); code != exitOK {
		t.Errorf("exit code %d, want %d: %s", code, exitOK, errs)
	}
}
