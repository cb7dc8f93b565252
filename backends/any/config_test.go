package anyof

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/backends"
	"usher/cmd/usher/config"
)

func TestConfig_UnmarshalYAML(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatalf("read the example: %v", err)
	}
	got := DefaultConfig()
	if err := config.Decode(text, &got); err != nil {
		t.Fatalf("read the config: %v", err)
	}
	if diff := cmp.Diff(Config{Backends: []string{"ministra", "smarty"}}, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the example is invalid: %v", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		names   []string
		want    string
		members []string
	}{
		"one is enough":      {[]string{"a"}, "", []string{"a"}},
		"none":               {nil, "backends: none; want at least one name, such as [portal, legacy]", []string{}},
		"every mistake":      {[]string{"b", "", "a", "b"}, "backends[1]: must not be empty\nbackends[3]: \"b\" is listed twice", []string{"b", "", "a"}},
		"in the order given": {[]string{"c", "a", "b"}, "", []string{"c", "a", "b"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Backends: tt.names}
			if got := errorText(cfg.Validate()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if diff := cmp.Diff(tt.members, Members(cfg)); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNew_InvalidConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg     Config
		members []backends.Member
		want    string
	}{
		"no members":            {Config{}, nil, `make backend "both": backends: none; want at least one name, such as [portal, legacy]`},
		"a member is missing":   {Config{Backends: []string{"a", "b"}}, []backends.Member{{Name: "a"}}, `make backend "both": backends: got members ["a"], want ["a" "b"]`},
		"members out of order":  {Config{Backends: []string{"a", "b"}}, []backends.Member{{Name: "b"}, {Name: "a"}}, `make backend "both": backends: got members ["b" "a"], want ["a" "b"]`},
		"a member without name": {Config{Backends: []string{""}}, []backends.Member{{}}, `make backend "both": backends[0]: must not be empty`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := New("both", tt.cfg, tt.members); errorText(err) != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
