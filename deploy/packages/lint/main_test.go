package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// changed writes a copy of a file beside nothing else, with one text replaced.
func changed(t *testing.T, path, old, replacement string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	copied := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(copied, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

func TestDockerfile_FindsMistakes(t *testing.T) {
	const path = "../../Dockerfile"
	if err := dockerfile(path); err != nil {
		t.Fatal(err)
	}
	for old, mistake := range map[string]string{
		"USER 65532:65532":                 "USER root",
		"EXPOSE":                           "EXPOES",
		"STOPSIGNAL":                       "RUN true\nSTOPSIGNAL",
		`CMD ["/usr/bin/usher", "health"]`: "CMD usher health",
		`ENTRYPOINT ["/usr/bin/usher"]`:    "ENTRYPOINT usher",
		"AS build":                         "as build",
	} {
		if err := dockerfile(changed(t, path, old, mistake)); err == nil {
			t.Errorf("%q instead of %q is accepted", mistake, old)
		}
	}
}

func TestCompose_FindsMistakes(t *testing.T) {
	const path = "../../compose/compose.yaml"
	if err := compose(path); err != nil {
		t.Fatal(err)
	}
	for old, mistake := range map[string]string{
		"read_only:":                   "readonly:",
		"networks: [ inside ]":         "networks: [ outside ]",
		"condition: service_healthy":   "condition: healthy",
		"configs: [ { source: setting": "configs: [ { source: seting",
	} {
		if err := compose(changed(t, path, old, mistake)); err == nil {
			t.Errorf("%q instead of %q is accepted", mistake, old)
		}
	}
}
