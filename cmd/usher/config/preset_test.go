package config

import (
	"testing"
	"time"
)

// presetSettings have a timeout that depends on the preset.
type presetSettings struct {
	Kind    string        `yaml:"kind"`
	Timeout time.Duration `yaml:"timeout"`
	Preset  string        `yaml:"preset"`
}

func (p *presetSettings) Kinds() []string { return []string{"http"} }

func (p *presetSettings) SetKind(_, preset string) {
	p.Timeout = 2 * time.Second
	if preset == "slow" {
		p.Timeout = 10 * time.Second
	}
}

func TestParse_PresetDefaults(t *testing.T) {
	t.Parallel()
	const second = time.Second
	tests := map[string]struct {
		text      string
		variables []string
		want      time.Duration
	}{
		"none":                           {"{ kind: http }", nil, 2 * second},
		"one without defaults":           {"{ kind: http, preset: fast }", nil, 2 * second},
		"one with defaults":              {"{ kind: http, preset: slow }", nil, 10 * second},
		"before the kind":                {"{ preset: slow, kind: http }", nil, 10 * second},
		"a value before it wins":         {"{ kind: http, timeout: 3s, preset: slow }", nil, 3 * second},
		"a value after it wins":          {"{ kind: http, preset: slow, timeout: 3s }", nil, 3 * second},
		"a variable names it":            {`{ kind: http, preset: "${NAME}" }`, []string{"NAME=slow"}, 10 * second},
		"an override replaces no value":  {"{ kind: http, timeout: 3s }", []string{"USHER_BACKENDS_A_PRESET=slow"}, 3 * second},
		"an override of the value wins":  {"{ kind: http, preset: slow }", []string{"USHER_BACKENDS_A_TIMEOUT=4s"}, 4 * second},
		"a section where a text is due":  {"{ kind: http, preset: { slow: 1 } }", nil, 0},
		"a variable that is not there":   {`{ kind: http, preset: "${MISSING}" }`, nil, 0},
		"an unknown kind has no presets": {"{ kind: smtp, preset: slow }", nil, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var into struct {
				Backends map[string]*presetSettings `yaml:"backends"`
			}
			_, err := Parse("usher.yaml", []byte("backends: { a: "+tt.text+" }\n"), &into, Environment{Variables: tt.variables})
			if (err != nil) != (tt.want == 0) {
				t.Fatalf("got error %v, want one: %t", err, tt.want == 0)
			}
			if err == nil && into.Backends["a"].Timeout != tt.want {
				t.Errorf("got timeout %s, want %s", into.Backends["a"].Timeout, tt.want)
			}
		})
	}
}
