package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends/httprequest"
	"usher/backends/setting"
	"usher/cmd/usher/config"
	"usher/gateway"
)

const sampleFile = "../../deploy/usher.yaml"

// sampleKey is the content of the sample's secret files.
const sampleKey = "0123456789abcdef0123456789abcdef"

// parseSample parses the sample in a folder with its secret files.
func parseSample(t *testing.T, text []byte) *settings {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"identity.key", "ticket.key"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(sampleKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := defaultSettings()
	if _, err := config.Parse("usher.yaml", text, s, config.Environment{Folder: folder}); err != nil {
		t.Fatalf("parse the sample:\n%v", err)
	}
	return s
}

// sampleSettings returns the defaults with the required settings of the sample.
func sampleSettings() *settings {
	want := defaultSettings()
	want.Gateway.Identity.Secret = sampleKey
	want.Gateway.Tickets.Keys = []setting.Key{{ID: "a", Secret: sampleKey}}
	want.Gateway.Origins = map[string]*gateway.OriginConfig{"astra": {URL: "http://10.0.0.5:8000"}}
	portal := new(backendSettings)
	portal.SetKind("httprequest", "")
	portal.Settings.(*settingsOf[remoteSettings, httprequest.Config]).Own.HTTP.Address = "https://auth.example.com/check" //nolint:forcetypeassert // SetKind made it
	want.Backends = map[string]*backendSettings{"portal": portal}
	want.Gateway.Routes = []gateway.RouteConfig{{Path: "/play/{channel}/*", Origin: "astra", Backend: "portal"}}
	return want
}

func TestSettings_SampleShowsDefaults(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"as it is":                   text,
		"with every default spelled": uncomment(text),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			revealed := cmp.Transformer("reveal", func(s setting.Secret) string { return s.Reveal() })
			if diff := cmp.Diff(sampleSettings(), parseSample(t, text), cmpopts.EquateEmpty(), revealed); diff != "" {
				t.Errorf("the sample differs from the defaults (-default +sample):\n%s", diff)
			}
		})
	}
}

func TestSettings_SampleNamesEverySetting(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := config.Print(&printed, sampleSettings()); err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)^[ -]*([a-z_]+):`)
	named := map[string]bool{}
	for _, m := range key.FindAllStringSubmatch(strings.ReplaceAll(string(text), "#", " "), -1) {
		named[m[1]] = true
	}
	for _, m := range key.FindAllStringSubmatch(printed.String(), -1) {
		if !named[m[1]] && m[1] != "id" {
			t.Errorf("the sample does not name %q", m[1])
		}
	}
}

// TestSettings_SampleNamesVariables checks that the variables of its comments set what the sample has.
func TestSettings_SampleNamesVariables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	variables := regexp.MustCompile(`USHER_[A-Z0-9_]+\b`).FindAllString(string(text), -1)
	if len(variables) == 0 {
		t.Error("the sample names no variable")
	}
	for _, name := range variables {
		_, err := config.Parse("usher.yaml", text, defaultSettings(), config.Environment{Variables: []string{name + "=x"}})
		if err != nil && strings.Contains(err.Error(), "names no setting") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestServe_DrainFitsGrace checks that nothing kills a node with the default settings before it has drained.
func TestServe_DrainFitsGrace(t *testing.T) {
	t.Parallel()
	drain := defaultSettings().Gateway.Drain
	most := drain.ReadinessDelay + drain.Timeout + drainMargin
	for file, key := range map[string]string{
		"usher.service": "TimeoutStopSec=", "compose/compose.yaml": "stop_grace_period: ", "helm/usher/values.yaml": "terminationGracePeriodSeconds: ",
	} {
		text, err := os.ReadFile(filepath.Join("../../deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^ *` + key + `(\d+)`).FindSubmatch(text)
		if found == nil {
			t.Errorf("%s has no %s", file, key)
			continue
		}
		if seconds, err := strconv.Atoi(string(found[1])); err != nil || time.Duration(seconds)*time.Second <= most {
			t.Errorf("%s: %s%s; want more than the %v that a drain may take", file, key, found[1], most)
		}
	}
}

// uncomment activates the settings that a sample shows commented out: a '#' directly before a key ("#listen: …") or
// an item ("#- …") is dropped, whatever indentation stands before it. Prose, which has a space after its '#', stays a
// comment. A test can then compare a sample with the defaults as it is, and with every setting.
func uncomment(sample []byte) []byte {
	setting := regexp.MustCompile(`(?m)^([ ]*)#([A-Za-z_"][A-Za-z0-9_."-]*:(?:[ ].*)?|- .*)$`)
	return setting.ReplaceAll(sample, []byte("$1$2"))
}

func TestSettings_UncommentedSample(t *testing.T) {
	t.Parallel()
	sample := `# The listener. note: a colon in prose
#listen: ":8080"   # of viewers
cache:
  #max_bytes: 1073741824
  #keep:
    #for: 0
  # ratio: prose, for it has a space
  ratio: 0.5 #not: touched
#routes:
  #- path: /a
  #  carry: none
#------
#"quoted": x
#also:prose
`
	want := `# The listener. note: a colon in prose
listen: ":8080"   # of viewers
cache:
  max_bytes: 1073741824
  keep:
    for: 0
  # ratio: prose, for it has a space
  ratio: 0.5 #not: touched
routes:
  - path: /a
  #  carry: none
#------
"quoted": x
#also:prose
`
	if diff := cmp.Diff(want, string(uncomment([]byte(sample)))); diff != "" {
		t.Errorf("uncomment differs (-want +got):\n%s", diff)
	}
}
