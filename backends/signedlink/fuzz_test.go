package signedlink

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"usher/backends"
)

// A parsed signature has one spelling, but for padding. Its time cannot overflow.
func FuzzParseSignature(f *testing.F) {
	f.Add(vector, "1669890000")
	f.Add(vector+"==", "9999999999")
	f.Add("-AVOya7ms1YAcvp7glK_Xh", "99999999999999999999")
	f.Add("-AVOya7ms1YAcvp7glK\nXg", "-669890000")
	f.Fuzz(func(t *testing.T, hash, expires string) {
		got, ok := parseSignature(hash, expires)
		if !ok {
			return
		}
		if again := base64.RawURLEncoding.EncodeToString(got.hash[:]); again != strings.TrimSuffix(hash, "==") {
			t.Errorf("%q was read as %q", hash, again)
		}
		if got.expires != expires || got.until < 1_000_000_000 || got.until > 9_999_999_999 {
			t.Errorf("%q was read as a time of %d", expires, got.until)
		}
	})
}

// A parsed expression equals its text, part by part.
func FuzzParseExpression(f *testing.F) {
	for _, seed := range []string{
		"$secret$uri$expires", "$secure_link_expires$uri$remote_addr $secret", "${secret}x${expires}", "$", "${uri", "$URI",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpression(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, p := range e {
			again.WriteString([...]string{p.text, "$secret", "$uri", "$expires", "$remote_addr"}[p.variable])
		}
		plain := strings.NewReplacer(
			"${secret}", "$secret", "${uri}", "$uri", "${expires}", "$expires", "${remote_addr}", "$remote_addr",
			"${secure_link_expires}", "$expires", "$secure_link_expires", "$expires",
		).Replace(text)
		if again.String() != plain {
			t.Errorf("%q was read as %q", text, again.String())
		}
	})
}

// A $uri, escaped and normalized again, stays the same, unless it then has a dot segment.
func FuzzNginxURI(f *testing.F) {
	for _, p := range paths() {
		f.Add(p[0])
	}
	f.Add("/a/%2e%2e/b")
	f.Add("/a/..")
	f.Add("/a/%")
	f.Add("/a%00")
	f.Add("/a\x00")
	f.Fuzz(func(t *testing.T, path string) {
		uri, ok := nginxURI(path)
		if !ok {
			return
		}
		if !strings.HasPrefix(uri, "/") || strings.Contains(uri, "//") {
			t.Errorf("%q became %q", path, uri)
		}
		for segment := range strings.SplitSeq(uri, "/") {
			if segment == "." || segment == ".." {
				t.Errorf("%q became %q", path, uri)
			}
		}
		if again, ok := nginxURI((&url.URL{Path: uri}).EscapedPath()); !ok || again != uri {
			t.Errorf("%q became %q and then %q, %v", path, uri, again, ok)
		}
	})
}

// Only the link made with the secret is allowed, and only to its path.
func FuzzCheck_OnlySignedLinksAllowed(f *testing.F) {
	b := newBackend(f, until, nil)
	f.Add(query, "/live/ch1")
	f.Add(query+"&a", "/live/ch1/playlist.m3u8")
	f.Add("e=11669890000&st="+vector, "/live/ch")
	f.Add("ST="+vector+"==&E=1669890000&st=&;", "/live//c%681")
	f.Fuzz(func(t *testing.T, viewers, path string) {
		d := mustCheck(t, b, &backends.Request{Path: path, Query: viewers})
		if d.Verdict != backends.Allowed {
			return
		}
		hash, expires := queryValue(viewers, "st"), queryValue(viewers, "e")
		uri, ok := nginxURI(path)
		if !ok || strings.TrimSuffix(uri, "/playlist.m3u8") != "/live/ch1" || expires != "1669890000" ||
			strings.TrimSuffix(hash, "==") != vector {
			t.Errorf("%q opened %q", viewers, path)
		}
	})
}
