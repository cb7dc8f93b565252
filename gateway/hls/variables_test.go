package hls_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

// definitions precede the URIs of variableForms.
const definitions = `#EXT-X-DEFINE:NAME="v",VALUE="720"
#EXT-X-DEFINE:NAME="up",VALUE="../b"
#EXT-X-DEFINE:NAME="root",VALUE="/play/a001"
#EXT-X-DEFINE:NAME="host",VALUE="http://10.0.0.5:8000/play"
#EXT-X-DEFINE:NAME="cdn",VALUE="https://cdn.example.com/play"
#EXT-X-DEFINE:NAME="q",VALUE="?ticket=old&a=b"
#EXT-X-DEFINE:NAME="frag",VALUE="#t"
#EXT-X-DEFINE:NAME="nested",VALUE="{$v}p"
#EXT-X-DEFINE:NAME="half",VALUE="{$token}p"
#EXT-X-DEFINE:NAME="v",VALUE="the first counts"
#EXT-X-DEFINE:IMPORT="token"
#EXT-X-DEFINE:QUERYPARAM="k"
`

// variableForms are URIs with variables.
func variableForms() map[string]formCase {
	return map[string]formCase{
		"in a file name": {"seg-{$v}.ts", wants{
			"/~T/play/a001/seg-720.ts", "seg-720.ts", "/play/a001/seg-720.ts?ticket=T", "/play/a001/seg-720.ts", "/play/a001/seg-720.ts",
		}},
		"at the beginning": {"{$v}/seg.ts", wants{
			"/~T/play/a001/720/seg.ts", "720/seg.ts", "/play/a001/720/seg.ts?ticket=T", "/play/a001/720/seg.ts", "/play/a001/720/seg.ts",
		}},
		"with another inside": {"{$nested}.ts", wants{
			"/~T/play/a001/720p.ts", "720p.ts", "/play/a001/720p.ts?ticket=T", "/play/a001/720p.ts", "/play/a001/720p.ts",
		}},
		"with dot segments in its value": {"{$up}/seg.ts", wants{
			"/~T/play/b/seg.ts", "../b/seg.ts", "/play/b/seg.ts?ticket=T", "/play/b/seg.ts", "/play/b/seg.ts",
		}},
		"with the root in its value": {"{$root}/seg.ts", wants{
			"/~T/play/a001/seg.ts", "seg.ts", "/play/a001/seg.ts?ticket=T", "/play/a001/seg.ts", "/play/a001/seg.ts",
		}},
		"with our host in its value": {"{$host}/a001/seg-{$v}.ts", wants{
			"/~T/play/a001/seg-720.ts", "seg-720.ts", "/play/a001/seg-720.ts?ticket=T", "/play/a001/seg-720.ts", "/play/a001/seg-720.ts",
		}},
		"with a foreign host in its value": {"{$cdn}/seg.ts", untouched("{$cdn}/seg.ts")},
		"with a query in its value, the ticket's parameter in it": {"seg.ts{$q}", wants{
			"/~T/play/a001/seg.ts?ticket=old&a=b", "seg.ts?ticket=old&a=b", "/play/a001/seg.ts?ticket=T&a=b",
			"/play/a001/seg.ts?ticket=old&a=b", "/play/a001/seg.ts?ticket=old&a=b",
		}},
		"before a fragment and a parameter": {"seg-{$v}.ts?ticket=old&a#f", wants{
			"/~T/play/a001/seg-720.ts?ticket=old&a#f", "seg-720.ts?ticket=old&a#f", "/play/a001/seg-720.ts?ticket=T&a#f",
			"/play/a001/seg-720.ts?ticket=old&a#f", "/play/a001/seg-720.ts?ticket=old&a#f",
		}},
		"with a fragment in its value": {"seg.ts{$frag}", wants{
			"/~T/play/a001/seg.ts#t", "seg.ts#t", "/play/a001/seg.ts?ticket=T#t", "/play/a001/seg.ts#t", "/play/a001/seg.ts#t",
		}},
		"imported, at the end": {"seg.ts?t={$token}", wants{
			"/~T/play/a001/seg.ts?t={$token}", "seg.ts?t={$token}", "seg.ts?t={$token}&ticket=T", "seg.ts?t={$token}", "/play/a001/seg.ts?t={$token}",
		}},
		"from the query, in the path": {"/play/a001/{$k}/../seg.ts", wants{
			"/~T/play/a001/{$k}/../seg.ts", "./{$k}/../seg.ts", "/play/a001/{$k}/../seg.ts?ticket=T", "/play/a001/{$k}/../seg.ts", "/play/a001/{$k}/../seg.ts",
		}},
		"known and unknown together": {"{$v}/{$k}.ts", wants{
			"/~T/play/a001/720/{$k}.ts", "720/{$k}.ts", "/play/a001/720/{$k}.ts?ticket=T", "/play/a001/720/{$k}.ts", "/play/a001/720/{$k}.ts",
		}},
		"behind the beginning of another": {"seg{$-{$v}.ts", wants{
			"/~T/play/a001/seg{$-720.ts", "seg{$-720.ts", "/play/a001/seg{$-720.ts?ticket=T", "/play/a001/seg{$-720.ts", "/play/a001/seg{$-720.ts",
		}},
		"of a name that is none": {"seg{$v v}.ts", wants{
			"/~T/play/a001/seg{$v v}.ts", "seg{$v v}.ts", "seg{$v v}.ts?ticket=T", "seg{$v v}.ts", "/play/a001/seg{$v v}.ts",
		}},
		"our host written out before an unknown one": {"http://10.0.0.5:8000/play/{$k}.ts", wants{
			"/~T/play/{$k}.ts", "../{$k}.ts", "/play/{$k}.ts?ticket=T", "/play/{$k}.ts", "/play/{$k}.ts",
		}},
		"built from an unknown one": {"{$half}.ts", untouched("{$half}.ts")},
		"no variable at all, only its beginning": {"seg{$v.ts", wants{
			"/~T/play/a001/seg{$v.ts", "seg{$v.ts", "seg{$v.ts?ticket=T", "seg{$v.ts", "/play/a001/seg{$v.ts",
		}},
	}
}

func TestParse_Variable_WrittenAsItsValue(t *testing.T) {
	t.Parallel()
	for name, test := range variableForms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := "#EXTM3U\n" + definitions
			got := map[string]string{}
			for name, m := range modes() {
				rest, found := strings.CutPrefix(viewerCopy(t, body+test.uri, m.options()), body)
				if !found {
					t.Errorf("%s: the definitions changed", name)
				}
				got[name] = rest
			}
			if diff := cmp.Diff(test.want.byMode(), got); diff != "" {
				t.Errorf("rewriting %q (-want +got):\n%s", test.uri, diff)
			}
		})
	}
}

func TestParse_LeadingUnknownVariable_Unchanged(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"{$base}/seg.ts", "/{$base}/seg.ts", "//{$host}/seg.ts", "http://{$host}/seg.ts", "http://10.0.0.5:8000{$x}/seg.ts",
		"h{$x}", "https{$x}", "https:{$x}", "HT{$x}/seg.ts",
	} {
		for name, m := range modes() {
			o := m.options()
			o.Locate = onOrigin(func(ref string) (string, bool) { return ref, true })
			if got := rewriteURI(t, uri, o); got != uri {
				t.Errorf("%s: got %q, want %q unchanged", name, got, uri)
			}
		}
	}
}

func TestParse_UnknownVariableAfterRoot_NamesNoHost(t *testing.T) {
	t.Parallel()
	o := modes()["query"].options()
	o.Locate = onOrigin(func(ref string) (string, bool) { return ref, true })
	if got, want := rewriteURI(t, "http://10.0.0.5:8000/{$x}/seg.ts", o), "/./{$x}/seg.ts?ticket=T"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParse_VariableBeforeItsDefinition_Unknown(t *testing.T) {
	t.Parallel()
	const body = "#EXTM3U\n{$v}.ts\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"a\"\n{$v}.ts\n"
	const want = "#EXTM3U\n{$v}.ts\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"a\"\n/~T/play/a001/a.ts\n"
	if got := viewerCopy(t, body, mode{}.options()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVariables_Nested_ExpansionIsBounded(t *testing.T) {
	t.Parallel()
	var body strings.Builder
	body.WriteString("#EXTM3U\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"xx\"\n")
	for name := 'b'; name <= 'z'; name++ {
		last := "{$" + string(name-1) + "}"
		body.WriteString("#EXT-X-DEFINE:NAME=\"" + string(name) + "\",VALUE=\"" + last + last + "\"\n")
	}
	body.WriteString("s-{$z}.ts\n" + strings.Repeat("{$l}", 1000) + ".ts\n")
	want := strings.Replace(body.String(), "s-{$z}", "/~T/play/a001/s-{$z}", 1)
	if got := viewerCopy(t, body.String(), mode{}.options()); got != want {
		t.Errorf("got %d bytes, want %d: only the variable that is too long is opaque", len(got), len(want))
	}
}

// TestParse_Variable_ValueByKind is about one variable v, and a segment that has it in its query.
func TestParse_Variable_ValueByKind(t *testing.T) {
	t.Parallel()
	const unknown = "{$v}"
	tests := map[string]struct {
		define, query, variables string
		want                     string
	}{
		"by value":                       {`NAME="v",VALUE="a"`, "", "", "a"},
		"by value, in another order":     {`VALUE="a",NAME="v"`, "", "", "a"},
		"by an empty value":              {`NAME="v",VALUE=""`, "", "", ""},
		"without value":                  {`NAME="v"`, "", "v=b", unknown},
		"imported":                       {`IMPORT="v"`, "v=no", "u=c&v=a%26b", "a&b"},
		"imported, empty":                {`IMPORT="v"`, "", "v=", ""},
		"imported, that is not there":    {`IMPORT="v"`, "v=no", "u=c", unknown},
		"imported, without any":          {`IMPORT="v"`, "v=no", "", unknown},
		"asked":                          {`QUERYPARAM="v"`, "u=c&v=a", "v=no", "a"},
		"asked, empty":                   {`QUERYPARAM="v"`, "v=", "", ""},
		"asked, a name alone":            {`QUERYPARAM="v"`, "u&v", "", ""},
		"asked twice":                    {`QUERYPARAM="v"`, "v=a&v=b", "", "a"},
		"asked with escapes":             {`QUERYPARAM="v"`, "%76=a%2Fb%20c+d%25", "", "a/b c d%"},
		"asked in Cyrillic":              {`QUERYPARAM="v"`, "v=%D0%BA", "", "к"},
		"asked with a broken escape":     {`QUERYPARAM="v"`, "v=a%2", "", unknown},
		"asked, beside a broken escape":  {`QUERYPARAM="v"`, "%zz=1&v=a", "", "a"},
		"asked in capitals":              {`QUERYPARAM="v"`, "V=a", "", unknown},
		"asked, that is not there":       {`QUERYPARAM="v"`, "u=a", "v=no", unknown},
		"asked for a variable":           {`QUERYPARAM="v"`, "v=%7B$w%7D", "w=a", unknown},
		"imported, a variable":           {`IMPORT="v"`, "", "v=%7B%24w%7D", unknown},
		"a quote, which a line may have": {`QUERYPARAM="v"`, "v=a%22b", "", `a"b`},
		"twice, the first":               {"NAME=\"v\",VALUE=\"a\"\n#EXT-X-DEFINE:NAME=\"v\",VALUE=\"b\"", "", "", "a"},
		"twice, the first known":         {"IMPORT=\"v\"\n#EXT-X-DEFINE:QUERYPARAM=\"v\"", "v=b", "", "b"},
		"unquoted":                       {`NAME=v,VALUE=a`, "", "", "a"},
		"a name that is none":            {`NAME="v v",VALUE="a"`, "", "", unknown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := mode{}.options()
			o.Query, o.Variables = test.query, test.variables
			body := "#EXTM3U\n#EXT-X-DEFINE:" + test.define + "\n"
			got, found := strings.CutPrefix(viewerCopy(t, body+"s?a={$v}&b", o), body)
			if want := "/~T/play/a001/s?a=" + test.want + "&b"; !found || got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestParse_Variable_ValueThatCannotBeWritten_Unchanged is about values of a viewer's query that would end the URI or the
// line, or that players would cut.
func TestParse_Variable_ValueThatCannotBeWritten_Unchanged(t *testing.T) {
	t.Parallel()
	for query, line := range map[string]string{
		"v=a%0A%23EXT-X-ENDLIST": "s?{$v}", "v=a%0D": "s?{$v}b", "v=%00": "s?{$v}b", "v=a%20": "s?{$v}", "v=a%09b": "s?{$v}",
		"v=a%22,URI=%22b": `#EXT-X-KEY:METHOD=AES-128,URI="{$v}"`, "v=a,b": `#EXT-X-KEY:METHOD=AES-128,URI={$v}`,
		"v=%5C%5Ccdn.example": "{$v}/s", "v=/%5Ccdn.example": "{$v}/s", "v=%23t": "{$v}", "v=": "{$v}", "v=skd:": "{$v}//id",
		"v=" + strings.Repeat("a", 9<<10): "s?{$v}",
	} {
		for name, m := range modes() {
			o := m.options()
			o.Query = query
			o.Locate = onOrigin(func(ref string) (string, bool) { return ref, true })
			body := "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"v\"\n" + line
			if got := viewerCopy(t, body, o); got != body {
				t.Errorf("%s, %.40s: got %q, want it unchanged", name, query, got)
			}
		}
	}
}

// TestParse_ViewersVariable_ChoosesNoFolder is about a variable v whose value a viewer chose, in each way in which a URI can have it.
// What the URI then is for the gateway; empty: it stays unchanged.
func TestParse_ViewersVariable_ChoosesNoFolder(t *testing.T) {
	t.Parallel()
	const unchanged = ""
	tests := map[string]struct{ uri, value, want string }{
		"a folder's name":                 {"{$v}/s", "eu", "/play/a001/eu/s"},
		"a part of a name":                {"x/s-{$v}.ts", "eu", "/play/a001/x/s-eu.ts"},
		"a name beyond ASCII":             {"{$v}/s", "юг 1+2;a=b,c", "/play/a001/юг 1+2;a=b,c/s"},
		"dots in a name":                  {"s{$v}.ts", "..1", "/play/a001/s..1.ts"},
		"a part that is empty":            {"s{$v}.ts", "", "/play/a001/s.ts"},
		"behind our host":                 {"http://10.0.0.5:8000/play/{$v}/s", "eu", "/play/eu/s"},
		"behind the root":                 {"/play/{$v}/s", "eu", "/play/eu/s"},
		"with our dot segments behind it": {"x/{$v}/../s", "eu", "/play/a001/x/s"},
		"in another variable":             {"{$at}s", "eu", "/play/a001/x/eu/s"},
		"twice":                           {"{$v}{$v}/s", "eu", "/play/a001/eueu/s"},
		"a query":                         {"s?{$v}", "../a=b/c:d?e%66\\", "/play/a001/s?../a=b/c:d?e%66\\"},
		"a query's value":                 {"s?a={$v}&b", "//evil.example/..", "/play/a001/s?a=//evil.example/..&b"},
		"a query in another variable":     {"s{$query}", "../a=", "/play/a001/s?a=../a="},
		"a fragment":                      {"s#{$v}", "/../", "/play/a001/s"},
		"a fragment in another variable":  {"s#{$at}", "/../", "/play/a001/s"},
		"a slash":                         {"{$v}/s", "a/b", unchanged},
		"a slash at the end":              {"x/{$v}s", "b/", unchanged},
		"a backslash":                     {"{$v}/s", `a\b`, unchanged},
		"a colon":                         {"x/{$v}/s", "a:b", unchanged},
		"a question mark":                 {"x/{$v}/s", "a?b", unchanged},
		"a question mark, at the end":     {"s{$v}", "?b", unchanged},
		"a number sign":                   {"x/{$v}/s", "a#b", unchanged},
		"an escape":                       {"{$v}/s", "%2e%2e", unchanged},
		"a dot segment":                   {"x/{$v}/s", "..", unchanged},
		"a dot segment at the end":        {"x/{$v}", "..", unchanged},
		"a dot segment before a query":    {"x/{$v}?a", "..", unchanged},
		"a dot segment of two parts":      {"x/.{$v}/s", ".", unchanged},
		"a dot segment of two variables":  {"x/{$v}{$v}/s", ".", unchanged},
		"a dot segment with a parameter":  {"x/{$v}/s", "..;a", unchanged},
		"an empty folder":                 {"{$v}/s", "", unchanged},
		"an empty folder, inside":         {"x/{$v}/s", "", unchanged},
		"an empty path":                   {"{$v}?a=b", "", unchanged},
		"a host":                          {"http://{$v}/s", "10.0.0.5", unchanged},
		"a part of a host":                {"http://{$v}.0.0.5:8000/s", "10", unchanged},
		"a part of a port":                {"http://10.0.0.5:8{$v}/s", "000", unchanged},
		"a host, without a scheme":        {"//{$v}/s", "10.0.0.5", unchanged},
		"the scheme":                      {"{$v}://10.0.0.5:8000/play/s", "http", unchanged},
		"nothing between two slashes":     {"/{$v}/10.0.0.5:8000/play/s", "", unchanged},
		"nothing before two slashes":      {"{$v}//10.0.0.5:8000/play/s", "", unchanged},
		"nothing behind a host":           {"http://10.0.0.5:8000{$v}/play/s", "", unchanged},
	}
	const head = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"v\"\n#EXT-X-DEFINE:NAME=\"at\",VALUE=\"x/{$v}/\"\n#EXT-X-DEFINE:NAME=\"query\",VALUE=\"?a={$v}\"\n"
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			imports := strings.NewReplacer("QUERYPARAM", "IMPORT", "NAME", "IMPORT").Replace(head)
			for way, definitions := range map[string]string{"asked": head, "imported": imports} {
				o, got := modes()["path-ticketed"].options(), unchanged
				o.Query, o.IsViewersQuery = "v="+url.QueryEscape(test.value), true
				if way == "imported" {
					o.Variables = listed(t, strings.TrimPrefix(head, "#EXTM3U\n")+"#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8", o)[0].Variables
					o.Query, o.IsViewersQuery = "", false
				}
				o.Locate = func(l hls.Listed) (string, bool) {
					if got = l.Ref; l.Scheme+"://"+l.Host != "http://10.0.0.5:8000" {
						t.Errorf("%s: at %s://%s", way, l.Scheme, l.Host)
					}
					return l.Ref, true
				}
				text := viewerCopy(t, definitions+test.uri, o)
				if got != test.want || test.want == unchanged && text != definitions+test.uri {
					t.Errorf("%s: got %q, want %q, in %q", way, got, test.want, text)
				}
			}
		})
	}
}

// TestParse_ViewersQuery_OfListedPlaylist is about a playlist that is listed with a query, of which it takes its variable v.
func TestParse_ViewersQuery_OfListedPlaylist(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		uri       string
		isLocated bool
	}{
		"a viewer's value":            {"v.m3u8?v={$chosen}", false},
		"a viewer's value before":     {"v.m3u8?u={$chosen}&v=a/b", false},
		"a value of the origin's own": {"v.m3u8?v=a/b", true},
		"a viewer's value, in a name": {"{$name}.m3u8?v=a/b", true},
		"an imported one":             {"v.m3u8?v={$own}", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := mode{}.options()
			o.Query, o.IsViewersQuery = "chosen=a/b&name=a", true
			first := listed(t, "#EXT-X-DEFINE:QUERYPARAM=\"chosen\"\n#EXT-X-DEFINE:QUERYPARAM=\"name\"\n"+
				"#EXT-X-DEFINE:NAME=\"own\",VALUE=\"a/b\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n"+test.uri, o)[0]
			_, o.Query, _ = strings.Cut(first.Ref, "?")
			o.Variables, o.IsViewersQuery = first.Variables, false
			all := listed(t, "#EXT-X-DEFINE:QUERYPARAM=\"v\"\n#EXT-X-DEFINE:IMPORT=\"own\"\n#EXT-X-RENDITION-REPORT:URI=\"{$own}\"\n{$v}/s", o)
			if isLocated := len(all) == 2; isLocated != test.isLocated {
				t.Errorf("listed %+v, want the segment among it: %t", all, test.isLocated)
			}
			if all[0].Variables != strings.TrimPrefix(first.Variables, "?") {
				t.Errorf("a sibling imports %q, want %q", all[0].Variables, first.Variables)
			}
		})
	}
}

// TestParse_ViewersVariable_PartsAreBounded has empty values that name one another.
func TestParse_ViewersVariable_PartsAreBounded(t *testing.T) {
	t.Parallel()
	var body strings.Builder
	body.WriteString("#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"a\"\n")
	for name := 'b'; name <= 'z'; name++ {
		last := "{$" + string(name-1) + "}"
		body.WriteString("#EXT-X-DEFINE:NAME=\"" + string(name) + "\",VALUE=\"" + strings.Repeat(last, 8) + "\"\n")
	}
	o := mode{}.options()
	o.Query, o.IsViewersQuery = "a=", true
	all := listed(t, strings.TrimPrefix(body.String(), "#EXTM3U\n")+"#EXT-X-STREAM-INF:BANDWIDTH=1\ns{$z}", o)
	if len(all) != 1 || len(all[0].Variables) > 200 {
		t.Errorf("got %d, want one, with short variables", len(all))
	}
}
