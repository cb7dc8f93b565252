package config

import (
	"slices"
	"testing"

	"usher/backends/setting"
)

// TestChanges lists what differs by path, in order, and shows no secret.
func TestChanges(t *testing.T) {
	t.Parallel()
	type route struct {
		Path string `yaml:"path"`
	}
	type inner struct {
		Names []string `yaml:"names"`
	}
	type allSettings struct {
		inner    `yaml:",inline"`
		Inner    inner             `yaml:"inner"`
		Pointer  *inner            `yaml:"pointer"`
		Routes   []route           `yaml:"routes"`
		Named    map[string]*route `yaml:"named"`
		Unlisted int
		Secret   setting.Secret `yaml:"secret"`
	}
	before := allSettings{
		Inner: inner{[]string{"a"}}, Routes: []route{{"/a"}, {"/b"}}, Named: map[string]*route{"x": {"/x"}, "y.z": {"/y"}},
		Unlisted: 1, Secret: "hunter2",
	}
	after := allSettings{
		Inner: inner{[]string{"a", "b"}}, Pointer: &inner{}, Routes: []route{{"/a"}, {"/c"}}, Named: map[string]*route{"x": {"/z"}, "w": {"/w"}},
		Unlisted: 2, Secret: "hunter3",
	}
	after.inner.Names = []string{}
	want := []Change{
		{"inner.names", "[a]", "[a, b]"},
		{"named.w", "", "{path: /w}"},
		{"named.x.path", "/x", "/z"},
		{`named["y.z"]`, "{path: /y}", ""},
		{"pointer", "", "{names: []}"},
		{"routes[1].path", "/b", "/c"},
		{"secret", "\"[hidden]\"", "\"[hidden]\""},
	}
	if got := Changes(&before, &after); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	after.Routes = after.Routes[:1]
	got := Changes(before, after)
	if i := slices.IndexFunc(got, func(c Change) bool { return c.Path == "routes" }); i < 0 || got[i].After != "[{path: /a}]" {
		t.Errorf("of a shorter list got %q", got)
	}
	if got := Changes(before, before); len(got) != 0 {
		t.Errorf("of the same settings got %q", got)
	}
}
