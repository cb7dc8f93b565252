package backends

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// Session ids are hashes of these bytes. Nodes of two versions must agree on them, and so must a node and its predecessor.
func TestCredentials_AppendCanonical_Golden(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		credentials Credentials
		want        string
	}{
		"nothing":        {Credentials{}, "\x00\x00"},
		"one parameter":  {Credentials{Query: "token=abc"}, "\x01\x05token\x03abc\x00"},
		"two parameters": {Credentials{Query: "token=a%2Fb&x"}, "\x02\x05token\x03a/b\x01x\x00\x00"},
		"a header": {
			Credentials{Query: "t=1", Headers: []Header{{Name: "X-Device", Value: "7"}}}, "\x01\x01t\x011\x01\x08X-Device\x017",
		},
	} {
		if got := string(tt.credentials.AppendCanonical(nil)); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
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

func TestCredentials_Parts(t *testing.T) {
	t.Parallel()
	sold := Credentials{Query: "token=abc&Format=HLS", Headers: []Header{{Name: "X-Key", Value: "1"}}}
	cookie := func(value string) Credentials { return Credentials{Headers: []Header{{Name: "Cookie", Value: value}}} }
	authorization := func(value string) Credentials {
		return Credentials{Headers: []Header{{Name: "Authorization", Value: value}}}
	}
	spaced := func(value string) Credentials { return Credentials{Headers: []Header{{Name: "X-Key", Value: value}}} }
	for name, test := range map[string]struct {
		banned, shown Credentials
		want          bool
	}{
		"the same":                     {sold, sold, true},
		"another order":                {sold, Credentials{Query: "Format=HLS&token=abc", Headers: sold.Headers}, true},
		"more parameters":              {sold, Credentials{Query: "x=1&token=abc&Format=HLS&&y", Headers: sold.Headers}, true},
		"more headers":                 {sold, Credentials{Query: sold.Query, Headers: append([]Header{{Name: "A", Value: "b"}}, sold.Headers...)}, true},
		"repeated parameters":          {sold, Credentials{Query: "token=z&token=abc&token=abc&Format=HLS", Headers: sold.Headers}, true},
		"escapes":                      {sold, Credentials{Query: "%74oken=%61bc&Format=HLS", Headers: sold.Headers}, true},
		"other letters":                {sold, Credentials{Query: "TOKEN=ABC&format=hls", Headers: sold.Headers}, true},
		"space around":                 {sold, Credentials{Query: "+token=abc+&Format=%20HLS", Headers: sold.Headers}, true},
		"another value":                {sold, Credentials{Query: "token=abd&Format=HLS", Headers: sold.Headers}, false},
		"a value in another parameter": {sold, Credentials{Query: "tok=abc&Format=HLS", Headers: sold.Headers}, false},
		"fewer parameters":             {sold, Credentials{Query: "token=abc", Headers: sold.Headers}, false},
		"no headers":                   {sold, Credentials{Query: sold.Query}, false},
		"a header as a parameter":      {sold, Credentials{Query: sold.Query + "&X-Key=1"}, false},
		"a name that PHP reads so":     {Credentials{Query: "my_token=a"}, Credentials{Query: "my.token=a"}, true},
		"a list that PHP reads so":     {Credentials{Query: "token=a"}, Credentials{Query: "token[]=a"}, true},
		"a name beyond its end in PHP": {Credentials{Query: "token=a"}, Credentials{Query: "token%00x=a"}, true},
		"one of several cookies":       {cookie("sid=1"), cookie("theme=dark; sid=1"), true},
		"another cookie":               {cookie("sid=1"), cookie("sid=2"), false},
		"another scheme's letters":     {authorization("Basic YTpi"), authorization("basic  YTpi"), true},
		"another scheme":               {authorization("Basic YTpi"), authorization("Bearer YTpi"), false},
		"spaces within a header":       {spaced("a b"), spaced("a  b"), false},
		"a bracket without its end":    {Credentials{Query: "token_x=a"}, Credentials{Query: "token[x=a"}, true},
		"a list of no name":            {Credentials{Query: "=a"}, Credentials{Query: "[x]=a"}, true},
		"a value without a name":       {Credentials{Query: "abc"}, Credentials{Query: "abc="}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := containsAll(test.shown.Parts(), test.banned.Parts()); got != test.want {
				t.Errorf("%q contains %q: %t, want %t", test.shown.Parts(), test.banned.Parts(), got, test.want)
			}
		})
	}
	again := Credentials{Query: "Format=HLS&token=abc&token=ABC", Headers: sold.Headers}
	if diff := cmp.Diff(sold.Parts(), again.Parts()); diff != "" {
		t.Errorf("the same in another order, one of them twice (-want +got):\n%s", diff)
	}
	if got := (Credentials{}).Parts(); len(got) > 0 {
		t.Errorf("no credentials have the parts %q", got)
	}
}

func containsAll(parts, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(part string) bool { return !slices.Contains(parts, part) })
}

// FuzzCredentials_Parts requires that whatever a viewer adds to a query, its parts stay.
func FuzzCredentials_Parts(f *testing.F) {
	f.Add("token=abc", "x=1")
	f.Add("a[]=1&b%00=%zz&+c", "token=z&&")
	f.Fuzz(func(t *testing.T, query, more string) {
		parts := Credentials{Query: query}.Parts()
		if !slices.IsSorted(parts) || len(slices.Compact(slices.Clone(parts))) != len(parts) {
			t.Errorf("%q: the parts %q are not a set in order", query, parts)
		}
		for _, longer := range []string{query + "&" + more, more + "&" + query} {
			if got := (Credentials{Query: longer}).Parts(); !containsAll(got, parts) {
				t.Errorf("%q has %q, and %q has %q", query, parts, longer, got)
			}
		}
	})
}

func TestCredentials_IsEmpty(t *testing.T) {
	t.Parallel()
	headers := []Header{{Name: "X-Key", Value: "1"}}
	for _, test := range []struct {
		credentials Credentials
		want        bool
	}{
		{Credentials{}, true},
		{Credentials{Query: "token=1"}, false},
		{Credentials{Headers: headers}, false},
		{Credentials{Query: "token=1", Headers: headers}, false},
	} {
		if got := test.credentials.IsEmpty(); got != test.want {
			t.Errorf("%+v: got %t, want %t", test.credentials, got, test.want)
		}
	}
}
