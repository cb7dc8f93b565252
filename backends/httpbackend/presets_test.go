package httpbackend

import (
	"testing"

	"usher/backends"
)

func TestPreset_Policy(t *testing.T) {
	t.Parallel()
	for preset, want := range map[Preset]backends.Policy{
		PresetAstra: backends.PolicyAllow, PresetAlta: backends.PolicyAllow,
		PresetFlussonic: backends.PolicyKeep, PresetAuthProxy: backends.PolicyDeny,
	} {
		if got := preset.Policy(); got != want {
			t.Errorf("%s: got %q, want %q", preset, got, want)
		}
	}
}
