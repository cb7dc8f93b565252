package setting

import (
	"fmt"
	"math"
	"testing"
)

func TestByteSize_UnmarshalText(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text  string
		want  ByteSize
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
		"all that a number holds":  {text: "9223372036854775807", want: math.MaxInt64, shown: "9223372036854775807B"},
		"nearly all, in a unit":    {text: "8388607TiB", want: 8388607 << 40, shown: "8388607TiB"},
		"a unit more":              {text: "8388608TiB", bad: true},
		"more than a number holds": {text: "9999999999TiB", bad: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got ByteSize
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

func FuzzByteSize(f *testing.F) {
	for _, s := range []string{"512MiB", "64kB", "7", "1TB", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b, again ByteSize
		if b.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(b.String())); err != nil || again != b || b < 0 {
			t.Fatalf("%q: read %d, written %s, read again %d, %v", text, b, b, again, err)
		}
	})
}
