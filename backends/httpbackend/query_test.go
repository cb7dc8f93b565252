package httpbackend

import (
	"net/url"
	"strings"
	"testing"
)

func TestJoinQuery(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		address string
		ours    []Parameter
		viewer  string
		want    string
	}{
		"the viewer's alone":                        {"", nil, "token=123", "token=123"},
		"nothing at all":                            {"", nil, "", ""},
		"byte for byte":                             {"", nil, "b=%7e&a=%2F+%zz&&a=&=&c", "b=%7e&a=%2F+%zz&&a=&=&c"},
		"duplicates stay":                           {"", nil, "token=1&token=2", "token=1&token=2"},
		"an escaped '&' stays escaped":              {"key=S", nil, "token=a%26key=b", "key=S&token=a%26key=b"},
		"a raw '#' is escaped":                      {"", nil, "token=a#&x=1", "token=a%23&x=1"},
		"what ends a request line is escaped":       {"", nil, "a=1 HTTP/1.1\r\nX: y\x7f", "a=1%20HTTP/1.1%0D%0AX:%20y%7F"},
		"other bytes stay":                          {"", nil, "n=caf\xc3\xa9\xff", "n=caf\xc3\xa9\xff"},
		"the address's query comes first":           {"key=S&b=2", nil, "token=1", "key=S&b=2&token=1"},
		"the address's alone":                       {"key=S", nil, "", "key=S"},
		"ours are escaped":                          {"", []Parameter{{"name", "a 1&b"}, {"ip", "2001:db8::1"}}, "token=1", "name=a%201%26b&ip=2001%3Adb8%3A%3A1&token=1"},
		"ours that nothing stays of":                {"", []Parameter{{"é", "   "}}, "\r\n", "%C3%A9=%20%20%20&%0D%0A"},
		"the viewer's of the address's name is out": {"key=S", nil, "token=1&key=evil&x=2", "key=S&token=1&x=2"},
		"the viewer's of our name is out":           {"", []Parameter{{"ip", "192.0.2.7"}}, "ip=10.0.0.1&token=1&ip=10.0.0.2", "ip=192.0.2.7&token=1"},
		"nothing of the viewer's is left":           {"key=S", nil, "key=1&key=2", "key=S"},
		"an escaped name is the same name":          {"key=S", nil, "%6bey=evil&k%65%79=evil&t=1", "key=S&t=1"},
		"a name without a value":                    {"key=S", nil, "key&t=1", "key=S&t=1"},
		"a list in PHP":                             {"key=S", nil, "key[]=evil&key%5B0%5D=evil&t=1", "key=S&t=1"},
		"a space in front, which PHP drops":         {"key=S", nil, "+key=evil&%20key=evil&t=1", "key=S&t=1"},
		"a NUL, where PHP ends a name":              {"key=S", nil, "key%00x=evil&t=1", "key=S&t=1"},
		"a dot, which PHP makes an underscore":      {"my_key=S", nil, "my.key=evil&my+key=evil&t=1", "my_key=S&t=1"},
		"a semicolon, where some split":             {"key=S", nil, "t=1;key=evil;u=2", "key=S&t=1;u=2"},
		"another name that begins the same":         {"key=S", nil, "key2=1&keys=2&ke=3", "key=S&key2=1&keys=2&ke=3"},
		"empty parts stay where nothing is ours":    {"key=S", nil, "&&a=1&", "key=S&&&a=1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := joinQuery(tt.address, tt.ours, tt.viewer); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestUnescapeLeniently_LeavesInvalidEscapes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"%41%5a%5A": "AZZ",
		"%0f%9F%aF": "\x0f\x9f\xaf",
		"%Fa%f0":    "\xfa\xf0",
		"a+b":       "a b",
		"%":         "%",
		"%4":        "%4",
		"a%41":      "aA",
		"%4g%g4":    "%4g%g4",
		"%4`%`4":    "%4`%`4",
		"%4@%@4":    "%4@%@4",
		"%4G%G4":    "%4G%G4",
		"%4:%:4":    "%4:%:4",
		"%4/%/4":    "%4/%/4",
		"x41":       "x41",
	} {
		if got := unescapeLeniently(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestCanonicalName(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"key": "key", "%6bey": "key", "+key": "key", "key[]": "key", "key%00x": "key", "my.key": "my_key", "my+key": "my_key",
		"[key": "[key", "%00key": "\x00key", ".": "_", "..": "__", "+": "",
	} {
		if got := canonicalName(raw); got != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

// TestIsPlain_EveryByte compares with the list of what is plain.
func TestIsPlain_EveryByte(t *testing.T) {
	t.Parallel()
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	for r := range rune(256) {
		if got, want := isPlain(r), strings.ContainsRune(plain, r); got != want {
			t.Errorf("%q is plain: %t, want %t", r, got, want)
		}
	}
}

func FuzzJoinQuery(f *testing.F) {
	f.Add("token=123&key=evil")
	f.Add("%6bey=1;key[]=2&a#b c")
	f.Add("&&;=;&key\x00=1&+key")
	f.Fuzz(func(t *testing.T, viewer string) {
		if strings.ContainsFunc(joinQuery("", nil, viewer), func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }) {
			t.Errorf("%q can end the request line", joinQuery("", nil, viewer))
		}
		got := joinQuery("key=S", []Parameter{{"ip", "192.0.2.7"}}, viewer)
		if !strings.HasPrefix(got, "key=S&ip=192.0.2.7") {
			t.Fatalf("got %q, want ours in front", got)
		}
		for _, separators := range []string{"&", "&;"} {
			for _, part := range strings.FieldsFunc(got, func(r rune) bool { return strings.ContainsRune(separators, r) })[2:] {
				name, _, _ := strings.Cut(part, "=")
				if plain, err := url.QueryUnescape(name); err == nil && (plain == "key" || plain == "ip") {
					t.Errorf("%q lets the viewer's %q through", got, part)
				}
			}
		}
	})
}

func BenchmarkJoinQuery(b *testing.B) {
	ours := []Parameter{{"ip", "192.0.2.7"}}
	b.ReportAllocs()
	for b.Loop() {
		_ = joinQuery("key=S", ours, "token=0123456789abcdef0123456789abcdef&device=mag250")
	}
}
