package backendtest

import (
	"testing"
	"time"
)

func TestParseMode_InverseOfString(t *testing.T) {
	t.Parallel()
	tests := map[string]Mode{
		"healthy":             Healthy(),
		"slow:200ms":          Slow(200 * time.Millisecond),
		"hang":                Hang(),
		"refuse":              Refuse(),
		"reset":               Reset(),
		"status:503":          Status(503),
		"giant-headers":       GiantHeaders(),
		"garbage":             Garbage(),
		"flap:2s":             Flap(2 * time.Second),
		"redirect:http://a/b": Redirect("http://a/b"),
		"redirect-self":       RedirectSelf(),
		"slow-body":           SlowBody(),
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			var got Mode
			if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
				t.Errorf("got %+v and error %v, want %+v", got, err, want)
			}
			if back, _ := want.MarshalText(); string(back) != text {
				t.Errorf("String returns %q, want %q", back, text)
			}
		})
	}
}

func TestParseMode_Invalid(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":           `mode "": unknown kind ""`,
		"sulk":       `mode "sulk": unknown kind "sulk"`,
		"hang:1s":    `mode "hang:1s": "hang" takes no argument`,
		"slow":       `mode "slow": time: invalid duration ""`,
		"flap:-1s":   `mode "flap:-1s": -1s is not above 0`,
		"status:99":  `mode "status:99": 99 is not from 200 to 599`,
		"status:x":   `mode "status:x": strconv.Atoi: parsing "x": invalid syntax`,
		"redirect":   `mode "redirect": an address is missing`,
		"Healthy":    `mode "Healthy": unknown kind "Healthy"`,
		"status:600": `mode "status:600": 600 is not from 200 to 599`,
	}
	for text, want := range tests {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if _, err := ParseMode(text); err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

func FuzzParseMode(f *testing.F) {
	f.Add("slow:200ms")
	f.Add("redirect:http://a/b:c")
	f.Add("flap:1h2m")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMode(text)
		if err != nil {
			return
		}
		if again, err := ParseMode(m.String()); err != nil || again != m {
			t.Errorf("%q parsed as %+v, printed %q, parsed as %+v with error %v", text, m, m.String(), again, err)
		}
	})
}
