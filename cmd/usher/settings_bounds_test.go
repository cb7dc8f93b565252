package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"usher/cmd/usher/config"
)

// eachScalar calls f with the path and the text of each setting below a node that a variable can set.
func eachScalar(n *yaml.Node, path string, f func(path, text string)) {
	switch n.Kind {
	case yaml.MappingNode:
		for pair := range slices.Chunk(n.Content, 2) {
			eachScalar(pair[1], strings.TrimPrefix(path+"."+pair[0].Value, "."), f)
		}
	case yaml.ScalarNode:
		f(path, n.Value)
	}
}

// numericSettings calls f with the path of each number, duration and size of a kind of backend, or of all settings, and with a value that
// is beyond reason.
func numericSettings(t *testing.T, text []byte, f func(path, value, refusal string)) {
	t.Helper()
	s := defaultSettings()
	_, _ = config.Parse("usher.yaml", text, s, config.Environment{}) // the backend lacks an address, or a key
	var printed bytes.Buffer
	var document yaml.Node
	if err := errors.Join(config.Print(&printed, s), yaml.Load(printed.Bytes(), &document)); err != nil {
		t.Fatal(err)
	}
	count := regexp.MustCompile(`^\d+$`)
	duration := regexp.MustCompile(`^(\d+(h|m|s|ms))+$`)
	size := regexp.MustCompile(`^\d+[kKMGT]i?B$`)
	eachScalar(document.Content[0], "", func(path, value string) {
		switch {
		case path == "tracing.sample": // a share
		case count.MatchString(value):
			f(path, "100000001", "100000001 is too large; want at most 100000000")
		case duration.MatchString(value):
			f(path, "87601h", "87601h0m0s is too long; want at most 87600h0m0s, ten years")
		case size.MatchString(value):
			f(path, "1025TiB", "1025TiB is too large; want at most 1024TiB")
		}
	})
}

// TestSettings_EveryNumber_BeyondReason_Refused: a number, duration or size that overflows somewhere is refused, whichever section and
// kind of backend it is in.
func TestSettings_EveryNumber_BeyondReason_Refused(t *testing.T) {
	t.Parallel()
	for _, kind := range slices.Sorted(maps.Keys(kinds())) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			text := []byte(checkSettings("  portal: { kind: " + kind + " }\n"))
			found := 0
			numericSettings(t, text, func(path, value, refusal string) {
				if found++; kind != "httprequest" && !strings.HasPrefix(path, "backends.") {
					return
				}
				name := "USHER_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
				_, err := config.Parse("usher.yaml", text, defaultSettings(), config.Environment{Variables: []string{name + "=" + value}})
				if !strings.Contains(fmt.Sprint(err), name+": "+refusal) {
					t.Errorf("%s=%s: got %v, want %q", path, value, err, refusal)
				}
			})
			if found < 50 {
				t.Errorf("found %d numbers, durations and sizes, want all", found)
			}
		})
	}
}
