package hlscorpus_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls/hlscorpus"
)

func TestPlaylists_NamesAreUnique_AndBodiesAre(t *testing.T) {
	t.Parallel()
	names, bodies := map[string]bool{}, map[string]string{}
	for _, p := range hlscorpus.Playlists() {
		if names[p.Name] {
			t.Errorf("%s: the name is there twice", p.Name)
		}
		names[p.Name] = true
		if other, isThere := bodies[p.Body]; isThere {
			t.Errorf("%s: the body is that of %s", p.Name, other)
		}
		bodies[p.Body] = p.Name
		if p.IsDocument != json.Valid([]byte(strings.TrimPrefix(p.Body, "\ufeff"))) {
			t.Errorf("%s: a document: %t", p.Name, p.IsDocument)
		}
	}
	if len(names) < 150 {
		t.Errorf("%d playlists", len(names))
	}
	t.Logf("%d playlists", len(names))
}

// TestResolve_LikeNetURL compares the resolution with that of net/url, where that changes nothing else.
func TestResolve_LikeNetURL(t *testing.T) {
	t.Parallel()
	base, compared := must(t, hlscorpus.Address), 0
	for _, p := range hlscorpus.Playlists() {
		for _, u := range hlscorpus.URIs(p.Body) {
			reference, err := url.Parse(u.Written)
			if err != nil || u.Written == "" || reference.Opaque != "" || reference.Hostname() == "" && reference.Scheme != "" {
				continue
			}
			resolved := base.ResolveReference(reference)
			want, host, port := resolved.RawPath, strings.ToLower(resolved.Hostname()), resolved.Port()
			if want == "" {
				want = resolved.Path
			}
			if strings.Contains(want+u.Written, "%") || strings.Contains(u.Written, "//") && !strings.Contains(u.Written, "://") {
				continue // net/url decodes
			}
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			if port != "" && port != map[string]string{"http": "80", "https": "443"}[resolved.Scheme] {
				host += ":" + port
			}
			if want == "" {
				want = "/"
			}
			if resolved.RawQuery != "" || resolved.ForceQuery {
				want += "?" + resolved.RawQuery
			}
			compared++
			if diff := cmp.Diff(hlscorpus.Location{Scheme: resolved.Scheme, Host: host, Ref: want}, hlscorpus.Resolve(hlscorpus.Address, u.Written)); diff != "" {
				t.Errorf("%q (-net/url +got):\n%s", u.Written, diff)
			}
		}
	}
	if compared < 500 {
		t.Errorf("%d URIs compared", compared)
	}
}

func must(t *testing.T, text string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
