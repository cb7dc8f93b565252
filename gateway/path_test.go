package gateway

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
	"usher/gateway/reference"
	"usher/gateway/ticket"
)

// newTestTarget returns the target of a path of a route that needs no origin, bound to the folder in which the path is.
func newTestTarget(t *testing.T, c RouteConfig, path string) target {
	t.Helper()
	r, err := newRoute(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	at, found := foundTarget([]*route{r}, "", path)
	if !found {
		t.Fatalf("no target of %s", path)
	}
	return at
}

func TestCutReference(t *testing.T) {
	t.Parallel()
	ref := strings.Repeat("a", reference.MinChars)
	type cut struct{ Text, Folder, Name string }
	cases := map[string]struct {
		path string
		want cut
	}{
		"a reference":              {"/play/~" + ref + "/x.ts", cut{ref, "/play/", "x.ts"}},
		"with the tilde escaped":   {"/play/%7E" + ref + "/x.ts", cut{ref, "/play/", "x.ts"}},
		"in small letters":         {"/play/%7e" + ref + "/x.ts", cut{ref, "/play/", "x.ts"}},
		"in the first segment":     {"/~" + ref + "/x.ts", cut{ref, "/", "x.ts"}},
		"without a name":           {"/play/~" + ref + "/", cut{ref, "/play/", ""}},
		"without a slash in front": {"~" + ref + "/x.ts", cut{"", "~" + ref + "/x.ts", ""}},
		"without a tilde":          {"/play/" + ref + "/x.ts", cut{"", "/play/" + ref + "/x.ts", ""}},
		"one that is too short":    {"/play/~" + ref[1:] + "/x.ts", cut{"", "/play/~" + ref[1:] + "/x.ts", ""}},
		"one with a dot":           {"/play/~" + ref + ".b/x.ts", cut{"", "/play/~" + ref + ".b/x.ts", ""}},
		"in the last segment":      {"/play/~" + ref, cut{"", "/play/~" + ref, ""}},
		"two segments before":      {"/play/~" + ref + "/a/x.ts", cut{"", "/play/~" + ref + "/a/x.ts", ""}},
		"one segment":              {"/x.ts", cut{"", "/x.ts", ""}},
		"no slash":                 {"x.ts", cut{"", "x.ts", ""}},
		"nothing":                  {"", cut{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got cut
			got.Text, got.Folder, got.Name = cutReference(tc.path)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("cutReference(%q) (-want +got):\n%s", tc.path, diff)
			}
		})
	}
}

func TestVisibleName(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/a/seg-17.ts":        "seg-17.ts",
		"seg-17.ts":           "seg-17.ts",
		"/a/":                 "_",
		"":                    "_",
		"/azAZ09":             "azAZ09",
		"/x-_.,=()@!x":        "x-_.,=()@!x",
		"/x`{[:;%&+~*'$\x1fx": "x_____________x",
		"/é":                  "__",
		"/.a":                 "_a",
		"/a.":                 "a_",
		"/..a.b..":            "_.a.b._",
		"/.":                  "_",
		"/" + strings.Repeat("a", maxVisibleName):      strings.Repeat("a", maxVisibleName),
		"/b" + strings.Repeat("a", maxVisibleName):     strings.Repeat("a", maxVisibleName),
		"/c/b" + strings.Repeat("a", maxVisibleName-1): "b" + strings.Repeat("a", maxVisibleName-1),
	} {
		if got := visibleName(path); got != want {
			t.Errorf("visibleName(%q): got %q, want %q", path, got, want)
		}
	}
}

func TestTarget_Place(t *testing.T) {
	t.Parallel()
	media := func(paths ...string) (all []PathMappingConfig) {
		for _, path := range paths {
			all = append(all, PathMappingConfig{Path: path})
		}
		return all
	}
	const star = "/play/{channel}/*"
	cases := map[string]struct {
		route   RouteConfig
		path    string
		depth   int
		place   string
		isPlace bool
	}{
		"the channel's folder":              {RouteConfig{Path: star}, "/play/tv/v.m3u8", 0, "/play/tv/", true},
		"a folder below it":                 {RouteConfig{Path: star}, "/play/tv/a/v.m3u8", 1, "/play/tv/a/", true},
		"two folders below it":              {RouteConfig{Path: star}, "/play/tv/a/b/v.m3u8", 2, "/play/tv/a/b/", true},
		"above the path's folder":           {RouteConfig{Path: star}, "/play/tv/a/b/v.m3u8", 1, "/play/tv/a/", false},
		"the channel of a path in a folder": {RouteConfig{Path: star}, "/play/tv/a/v.m3u8", 0, "/play/tv/", false},
		"a deep channel":                    {RouteConfig{Path: "/{channel...}/*"}, "/tv/a/v.m3u8", 1, "/tv/a/", true},
		"a deep channel above the path":     {RouteConfig{Path: "/{channel...}/*"}, "/tv/a/v.m3u8", 0, "/tv/", false},
		"credentials in the only one":       {RouteConfig{Path: "/{user}/{channel}/*"}, "/ann/tv/v.m3u8", 0, "/ann/tv/", true},
		"one without credentials": {
			RouteConfig{Path: "/{user}/{channel}/*", Media: media("/{channel}.key", "/m/{channel}/*")}, "/ann/tv/v.m3u8", 0, "/m/tv/", true,
		},
		"one without credentials, in a folder": {
			RouteConfig{Path: "/{user}/{channel}/*", Media: media("/m/{channel}/*")}, "/ann/tv/a/v.m3u8", 1, "/m/tv/a/", true,
		},
		"the first of two":     {RouteConfig{Path: star, Media: media("/m/{channel}/*")}, "/play/tv/v.m3u8", 0, "/play/tv/", true},
		"no star":              {RouteConfig{Path: "/{channel}.m3u8"}, "/tv.m3u8", 0, "", true},
		"the star of another":  {RouteConfig{Path: "/{channel}.m3u8", Media: media("/m/{channel}/*")}, "/tv.m3u8", 0, "/m/tv/", true},
		"a variable too many":  {RouteConfig{Path: "/{channel}.m3u8", Media: media("/m/{q}/{channel}/*")}, "/tv.m3u8", 0, "", true},
		"another that has all": {RouteConfig{Path: "/{channel}.m3u8", Media: media("/m/{q}/{channel}/*", "/n/{channel}/*")}, "/tv.m3u8", 0, "/n/tv/", true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newTestTarget(t, tc.route, tc.path)
			if !at.bind(tc.depth) {
				t.Fatalf("%s has no depth %d", tc.path, tc.depth)
			}
			if got := at.place(); got != tc.place {
				t.Errorf("place: got %q, want %q", got, tc.place)
			}
			if got := at.isPlace(); got != tc.isPlace {
				t.Errorf("isPlace: got %v, want %v", got, tc.isPlace)
			}
		})
	}
	at := newTestTarget(t, RouteConfig{Path: star}, "/play/tv/v.m3u8")
	if at.depth = 1; at.isPlace() {
		t.Error("isPlace of a path above the folder: got true")
	}
}

func TestTarget_Enter(t *testing.T) {
	t.Parallel()
	type entered struct {
		Channel, Folder string
		Depth           int
	}
	names := func(n int) string { return strings.TrimSuffix(strings.Repeat("a/", n), "/") }
	for _, tc := range []struct {
		pattern, path string
		want          entered
	}{
		{"/{channel}/*", "/tv/x.ts", entered{"tv", "", 0}},
		{"/{channel}/*", "/tv/a/x.ts", entered{"tv", "a", 1}},
		{"/{channel}/*", "/tv/a%20b/c/x.ts", entered{"tv", "a b/c", 2}},
		{"/{channel}.m3u8", "/tv.m3u8", entered{"tv", "", 0}},
		{"/{channel...}/*", "/tv/a/x.ts", entered{"tv/a", "", 1}},
		{"/{channel...}/*", "/tv/x.ts", entered{"tv", "", 0}},
		{"/{channel}/*", "/tv/" + names(ticket.MaxDepth) + "/x.ts", entered{"tv", names(ticket.MaxDepth), ticket.MaxDepth}},
		{"/{channel}/*", "/tv/" + names(ticket.MaxDepth+1) + "/x.ts", entered{"tv", names(ticket.MaxDepth), ticket.MaxDepth}},
	} {
		at := newTestTarget(t, RouteConfig{Path: tc.pattern}, tc.path)
		if diff := cmp.Diff(tc.want, entered{at.channel, at.folder, at.depth}); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", tc.path, tc.pattern, diff)
		}
	}
}

func TestTarget_Above(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, path string
		want          []string
	}{
		{"/{channel}/*", "/tv/a/b/x.ts", []string{"tv:", "tv:a"}},
		{"/{channel}/*", "/tv/x.ts", nil},
		{"/{channel...}/*", "/tv/a/b/x.ts", []string{"tv:", "tv/a:"}},
		{"/{channel...}/index.m3u8", "/tv/a/index.m3u8", nil},
	} {
		at := newTestTarget(t, RouteConfig{Path: tc.pattern}, tc.path)
		var got []string
		for above := range at.above() {
			got = append(got, above.channel+":"+above.folder)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("above %s of %s (-want +got):\n%s", tc.path, tc.pattern, diff)
		}
		for range at.above() {
			break // one may stop
		}
	}
}

func TestTarget_FolderPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, path string
		depth         int
		of, want      string
	}{
		{"/play/{channel}/*", "/play/tv/x.ts", 0, "/play/{channel}/*", "/play/tv"},
		{"/play/{channel}/*", "/play/tv/x.ts", 0, "/{channel}.key", "/tv.key"},
		{"/play/{channel}/*", "/play/tv/x.ts", 0, "/{user}/{channel}/*", ""},
		{"/play/{channel}/*", "/play/tv/a/b/x.ts", 0, "/play/{channel}/*", "/play/tv"},
		{"/play/{channel}/*", "/play/tv/a/b/x.ts", 1, "/play/{channel}/*", "/play/tv/a"},
		{"/play/{channel}/*", "/play/tv/a/b/x.ts", 2, "/m/{channel}/x/*", "/m/tv/x/a/b"},
		{"/play/{channel}/*", "/play/tv/a/b/x.ts", 1, "/{channel}.key", ""},
		{"/play/{channel}/*", "/play/tv/a/b/x.ts", 1, "/{user}/{channel}/*", ""},
		{"/{channel...}/*", "/tv/a/x.ts", 1, "/{channel...}/*", "/tv/a"},
		{"/{channel...}/*", "/tv/a/x.ts", 1, "/{channel...}.key", "/tv/a.key"},
	} {
		at := newTestTarget(t, RouteConfig{Path: tc.pattern}, tc.path)
		if !at.bind(tc.depth) {
			t.Fatalf("%s has no depth %d", tc.path, tc.depth)
		}
		if got, ok := at.folderPath(mustPattern(t, tc.of)); ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("%s at depth %d in %s: got %q %v, want %q", tc.path, tc.depth, tc.of, got, ok, tc.want)
		}
	}
}

func TestTarget_Rest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ pattern, path, want string }{
		{"/{channel}/*", "/tv/a%20b/x.ts", "a%20b/x.ts"},
		{"/{channel}/*", "/tv/", ""},
		{"/{channel}.m3u8", "/tv.m3u8", ""},
		{"/{channel}/{file}", "/tv/x.ts", ""},
	} {
		at := newTestTarget(t, RouteConfig{Path: tc.pattern}, tc.path)
		if got := at.rest(); got != tc.want {
			t.Errorf("%s of %s: got %q, want %q", tc.path, tc.pattern, got, tc.want)
		}
	}
}

func TestFirstNames(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{1: "a", 2: "a/bc", 3: "a/bc/d"} {
		if got := firstNames("a/bc/d/x.ts", n); got != want {
			t.Errorf("firstNames(%d): got %q, want %q", n, got, want)
		}
	}
}

func TestIsWithin(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		folder, other string
		want          bool
	}{
		{"a", "", true},
		{"", "", true},
		{"a", "a", true},
		{"a/b", "a", true},
		{"a/b/c", "a/b", true},
		{"ab", "a", false},
		{"b", "a", false},
		{"b/c", "a", false},
		{"a", "a/b", false},
		{"", "a", false},
		{"a/", "a", true},
	} {
		if got := isWithin(tc.folder, tc.other); got != tc.want {
			t.Errorf("isWithin(%q, %q): got %v", tc.folder, tc.other, got)
		}
	}
}

func TestCookieValues(t *testing.T) {
	t.Parallel()
	for field, want := range map[string][]string{
		"":                     nil,
		"t=a":                  {"a"},
		" t=a ; u=b;t=c":       {"a", "c"},
		"t=a=b":                {"a=b"},
		"t=; t; T=a; tt=b; =t": nil,
		"u=t; t=d":             {"d"},
	} {
		if got := slices.Collect(cookieValues(field, "t")); !slices.Equal(got, want) {
			t.Errorf("cookieValues(%q): got %q, want %q", field, got, want)
		}
		for range cookieValues(field, "t") {
			break // one may stop
		}
	}
}

func TestCutPrefixFold(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, want string
		found      bool
	}{
		{"/%7ex", "x", true},
		{"/%7Ex", "x", true},
		{"/%7e", "", true},
		{"/%7", "/%7", false},
		{"/%7fx", "/%7fx", false},
		{"", "", false},
	} {
		if got, found := cutPrefixFold(tc.text, "/%7e"); got != tc.want || found != tc.found {
			t.Errorf("cutPrefixFold(%q): got %q %v, want %q %v", tc.text, got, found, tc.want, tc.found)
		}
	}
}

func TestUnescape(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "a+b": "a+b", "a%20b": "a b", "%41": "A", "a%zz%41": "a%zz%41", "%": "%"} {
		if got := unescape(text); got != want {
			t.Errorf("unescape(%q): got %q, want %q", text, got, want)
		}
	}
}

func TestRoleOfName(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]hls.Role{
		"/a.m3u8": hls.Playlist, "/a.M3U": hls.Playlist, ".m3u": hls.Playlist, "m3u8": hls.Media, "/a.m3u8x": hls.Media,
		"/a.key": hls.Key, "/a.KEY": hls.Key, ".key": hls.Key, "key": hls.Media, "/a.ts": hls.Media, "": hls.Media,
	} {
		if got := roleOfName(path); got != want {
			t.Errorf("roleOfName(%q): got %v, want %v", path, got, want)
		}
	}
}

func TestRoute_RoleOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		isEntry bool
		path    string
		want    hls.Role
	}{
		{true, "/live/tv", hls.Playlist},
		{true, "/live/tv.key", hls.Playlist},
		{true, "/media/tv/x.ts", hls.Media},
		{true, "/media/tv/x.key", hls.Key},
		{true, "/media/tv/x.m3u8", hls.Playlist},
		{false, "/live/tv", hls.Media},
		{false, "/live/tv.m3u8", hls.Playlist},
	} {
		at := newTestTarget(t, RouteConfig{Path: "/live/{channel}", Playlist: tc.isEntry, Media: []PathMappingConfig{{Path: "/media/{channel}/*"}}}, tc.path)
		if got := at.route.roleOf(tc.path); got != tc.want {
			t.Errorf("%s, playlist: %v: got %v, want %v", tc.path, tc.isEntry, got, tc.want)
		}
		if got, want := at.isPlaylist(), tc.want == hls.Playlist; got != want {
			t.Errorf("%s, playlist: %v: isPlaylist %v, want %v", tc.path, tc.isEntry, got, want)
		}
	}
}

func TestRoute_ServesHost(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hosts []string
		host  string
		want  bool
	}{
		{nil, "any.example", true},
		{nil, "", true},
		{[]string{"TV.example", "b.example"}, "tv.EXAMPLE", true},
		{[]string{"tv.example", "b.example"}, "b.example:8080", true},
		{[]string{"tv.example"}, "b.example", false},
		{[]string{"tv.example"}, "", false},
		{[]string{"::1"}, "[::1]:80", true},
	} {
		r, err := newRoute(RouteConfig{Path: "/{channel}", Hosts: tc.hosts}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.servesHost(tc.host); got != tc.want {
			t.Errorf("hosts %q: servesHost(%q) is %v", tc.hosts, tc.host, got)
		}
	}
}

func TestPathMapping_ViewerPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path, origin, viewerPath, want string
	}{
		{"/play/{channel}/*", "", "/play/tv/x.ts", "/play/tv/x.ts"},
		{"/play/{channel}/*", "", "/store/tv/x.ts", ""},
		{"/play/{channel}/*", "/play/{channel}/*", "/play/tv/x.ts", "/play/tv/x.ts"},
		{"/play/{channel}/*", "/store/{channel}/*", "/store/tv/a/x.ts", "/play/tv/a/x.ts"},
		{"/play/{channel}/*", "/store/{channel}/*", "/play/tv/a/x.ts", ""},
		{"/{user}/{channel}/*", "/store/{channel}/*", "/store/tv/a/x.ts", ""},
	} {
		m, err := newPathMapping(PathMappingConfig{Path: tc.path, OriginPath: tc.origin})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.viewerPath(tc.viewerPath); ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("%s by %s: got %q %v, want %q", tc.viewerPath, tc.origin, got, ok, tc.want)
		}
	}
}

func TestTarget_OriginPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ path, origin, viewer, want string }{
		{"/play/{channel}/*", "", "/play//tv/a//x.ts", "/play//tv/a//x.ts"},
		{"/play/{channel}/*", "/store/{channel}/*", "/play/tv/a/x.ts", "/store/tv/a/x.ts"},
		{"/play/{channel}/*", "/store/{channel}/*", "/play/tv/a//x.ts", "/store/tv/a//x.ts"},
		{"/{user}/{channel}.m3u8", "/{channel}/index.m3u8", "/ann/tv.m3u8", "/tv/index.m3u8"},
	} {
		at := newTestTarget(t, RouteConfig{Path: tc.path, OriginPath: tc.origin}, tc.viewer)
		if got := at.originPath(); got != tc.want {
			t.Errorf("%s by %s: got %q, want %q", tc.viewer, tc.origin, got, tc.want)
		}
	}
}
