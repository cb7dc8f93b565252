package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"usher/backends"
	"usher/backends/backendtest"
	"usher/backends/httpbackend"
	"usher/backends/httprequest"
	"usher/backends/setting"
)

// writeRecipe writes the script of the manual with another secret of the key a. What it verifies is allowed.
func writeRecipe(t *testing.T, folder, secret string) {
	t.Helper()
	page, err := os.ReadFile("../../deploy/backends/httprequest.yaml")
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile(`(?s)#   <\?php\n.*?#   }\n#\n`).FindString(string(page))
	script := regexp.MustCompile(`(?m)^# {0,3}`).ReplaceAllString(recipe, "")
	const sample = "the secret of the key a"
	if !strings.Contains(script, sample) {
		t.Fatalf("the page has no recipe: %q", recipe)
	}
	script = strings.ReplaceAll(script, sample, secret) + "http_response_code(200);\n"
	if err := os.WriteFile(filepath.Join(folder, "signed.php"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSettings_SignatureRecipeInPHP runs the recipe of the manual in PHP.
func TestSettings_SignatureRecipeInPHP(t *testing.T) {
	t.Parallel()
	const secret, other = "0123456789abcdefghij", "another secret that is long enough"
	address, folder := startPHP(t)
	writeRecipe(t, folder, secret)
	for name, tt := range map[string]struct {
		keys []setting.Key
		path string
		want bool
	}{
		"signed":                        {[]setting.Key{{ID: "a", Secret: secret}}, "/signed.php", true},
		"with a query of the address":   {[]setting.Key{{ID: "a", Secret: secret}}, "/signed.php?site=1&x=%2F+a", true},
		"with a path behind the script": {[]setting.Key{{ID: "a", Secret: secret}}, "/signed.php/a%20b", true},
		"while keys are rotated":        {[]setting.Key{{ID: "b", Secret: other}, {ID: "a", Secret: secret}}, "/signed.php", true},
		"by another secret":             {[]setting.Key{{ID: "a", Secret: other}}, "/signed.php", false},
		"by an unknown key":             {[]setting.Key{{ID: "b", Secret: secret}}, "/signed.php", false},
		"not at all":                    {nil, "/signed.php", false},
	} {
		cfg := httprequest.DefaultConfig()
		cfg.HTTP.Address, cfg.HTTP.Signature.Keys = address+tt.path, tt.keys
		b, err := httprequest.New("portal", cfg, httpbackend.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		r := backendtest.NewRequest("good")
		r.Query, r.UserAgent = "token=a%2Fb&x=%ff+~", "VLC/3 "
		d, err := b.Check(t.Context(), r)
		b.Close()
		f := backends.AsFailure(err)
		if tt.want && (err != nil || d.Verdict != backends.Allowed) ||
			!tt.want && (f == nil || f.Status != http.StatusServiceUnavailable) {
			t.Errorf("%s: got %s and error %v, want it verified: %t", name, d.Verdict, err, tt.want)
		}
	}
}
