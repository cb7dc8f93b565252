package hls

import (
	"net/url"
	"strings"
	"testing"

	"usher/gateway/hls/hlscorpus"
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

// FuzzLocate compares where a URI leads, by scheme, host, path and query, with RFC 3986 on any bytes, and with net/url where
// that takes the text as it is.
func FuzzLocate(f *testing.F) {
	for _, p := range hlscorpus.Playlists() {
		for _, u := range hlscorpus.URIs(p.Body) {
			f.Add(hlscorpus.Address, u.Written)
		}
	}
	for _, base := range []string{"https://user:pw@H.example:443?x", "http://[::1]:80/a/../b/./c;p?d/e", "HTTP://h:/..", "https://h//a//b/"} {
		for _, ref := range []string{"../a", "//h", "?q", "HTTPS://h:443", "a/./b/..", "//u@[::2]:443/..", ".", "http:a"} {
			f.Add(base, ref)
		}
	}
	f.Fuzz(func(t *testing.T, base, ref string) {
		ref, _, _ = strings.Cut(ref, "#")
		if strings.Contains(base+ref, "{$") || strings.ContainsAny(base, "\\#") || strings.HasPrefix(ref, "\\") || strings.HasPrefix(ref, "/\\") {
			return // variables and backslashes have tests of their own
		}
		o, err := newOrigin(base)
		from := hlscorpus.Resolve(base, "")
		if isHTTP := (from.Scheme == "http" || from.Scheme == "https") && from.Host != ""; isHTTP != (err == nil) {
			t.Fatalf("base %q, which leads to %+v: error %v", base, from, err)
		}
		if err != nil || ref == "" {
			return
		}
		form, at, _ := o.locate(ref)
		want := hlscorpus.Resolve(base, ref)
		if isHTTP := (want.Scheme == "http" || want.Scheme == "https") && want.Host != ""; isHTTP != (form != opaque) {
			if strings.Contains(ref, "\\") {
				return // a host before a backslash
			}
			t.Fatalf("base %q, reference %q, which leads to %+v: form %d", base, ref, want, form)
		}
		if form == opaque {
			return
		}
		if got := (hlscorpus.Location{Scheme: at.scheme, Host: at.host, Ref: at.ref}); got != want {
			t.Errorf("base %q, reference %q: got %+v, want %+v", base, ref, got, want)
		}
		compareWithNetURL(t, base, ref, at)
	})
}

// compareWithNetURL compares where a URI leads with what net/url says, which changes bytes that are not usual in a URI.
func compareWithNetURL(t *testing.T, base, ref string, at location) {
	t.Helper()
	const usual = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?@[]&=+,;$"
	path, _ := cutQuery(at.ref)
	if strings.Trim(base+ref, usual) != "" || strings.Contains(path, "//") {
		return // net/url joins slashes, which RFC 3986 does not
	}
	from, err := url.Parse(base)
	if err != nil {
		return
	}
	parsed, err := url.Parse(ref)
	if err != nil || parsed.Opaque != "" || parsed.Scheme != "" && parsed.Host == "" {
		return
	}
	got := from.ResolveReference(parsed)
	host := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(got.Host), map[string]string{"http": ":80", "https": ":443"}[got.Scheme]), ":")
	if got.Scheme != at.scheme || host != at.host || strings.TrimPrefix(got.Path, "/") != path[1:] {
		t.Errorf("base %q, reference %q: got %+v, net/url says %q", base, ref, at, got)
	}
}
