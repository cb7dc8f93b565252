package gateway

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/urlpath"
)

func mustPattern(t testing.TB, text string) *pattern {
	t.Helper()
	p, err := parsePattern(text)
	if err != nil {
		t.Fatalf("parsePattern(%q): %v", text, err)
	}
	return p
}

// matchedVariables returns the values of a pattern's variables, or nil if the path does not match.
func matchedVariables(p *pattern, path string) map[string]string {
	m, ok := p.match(path)
	if !ok {
		return nil
	}
	all := map[string]string{}
	for _, name := range p.names {
		all[name] = p.value(m, name)
	}
	return all
}

func TestPattern_Match(t *testing.T) {
	t.Parallel()
	type vars = map[string]string
	const play, xtream = "/play/{channel}/*", "/live/{user}/{password}/{channel}.m3u8"
	const deep = "/play/{channel...}/*"
	cases := map[string]struct {
		pattern, path string
		want          vars
	}{
		"a channel and the rest":                {play, "/play/a001/hd/seg.ts", vars{"channel": "a001", "*": "hd/seg.ts"}},
		"an empty rest":                         {play, "/play/a001/", vars{"channel": "a001", "*": ""}},
		"slashes in a row":                      {play, "//play///a001//x//y.ts", vars{"channel": "a001", "*": "x/y.ts"}},
		"no slash behind the channel":           {play, "/play/a001", nil},
		"an empty channel":                      {play, "/play//index.m3u8", nil},
		"another folder":                        {play, "/vod/a001/index.m3u8", nil},
		"the folder in capitals":                {play, "/PLAY/a001/index.m3u8", nil},
		"something before":                      {play, "/x/play/a001/index.m3u8", nil},
		"an escape in the channel":              {play, "/play/caf%C3%A9/i.m3u8", vars{"channel": "caf%C3%A9", "*": "i.m3u8"}},
		"an Xtream path":                        {xtream, "/live/ann/s3cret/17.m3u8", vars{"user": "ann", "password": "s3cret", "channel": "17"}},
		"an Xtream path with dots in a name":    {xtream, "/live/a.b/c.d/e.f.m3u8", vars{"user": "a.b", "password": "c.d", "channel": "e.f"}},
		"an Xtream path that ends twice":        {xtream, "/live/u/p/c.m3u8.m3u8", vars{"user": "u", "password": "p", "channel": "c.m3u8"}},
		"an Xtream path without a password":     {xtream, "/live/u//c.m3u8", nil},
		"an Xtream path of a segment":           {xtream, "/live/u/p/c.ts", nil},
		"an Xtream path with more behind":       {xtream, "/live/u/p/c.m3u8/x", nil},
		"an Xtream path with a folder too many": {xtream, "/live/u/p/x/c.m3u8", nil},
		"two variables in a segment":            {"/{channel}-{quality}/*", "/a-b-hd/i.m3u8", vars{"channel": "a", "quality": "b-hd", "*": "i.m3u8"}},
		"two variables in the last segment":     {"/{channel}-{quality}.m3u8", "/a001-hd.m3u8", vars{"channel": "a001", "quality": "hd"}},
		"two variables, one of them empty":      {"/{channel}-{quality}/*", "/-hd/i.m3u8", nil},
		"a variable that would eat a slash":     {"/{channel}.m3u8", "/a/b.m3u8", nil},
		"a variable that ends the pattern":      {"/get/{channel}", "/get/a001", vars{"channel": "a001"}},
		"a variable that ends it, with more":    {"/get/{channel}", "/get/a001/x", nil},
		"the empty path":                        {play, "", nil},

		"a channel of two segments":                {deep, "/play/tv/travel/i.m3u8", vars{"channel": "tv/travel", "*": "i.m3u8"}},
		"a channel of one segment":                 {deep, "/play/a001/i.m3u8", vars{"channel": "a001", "*": "i.m3u8"}},
		"a deep channel without a file":            {deep, "/play/tv/travel/", vars{"channel": "tv/travel", "*": ""}},
		"a deep channel without a slash":           {deep, "/play/a001", nil},
		"a deep channel of nothing":                {deep, "/play//i.m3u8", nil},
		"an empty segment in it":                   {deep, "/play/tv//travel/i.m3u8", vars{"channel": "tv/travel", "*": "i.m3u8"}},
		"an empty segment behind it":               {deep, "/play/tv/travel//i.m3u8", vars{"channel": "tv/travel", "*": "i.m3u8"}},
		"a deep channel that ends the pattern":     {"/get/{channel...}", "/get/tv/travel", vars{"channel": "tv/travel"}},
		"one with a slash in front":                {"/play{channel...}/*", "/play/x/i", nil},
		"one with a slash at its end":              {"/get/{channel...}", "/get/tv/travel/", nil},
		"a deep channel before an extension":       {"/{channel...}.m3u8", "/tv/travel.hd.m3u8", vars{"channel": "tv/travel.hd"}},
		"a deep channel before a file":             {"/{channel...}/index.m3u8", "/tv/index.m3u8/index.m3u8", vars{"channel": "tv/index.m3u8"}},
		"a deep channel before another file":       {"/{channel...}/index.m3u8", "/tv/travel/low.m3u8", nil},
		"a deep channel before a folder":           {"/{channel...}/hls/*", "/tv/hls/hd/hls/i.ts", vars{"channel": "tv/hls/hd", "*": "i.ts"}},
		"a deep channel behind credentials":        {"/{user}/{password}/{channel...}/*", "/u/p/tv/t/i", vars{"user": "u", "password": "p", "channel": "tv/t", "*": "i"}},
		"a deep channel before a variable":         {"/{channel...}/{quality}.m3u8", "/tv/travel/hd.m3u8", vars{"channel": "tv/travel", "quality": "hd"}},
		"a deep channel whose rest matches before": {"/{channel...}/{quality}/x/*", "/a/x/c", nil},
		"a deep channel behind a letter":           {"/{channel...}x", "/ax", vars{"channel": "a"}},
		"a deep channel of one letter":             {"/{channel...}/*", "/a/", vars{"channel": "a", "*": ""}},
		"two variables with a longer literal":      {"/{channel}-x-{quality}.ts", "/a-x-b-x-c.ts", vars{"channel": "a", "quality": "b-x-c"}},
		"two variables, the last one empty":        {"/{channel}-{quality}.ts", "/a-.ts", nil},
		"a literal that ends in the next segment":  {"/{channel}.m/{quality}", "/a.m.m/hd", vars{"channel": "a.m", "quality": "hd"}},
		"a name of one letter before an extension": {"/{channel}.ts", "/a.ts", vars{"channel": "a"}},
		"a channel of nothing within a segment":    {"/x{channel}", "/x/y", nil},
		"nothing before an extension":              {"/{channel}.ts", "/.ts", nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustPattern(t, tc.pattern)
			if diff := cmp.Diff(tc.want, matchedVariables(p, tc.path)); diff != "" {
				t.Fatalf("match(%q) of %s (-want +got):\n%s", tc.path, tc.pattern, diff)
			}
			if tc.want == nil {
				return
			}
			m, _ := p.match(tc.path)
			if got, ok := p.expand(p, m); !ok || got != urlpath.MergeSlashes(tc.path) {
				t.Errorf("expand: got %q %v, want %q", got, ok, tc.path)
			}
		})
	}
}

func TestPattern_Expand(t *testing.T) {
	t.Parallel()
	const viewer = "/live/{user}/{password}/{channel}.m3u8"
	cases := map[string]struct {
		to, path, want, folder string
	}{
		"variables left out":         {"/{channel}/index.m3u8", "/live/u/p/17.m3u8", "/17/index.m3u8", "/17"},
		"in another order":           {"/{channel}/{password}/{user}", "/live/u/p/17.m3u8", "/17/p/u", "/17"},
		"itself":                     {viewer, "/live/u/p/17.m3u8", "/live/u/p/17.m3u8", "/live/u/p/17.m3u8"},
		"in one segment":             {"/x/{channel}-{user}/i", "/live/u/p/17.m3u8", "/x/17-u/i", "/x/17-u"},
		"as the last thing":          {"/x/{channel}", "/live/u/p/17.m3u8", "/x/17", "/x/17"},
		"with escapes as they stand": {"/{channel}/i", "/live/u/p/a%20b.m3u8", "/a%20b/i", "/a%20b"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := mustPattern(t, viewer), mustPattern(t, tc.to)
			m, ok := from.match(tc.path)
			if !ok {
				t.Fatalf("match(%q): no", tc.path)
			}
			if got, ok := to.expand(from, m); !ok || got != tc.want {
				t.Errorf("expand: got %q %v, want %q", got, ok, tc.want)
			}
			if got, ok := to.folder(from, m); !ok || got != tc.folder {
				t.Errorf("folder: got %q %v, want %q", got, ok, tc.folder)
			}
		})
	}
}

func TestPattern_Expand_MissingVariable(t *testing.T) {
	t.Parallel()
	from, to := mustPattern(t, "/{channel}/*"), mustPattern(t, "/{user}/{channel}/*")
	m, _ := from.match("/a001/i.m3u8")
	if got, ok := to.expand(from, m); ok {
		t.Errorf("expand: got %q, want none", got)
	}
	if got, ok := to.folder(from, m); ok {
		t.Errorf("folder: got %q, want none", got)
	}
}

func TestParsePattern_Invalid(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ pattern, want string }{
		"nothing":                 {"", `"" must begin with /`},
		"no slash in front":       {"play/{channel}", `"play/{channel}" must begin with /`},
		"where tickets stand":     {"/~x/{channel}", `"/~x/{channel}" must not begin with /~, which is for tickets`},
		"no channel":              {"/play/*", `"/play/*" needs a {channel}`},
		"an open brace":           {"/play/{channel", `"/play/{channel": { without }`},
		"a name of nothing":       {"/{}/{channel}", `"/{}/{channel}": {} is not a valid name; want letters, digits, _ and -`},
		"a name with a slash":     {"/{a/b}/{channel}", `"/{a/b}/{channel}": {a/b} is not a valid name; want letters, digits, _ and -`},
		"a name with an equals":   {"/{a=b}/{channel}", `"/{a=b}/{channel}": {a=b} is not a valid name; want letters, digits, _ and -`},
		"a star in the middle":    {"/*/{channel}", `"/*/{channel}": * may only be the whole last segment`},
		"a star within a segment": {"/{channel}/x*", `"/{channel}/x*": * may only be the whole last segment`},
		"a star behind a name":    {"/{channel}*", `"/{channel}*": * may only be the whole last segment`},
		"neighbours":              {"/{channel}{quality}", `"/{channel}{quality}": two variables need a literal between them`},
		"a deep name twice":       {"/{channel...}/{channel}", `"/{channel...}/{channel}" names {channel} twice`},
		"another deep variable":   {"/{user...}/{channel}", `"/{user...}/{channel}": {user...}: only {channel...} matches several segments`},
		"a deep name of nothing":  {"/{...}/{channel}", `"/{...}/{channel}": {...} is not a valid name; want letters, digits, _ and -`},
		"a name twice":            {"/{channel}/{channel}", `"/{channel}/{channel}" names {channel} twice`},
		"seven variables":         {"/{a}/{b}/{c}/{d}/{e}/{f}/{channel}", `"/{a}/{b}/{c}/{d}/{e}/{f}/{channel}" has more than 6 variables`},
		"a query":                 {"/play/{channel}.m3u8?x=1", `"/play/{channel}.m3u8?x=1": a path in a request never has "?"; write it escaped`},
		"a space":                 {"/my tv/{channel}", `"/my tv/{channel}": a path in a request never has " "; write it escaped`},
		"a control character":     {"/a\x7f/{channel}", `"/a\x7f/{channel}": a path in a request never has "\x7f"; write it escaped`},
		"a letter beyond ASCII":   {"/café/{channel}", `"/café/{channel}": a path in a request never has "é"; write it escaped`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parsePattern(tc.pattern)
			if err == nil || err.Error() != tc.want {
				t.Errorf("parsePattern(%q):\n got %v\nwant %s", tc.pattern, err, tc.want)
			}
		})
	}
}

// TestParseViewer_MatchesNoRequest has patterns that every request misses, since its path is refused or changed before.
func TestParseViewer_MatchesNoRequest(t *testing.T) {
	t.Parallel()
	unclean := " matches no request: " + urlpath.Unclean
	merged := " matches no request: several slashes in a row count as one; write one"
	for text, want := range map[string]string{
		"/../{channel}/*":          unclean,
		"/play/./{channel}/*":      unclean,
		"/play/%2e%2e/{channel}/*": unclean,
		"/pl%61y/{channel}/*":      unclean,
		"/play%2F{channel}/*":      unclean,
		"/play/%zz/{channel}/*":    unclean,
		"/{channel}./*":            unclean,
		"//{channel}/*":            merged,
		"/play/{channel}//*":       merged,
		"/play/{channel...}//i":    merged,
		"/play/{channel}/*":        "",
		"/.hidden/{channel}.m3u8":  "",
		"/caf%C3%A9/{channel...}":  "",
	} {
		if want != "" {
			want = strconv.Quote(text) + want
		}
		if _, err := parseViewer(text); want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestParsePattern_SixVariables(t *testing.T) {
	t.Parallel()
	p := mustPattern(t, "/{a}/{b}/{c}/{d}/{channel...}/*")
	if len(p.names) != maxVariables || !p.isDeep {
		t.Errorf("got %q, deep %v", p.names, p.isDeep)
	}
	if mustPattern(t, "/{channel}/{a}").isDeep {
		t.Error("a channel of one segment is deep")
	}
}

func TestIsNeverInPath(t *testing.T) {
	t.Parallel()
	for _, c := range "\x00 \"#<>?\\^`|\x7f\u0080é" {
		if !isNeverInPath(c) {
			t.Errorf("%q: got false", c)
		}
	}
	for _, c := range "!$%&'()*+,-./09:;=@AZ[]_az{}~" {
		if isNeverInPath(c) {
			t.Errorf("%q: got true", c)
		}
	}
}

func TestPattern_Place(t *testing.T) {
	t.Parallel()
	const star = "/play/{channel}/*"
	for _, tc := range []struct{ from, path, to, rest, want string }{
		{star, "/play/tv/a/x.ts", star, "", "/play/tv/"},
		{star, "/play/tv/a/x.ts", star, "b/", "/play/tv/b/"},
		{star, "/play/tv/x.ts", "/m/{channel}-x/*", "b/", "/m/tv-x/b/"},
		{star, "/play/tv/x.ts", "/{user}/{channel}/*", "", ""},
		{star, "/play/tv/x.ts", "/{channel}.key", "", ""},
		{"/{user}/{channel}.m3u8", "/ann/tv.m3u8", "/m/{channel}/{user}/*", "", "/m/tv/ann/"},
		{"/{user}/{channel}.m3u8", "/ann/tv.m3u8", "/{user}/*/", "", ""},
	} {
		to, err := parsePath(tc.to)
		if err != nil {
			if tc.want != "" {
				t.Fatal(err)
			}
			continue
		}
		from := mustPattern(t, tc.from)
		m, matches := from.match(tc.path)
		if got, ok := to.place(from, m, tc.rest); !matches || ok != (tc.want != "") || ok && got != tc.want {
			t.Errorf("%s in %s: got %q %v, want %q", tc.path, tc.to, got, ok, tc.want)
		}
	}
}

func TestPattern_Unmerge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ pattern, path, want string }{
		{"/play/{channel}/*", "/play/tv//a///x.ts", "/a///x.ts"},
		{"/play/{channel}/*", "/play//tv/a///x.ts", "a///x.ts"},
		{"/play/{channel}/*", "/play/tv/a/x.ts", "a/x.ts"},
		{"/{channel}/{file}", "/tv//x.ts", "x.ts"},
	} {
		p := mustPattern(t, tc.pattern)
		m, ok := p.match(tc.path)
		if got := p.unmerge(tc.path, m).values[1]; !ok || got != tc.want {
			t.Errorf("%s of %s: got %q, want %q", tc.path, tc.pattern, got, tc.want)
		}
	}
	all, err := parsePath("/*")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := all.match("/a//b")
	if got := all.unmerge("/a//b", m).values[0]; got != "a//b" {
		t.Errorf("of all paths: got %q", got)
	}
	if got := (&pattern{}).unmerge("/x", match{}); got != (match{}) {
		t.Errorf("without variables: got %q", got)
	}
}

func TestPattern_Folder(t *testing.T) {
	t.Parallel()
	const from = "/{user}/{channel}/*"
	for to, want := range map[string]string{
		"/{channel}/*":               "/tv",
		"/a/{channel}/b/{user}/*":    "/a/tv",
		"/a/{channel}-b/c/*":         "/a/tv-b",
		"/a/{channel}-b-{user}.m3u8": "/a/tv-b-ann.m3u8",
		"/a/b/{user}/{channel}":      "/a/b/ann/tv",
		"/{channel}/{other}":         "/tv",
		"/{other}/{channel}":         "",
	} {
		p, of := mustPattern(t, from), mustPattern(t, to)
		m, _ := p.match("/ann/tv/x.ts")
		if got, ok := of.folder(p, m); ok != (want != "") || ok && got != want {
			t.Errorf("%s: got %q %v, want %q", to, got, ok, want)
		}
	}
}

func TestPattern_HasCredentials(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"/{channel}": false, "/{channel}/*": false, "/{user}/{channel}/*": true, "/{channel}/{q}": true,
	} {
		if got := mustPattern(t, text).hasCredentials(); got != want {
			t.Errorf("%s: got %v", text, got)
		}
	}
}

func TestIsChannelPath(t *testing.T) {
	t.Parallel()
	names := func(n int) string { return strings.Repeat("a/", n) + "a" }
	for _, tc := range []struct {
		value string
		depth int
		want  bool
	}{
		{"tv", anyDepth, true},
		{"tv", 0, true},
		{"tv", 1, false},
		{"tv/a", anyDepth, true},
		{"tv/a", 1, true},
		{"tv/a", 0, false},
		{"", anyDepth, false},
		{"", 0, false},
		{"/", anyDepth, false},
		{"/tv", anyDepth, false},
		{"tv/", anyDepth, false},
		{names(maxChannelDepth), anyDepth, true},
		{names(maxChannelDepth), maxChannelDepth, true},
		{names(maxChannelDepth + 1), anyDepth, false},
		{names(maxChannelDepth + 1), maxChannelDepth + 1, false},
	} {
		if got := isChannelPath(tc.value, tc.depth); got != tc.want {
			t.Errorf("isChannelPath(%q, %d): got %v", tc.value, tc.depth, got)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("/play/{channel}/*", "/play/a001/index.m3u8")
	f.Add("/live/{user}/{password}/{channel}.m3u8", "/live/a.b/c.d/e.f.m3u8")
	f.Add("/{channel}-{q}-{r}/{s}.{t}", "/a-b-c-d/e.f.g")
	f.Add("/{channel}", "/%41")
	f.Add("/{channel}", "//a")
	f.Add("/play/{channel...}/*", "/play/tv/travel/hd/seg.ts")
	f.Add("/{user}/{channel...}/x/{q}.m3u8", "/u/a/x/b/x/c.m3u8")
	f.Fuzz(func(t *testing.T, text, path string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		m, ok := p.match(path)
		if !ok {
			return
		}
		path = urlpath.MergeSlashes(path) // several in a row are taken for one
		if got, ok := p.expand(p, m); !ok || got != path {
			t.Errorf("%q: expand(match(%q)) is %q %v", text, path, got, ok)
		}
		for i, name := range p.names {
			isDeep := name == channelVariable && p.isDeep
			if v := m.values[i]; name != restVariable && (v == "" || strings.Contains(v, "/") && !isDeep) {
				t.Errorf("%q: {%s} is %q in %q", text, name, v, path)
			}
		}
		checkDepths(t, p, path, m)
		if folder, ok := p.folder(p, m); !ok || !strings.HasPrefix(path, folder) {
			t.Errorf("%q: the folder of %q is %q %v", text, path, folder, ok)
		}
	})
}

// checkDepths requires that a match with fewer slashes in its channel is one of the same path, and that the greatest depth is
// the one that match takes.
func checkDepths(t *testing.T, p *pattern, path string, deepest match) {
	t.Helper()
	if !p.isDeep {
		return
	}
	depth := strings.Count(p.value(deepest, channelVariable), "/")
	for d := range maxChannelDepth + 1 {
		m, ok := p.matchDepth(path, d)
		if !ok {
			continue
		}
		if got, _ := p.expand(p, m); got != path || d > depth || strings.Count(p.value(m, channelVariable), "/") != d {
			t.Errorf("%q: at depth %d of %q: %q, channel %q; the deepest has %d", p.text, d, path, got, p.value(m, channelVariable), depth)
		}
	}
}

func TestPattern_MatchDepth(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		pattern, path string
		depth         int
		want          string // the channel
	}{
		"the deepest":               {"/{channel...}/*", "/tv/travel/hd/s.ts", 2, "tv/travel/hd"},
		"a folder less":             {"/{channel...}/*", "/tv/travel/hd/s.ts", 1, "tv/travel"},
		"the first segment":         {"/{channel...}/*", "/tv/travel/hd/s.ts", 0, "tv"},
		"deeper than the path":      {"/{channel...}/*", "/tv/travel/hd/s.ts", 3, ""},
		"where the pattern has end": {"/{channel...}/index.m3u8", "/tv/travel/index.m3u8", 0, ""},
		"a folder that comes twice": {"/{channel...}/hls/*", "/a/hls/b/hls/c/hls/s.ts", 2, "a/hls/b"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := mustPattern(t, tc.pattern)
			m, ok := p.matchDepth(tc.path, tc.depth)
			if got := p.value(m, channelVariable); ok != (tc.want != "") || ok && got != tc.want {
				t.Errorf("matchDepth(%q, %d) of %s: got %q %v, want %q", tc.path, tc.depth, tc.pattern, got, ok, tc.want)
			}
		})
	}
}

func TestPattern_Match_DepthIsBounded(t *testing.T) {
	t.Parallel()
	p := mustPattern(t, "/{channel...}/*")
	m, ok := p.match(strings.Repeat("/a", 100) + "/s.ts")
	if n := strings.Count(p.value(m, channelVariable), "/"); !ok || n != maxChannelDepth {
		t.Errorf("match: got %v and %d slashes, want %d", ok, n, maxChannelDepth)
	}
}

func BenchmarkMatch(b *testing.B) {
	p := mustPattern(b, "/play/{channel}/*")
	b.ReportAllocs()
	for b.Loop() {
		p.match("/play/a001/hd/seg-17.ts")
	}
}

func TestTarget_Opens(t *testing.T) {
	t.Parallel()
	r, err := newRoute(RouteConfig{Path: "/play/{channel}/*", Media: []PathMappingConfig{{Path: "/keys/{channel}.key"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		entry string
		depth int
		other string
		want  bool
	}{
		{"/play/tv/v.m3u8", 0, "/play/tv/x.ts", true},
		{"/play/tv/v.m3u8", 0, "/play/tv/a/b/x.ts", true},
		{"/play/tv/v.m3u8", 0, "/play/tv2/x.ts", false},
		{"/play/tv/a/v.m3u8", 1, "/play/tv/a/x.ts", true},
		{"/play/tv/a/v.m3u8", 1, "/play/tv/a/b/x.ts", true},
		{"/play/tv/a/v.m3u8", 1, "/play/tv/ab/x.ts", false},
		{"/play/tv/a/v.m3u8", 1, "/play/tv/x.ts", false},
		{"/play/tv/a/v.m3u8", 1, "/keys/tv.key", false},
		{"/play/tv/v.m3u8", 0, "/keys/tv.key", true},
		{"/play/tv/v.m3u8", 0, "/elsewhere/x.ts", false},
	} {
		own, found := foundTarget([]*route{r}, "", tc.entry)
		if !found || !own.bind(tc.depth) {
			t.Fatalf("no target of %s", tc.entry)
		}
		if got := own.opens(tc.other); got != tc.want {
			t.Errorf("%s at depth %d: opens %s %v, want %v", tc.entry, tc.depth, tc.other, got, tc.want)
		}
	}
}
