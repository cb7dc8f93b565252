package hls_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
