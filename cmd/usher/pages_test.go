package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends/setting"
	"usher/cmd/usher/config"
)

// pagesFolder holds a commented settings file for each kind of backend, its page.
const pagesFolder = "../../deploy/backends"

// page reads the page of a kind.
func page(t *testing.T, kind string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pagesFolder, kind+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// parseBesideSecrets parses a settings file in a folder with the secret files that it names.
func parseBesideSecrets(t *testing.T, name string, text []byte) *settings {
	t.Helper()
	folder := t.TempDir()
	for _, m := range regexp.MustCompile(`file:([a-z.]+)`).FindAllSubmatch(text, -1) {
		if err := os.WriteFile(filepath.Join(folder, string(m[1])), []byte(sampleKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := defaultSettings()
	if _, err := config.Parse(name, text, s, config.Environment{Folder: folder}); err != nil {
		t.Fatalf("parse the file:\n%v", err)
	}
	return s
}

func TestKinds_EachHasPageWithDefaults(t *testing.T) {
	t.Parallel()
	revealed := cmp.Transformer("reveal", func(s setting.Secret) string { return s.Reveal() })
	for name := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := page(t, name)
			s := parseBesideSecrets(t, name, text)
			if got := s.Backends["portal"].Settings.kind(); got != name {
				t.Errorf("the page is about the kind %s", got)
			}
			spelled := parseBesideSecrets(t, name, uncomment(text))
			if diff := cmp.Diff(s, spelled, cmpopts.EquateEmpty(), revealed); diff != "" {
				t.Errorf("the page's comments differ from the defaults (-default +page):\n%s", diff)
			}
		})
	}
}

func TestKinds_PagesNameEveryKey(t *testing.T) {
	t.Parallel()
	sample, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	key := regexp.MustCompile(`(?m)(?:^|[ {,-])([a-z_0-9]+):`)
	for name := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := page(t, name)
			s := parseBesideSecrets(t, name, text)
			named := map[string]bool{}
			for _, m := range key.FindAllStringSubmatch(strings.ReplaceAll(string(text)+string(sample), "#", " "), -1) {
				named[m[1]] = true
			}
			var printed bytes.Buffer
			if err := config.Print(&printed, s.Backends["portal"]); err != nil {
				t.Fatal(err)
			}
			for _, m := range key.FindAllStringSubmatch(printed.String(), -1) {
				if !named[m[1]] {
					t.Errorf("the page does not name %q", m[1])
				}
			}
		})
	}
}

func TestKinds_NoPageOfUnknownKind(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(pagesFolder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, known := kinds()[strings.TrimSuffix(filepath.Base(file), ".yaml")]; !known {
			t.Errorf("%s is not the page of a kind", file)
		}
	}
}
