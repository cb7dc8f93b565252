package hls

import (
	"net/url"
	"strings"
	"testing"
)

func TestBaseResolve_ExamplesOfRFC3986(t *testing.T) {
	t.Parallel()
	b := newBase("/b/c/d;p")
	// RFC 3986 §5.4, those without scheme, host and fragment.
	for ref, want := range map[string]string{
		"g": "/b/c/g", "./g": "/b/c/g", "g/": "/b/c/g/", "/g": "/g", "?y": "/b/c/d;p?y", "g?y": "/b/c/g?y", ";x": "/b/c/;x", "g;x": "/b/c/g;x",
		".": "/b/c/", "./": "/b/c/", "..": "/b/", "../": "/b/", "../g": "/b/g", "../..": "/", "../../": "/", "../../g": "/g",
		"../../../g": "/g", "../../../../g": "/g", "/./g": "/g", "/../g": "/g", "g.": "/b/c/g.", ".g": "/b/c/.g", "g..": "/b/c/g..", "..g": "/b/c/..g",
		"./../g": "/b/g", "./g/.": "/b/c/g/", "g/./h": "/b/c/g/h", "g/../h": "/b/c/h", "g;x=1/./y": "/b/c/g;x=1/y", "g;x=1/../y": "/b/c/y",
		"g?y/./x": "/b/c/g?y/./x", "g?y/../x": "/b/c/g?y/../x",
	} {
		if got, _ := b.resolve(ref); got != want {
			t.Errorf("resolve(%q) = %q, want %q", ref, got, want)
		}
		if equal, _ := b.resolvesTo(ref, want); !equal {
			t.Errorf("resolvesTo(%q, %q) = false", ref, want)
		}
		if equal, _ := b.resolvesTo(ref, want+"x"); equal {
			t.Errorf("resolvesTo(%q, %q) = true", ref, want+"x")
		}
	}
}

func TestCutScheme(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"http://h/": "http", "HtTpS:x": "https", "a1+-.:x": "a1+-.", "seg.ts": "", "1a:x": "", "+a:x": "", ":x": "", "a b:x": "",
		"a/b:c": "", "a?b:c": "", "a#b:c": "", "сег:x": "", "": "",
	} {
		if got, _ := cutScheme(uri); got != want {
			t.Errorf("cutScheme(%q) = %q, want %q", uri, got, want)
		}
	}
}

func TestBaseResolve_ReportsClimbAboveRoot(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]bool{
		"g": false, "../g": false, "../../g": false, "../../../g": true, "x/../../../g": false, "../../../b/c/g": true, "/../g": true, "/a/../g": false,
	} {
		if _, got := newBase("/b/c/d").resolve(ref); got != want {
			t.Errorf("%q climbs: %t, want %t", ref, got, want)
		}
	}
}

func TestBaseRelative_ResolvesToTarget(t *testing.T) {
	t.Parallel()
	paths := []string{
		"/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/bc/d", "/ab/c", "//", "//a", "/a//", "/a//b", "/a//b/", "/a/b:c", "/a:b/c", "/a/b/c:d?e=/f", "/a/?b", "/?a",
		"/a/b?c/d", "/a/.b", "/a/..b/c", "/a/%2e%2e/b",
	}
	for _, from := range paths {
		b := newBase(from)
		viewer, err := url.Parse("http://edge/~T" + from)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range paths {
			ref := b.relative(to)
			if got, climbed := b.resolve(ref); got != to || climbed {
				t.Errorf("from %q to %q: %q leads to %q, climbs: %t", from, to, ref, got, climbed)
			}
			parsed, err := url.Parse(ref)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(from+to, "//") {
				continue // net/url joins slashes, which RFC 3986 does not
			}
			if got := viewer.ResolveReference(parsed).RequestURI(); got != "/~T"+to {
				t.Errorf("from %q to %q: below the ticket, %q leads to %q", from, to, ref, got)
			}
		}
	}
}

// FuzzResolve compares the resolution with that of net/url, on the characters that matter to it.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"../a", "./", "..", "a/../../..", "/..", "?a/..", "a/./b?c", ".a/..b/...", "%2e%2e/a"} {
		f.Add("/b/c/d", seed)
	}
	f.Fuzz(func(t *testing.T, path, ref string) {
		allowed := func(r rune) rune {
			if strings.ContainsRune("ab./?", r) {
				return r
			}
			return -1
		}
		path, ref = "/"+strings.Map(allowed, path), strings.Map(allowed, ref)
		if strings.Contains(path+"|"+ref, "//") || ref == "" {
			return // net/url joins slashes, which RFC 3986 does not
		}
		base, err := url.Parse("http://h" + path)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := url.Parse(ref)
		if err != nil {
			t.Fatal(err)
		}
		resolved := base.ResolveReference(parsed)
		want := resolved.EscapedPath()
		if resolved.RawQuery != "" || strings.Contains(ref, "?") {
			want += "?" + resolved.RawQuery
		}
		if strings.Contains(want, "//") {
			return
		}
		b := newBase(path)
		got, _ := b.resolve(ref)
		if got != want {
			t.Errorf("base %q, reference %q: got %q, want %q", path, ref, got, want)
		}
		if back, climbed := b.resolve(b.relative(got)); back != got || climbed {
			t.Errorf("base %q: the relative reference to %q leads to %q", path, got, back)
		}
	})
}
