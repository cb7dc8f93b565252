package stage

import (
	"strings"
	"testing"
	"time"
)

func TestConfigValidate_ReportsEveryProblem(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg  Config
		want string
	}{
		"segments that do not divide the loop": {Config{SegmentDuration: 5 * time.Second}, "stage.segment_duration: 5s"},
		"segments of half a second":            {Config{SegmentDuration: 500 * time.Millisecond}, "stage.segment_duration: 500ms"},
		"segments of negative length":          {Config{SegmentDuration: -time.Second}, "stage.segment_duration: -1s"},
		"a window of one":                      {Config{Window: 1}, "stage.window: 1"},
		"a style of no kind":                   {Config{URIs: 9}, "stage.uris: 9"},
		"stuffing without end":                 {Config{StuffTo: 1 << 30}, "stage.stuff_to: 1073741824"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.cfg.Validate()
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Fatalf("got %v, want %q …", err, test.want)
			}
			defer func() {
				if recover() == nil {
					t.Error("NewOrigin took it")
				}
			}()
			NewOrigin(test.cfg)
		})
	}
}
