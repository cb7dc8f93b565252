package origin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

func TestTheDefaultConfigIsValidAndSurvivesYAML(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("Validate: %v", err)
	}
	text, err := yaml.Marshal(DefaultConfig())
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	var got Config
	if err := yaml.UnmarshalWithOptions(text, &got, yaml.Strict()); err != nil {
		t.Fatalf("Unmarshal: %v\n%s", err, text)
	}
	if diff := cmp.Diff(DefaultConfig(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestSizesAndTimesAreReadFromYAML(t *testing.T) {
	t.Parallel()
	got := DefaultConfig()
	text := "cache:\n  max_bytes: 2GiB\n  max_object: 1048576\n  media_ttl: 90s\nfetch:\n  max_playlist: 64kB\n"
	if err := yaml.UnmarshalWithOptions([]byte(text), &got, yaml.Strict()); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	if got.Cache.MaxBytes != 2*GiB || got.Cache.MaxObject != MiB || got.Fetch.MaxPlaylist != 64000 || got.Cache.MediaTTL.Seconds() != 90 {
		t.Errorf("got %+v", got)
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	t.Parallel()
	err := Config{}.Validate()
	if err == nil {
		t.Fatal("the zero config is taken for valid")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, k := range []string{
		"cache.max_bytes: 0: must be at least 1MiB", "cache.max_object: 0: ", "cache.media_ttl: 0s: ", "cache.stale_after: ",
		"fetch.connect_timeout: ", "fetch.response_timeout: ", "fetch.blocking_timeout: ", "fetch.idle_timeout: ",
		"fetch.down_for: ", "fetch.max_playlist: ", "fetch.max_conns: ",
	} {
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, k)
		}
		if !found {
			t.Errorf("no message begins with %q:\n%v", k, err)
		}
	}
	c := DefaultConfig()
	c.Cache.MaxObject = c.Cache.MaxBytes + 1
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "must not exceed cache.max_bytes (512MiB)") {
		t.Errorf("an object larger than the cache: got %v", err)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text  string
		want  Bytes
		shown string
		bad   bool
	}{
		"a plain number":           {text: "1000001", want: 1000001, shown: "1000001B"},
		"powers of 1024":           {text: "512MiB", want: 512 << 20, shown: "512MiB"},
		"powers of 1000":           {text: "64kB", want: 64000, shown: "64kB"},
		"any case and a space":     {text: " 1 gib ", want: 1 << 30, shown: "1GiB"},
		"the largest unit":         {text: "1024KiB", want: 1 << 20, shown: "1MiB"},
		"zero":                     {text: "0", want: 0, shown: "0"},
		"nothing":                  {text: "", bad: true},
		"a unit alone":             {text: "MiB", bad: true},
		"an unknown unit":          {text: "5 pages", bad: true},
		"a negative size":          {text: "-5MiB", bad: true},
		"a fraction":               {text: "1.5GiB", bad: true},
		"more than a number holds": {text: "9999999999TiB", bad: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got Bytes
			err := got.UnmarshalText([]byte(test.text))
			if test.bad != (err != nil) || got != test.want {
				t.Fatalf("%q: got %d, %v; want %d, bad: %v", test.text, got, err, test.want, test.bad)
			}
			if shown := fmt.Sprint(got); !test.bad && shown != test.shown {
				t.Errorf("shown as %s, want %s", shown, test.shown)
			}
		})
	}
}

func FuzzBytes(f *testing.F) {
	for _, s := range []string{"512MiB", "64kB", "7", "1TB", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b, again Bytes
		if b.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b || b < 0 {
			t.Fatalf("%q: read %d, written %s, read again %d, %v", text, b, b, again, err)
		}
	})
}
