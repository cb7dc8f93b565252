package backends

import (
	"strings"
	"testing"
)

func TestCredentials_AppendCanonical_Injective(t *testing.T) {
	t.Parallel()
	seen := map[string][]string{}
	for _, fields := range [][]string{
		{},
		{""},
		{"", ""},
		{"a"},
		{"a", ""},
		{"", "a"},
		{"ab"},
		{"a", "b"},
		{"\x01a"},
		{"a\x01", "b"},
		{"a", "\x01b"},
		{strings.Repeat("a", 127)},
		{strings.Repeat("a", 128)},
		{strings.Repeat("a", 127), "a"},
		{strings.Repeat("a", 300)},
	} {
		var in []byte
		for _, f := range fields {
			in = AppendField(in, f)
		}
		if other, taken := seen[string(in)]; taken {
			t.Errorf("%q and %q read the same", fields, other)
		}
		seen[string(in)] = fields
	}
	pairs := map[string]string{}
	for _, q := range []string{"", "a", "a=b", "a&b", "a=&b=", "a=b&c=d", "a=b%26c=d", "a=b=c", "a%3Db=c", "ab"} {
		in := string(Credentials{Query: q}.AppendCanonical(nil))
		if other, taken := pairs[in]; taken && !(q == "a=&b=" && other == "a&b") {
			t.Errorf("%q and %q read the same", q, other)
		}
		pairs[in] = q
	}
}

func TestCredentials_AppendCanonical_Spelling(t *testing.T) {
	t.Parallel()
	device := []Header{{Name: "X-Device", Value: "1"}}
	plain := Credentials{Query: "token=a%2Fb+c&x=%41", Headers: device}
	respelled := Credentials{Query: "token=a/b%20c&x=A", Headers: device}
	if got, want := respelled.AppendCanonical(nil), plain.AppendCanonical(nil); string(got) != string(want) {
		t.Errorf("the same credentials in another spelling: got %q, want %q", got, want)
	}
	for name, other := range map[string]Credentials{
		"another value":           {Query: "token=a/b c&x=B", Headers: device},
		"another order":           {Query: "x=A&token=a/b c", Headers: device},
		"no header":               {Query: plain.Query},
		"another header's value":  {Query: plain.Query, Headers: []Header{{Name: "X-Device", Value: "2"}}},
		"a header as a parameter": {Query: plain.Query + "&X-Device=1"},
	} {
		if string(other.AppendCanonical(nil)) == string(plain.AppendCanonical(nil)) {
			t.Errorf("%s: gives the same bytes", name)
		}
	}
}
