package hls_test

import (
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/gateway/hls"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden playlists anew")
	flag.Parse()
	os.Exit(m.Run())
}

// corpus returns the playlists of testdata by the name of their folder.
func corpus(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/origin.m3u8")
	if err != nil || len(files) == 0 {
		t.Fatalf("find the corpus: %d files, error %v", len(files), err)
	}
	found := map[string]string{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(filepath.Dir(file))] = string(body)
	}
	return found
}

func TestParse_Corpus_MatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	update := flag.Lookup("update").Value.String() == "true"
	for name, body := range corpus(t) {
		for mode, m := range modes() {
			file := filepath.Join("testdata", name, mode+".m3u8")
			got := viewerCopy(t, body, m.options())
			if update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		}
	}
}

// urisOf finds the URIs of a line without the scanner: the whole line, or every quoted attribute that may be one.
func urisOf(line string) []string {
	line = strings.Trim(strings.TrimPrefix(line, "\ufeff"), " \r")
	if line != "" && line[0] != '#' {
		return []string{line}
	}
	var uris []string
	for _, match := range regexp.MustCompile(`[:,](?:URI|SERVER-URI|X-ASSET-URI|X-ASSET-LIST)="([^"]*)"`).FindAllStringSubmatch(line, -1) {
		uris = append(uris, match[1])
	}
	return uris
}

// TestParse_Corpus_URIsResolveToTargets compares the rewriting with net/url. Each URI of a viewer's copy, resolved against
// the URL of the playlist, is the origin's URI under the viewer's host, with a ticket where the transport writes it.
func TestParse_Corpus_URIsResolveToTargets(t *testing.T) {
	t.Parallel()
	for name, body := range corpus(t) {
		for modeName, m := range modes() {
			o := m.options()
			address := "http://edge.example" + o.Path
			if m.ticket {
				address = "http://edge.example/~T" + o.Path
			}
			from, to := strings.Split(body, "\n"), strings.Split(viewerCopy(t, body, o), "\n")
			if len(from) != len(to) {
				t.Errorf("%s, %s: %d lines became %d", name, modeName, len(from), len(to))
				continue
			}
			for i := range from {
				wrote, reads := urisOf(from[i]), urisOf(to[i])
				if len(wrote) != len(reads) {
					t.Errorf("%s, %s: %q became %q", name, modeName, from[i], to[i])
					continue
				}
				for j := range wrote {
					checkURI(t, m, o.Origin, wrote[j], address, reads[j])
				}
				if len(wrote) == 0 && from[i] != to[i] {
					t.Errorf("%s, %s: %q became %q", name, modeName, from[i], to[i])
				}
			}
		}
	}
}

// checkURI resolves one URI for the origin and for the viewer and compares the results.
func checkURI(t *testing.T, m mode, origin, wrote, address, reads string) {
	t.Helper()
	if strings.Contains(wrote, "{$") {
		return // net/url knows no variables; a table of their own covers them
	}
	source, target := resolve(t, origin, wrote), resolve(t, address, reads)
	if source.Host != "10.0.0.5:8000" || !strings.HasPrefix(source.Path, "/play/") {
		if wrote != reads {
			t.Errorf("%q, which is not ours, became %q", wrote, reads)
		}
		return
	}
	if target.Host != "edge.example" || strings.Contains(reads, "edge.example") {
		t.Errorf("%q became %q, which leads to %s", wrote, reads, target)
	}
	path, ticketed := strings.CutPrefix(target.EscapedPath(), "/~T/")
	if path = strings.TrimPrefix(path, "/"); "/"+path != source.EscapedPath() {
		t.Errorf("%q became %q, which leads to %s and not to %s", wrote, reads, target, source.EscapedPath())
	}
	wantQuery := source.Query()
	switch m.carry {
	case hls.TicketInPath:
		if !ticketed {
			t.Errorf("%q became %q, which leads out of the ticket: %s", wrote, reads, target)
		}
	case hls.TicketInQuery:
		wantQuery.Set("ticket", "T")
	case hls.TicketInCookie:
		if ticketed {
			t.Errorf("%q became %q, with a ticket", wrote, reads)
		}
	}
	if diff := cmp.Diff(wantQuery, target.Query()); diff != "" {
		t.Errorf("%q became %q: query (-want +got):\n%s", wrote, reads, diff)
	}
	if source.Fragment != target.Fragment {
		t.Errorf("%q became %q: the fragment changed", wrote, reads)
	}
}

// resolve resolves a URI as a player does.
func resolve(t *testing.T, base, ref string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := parsed.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

func TestParse_RelativeURIsBelowTicket_ByteExact(t *testing.T) {
	t.Parallel()
	all := corpus(t)
	for _, name := range []string{"ffmpeg-live", "bom"} {
		for _, mode := range []string{"path-ticketed", "cookie"} {
			if got := viewerCopy(t, all[name], modes()[mode].options()); got != all[name] {
				t.Errorf("%s, %s: got %q, want the very same bytes", name, mode, got)
			}
		}
	}
}

func TestParse_RewrittenPlaylist_Unchanged(t *testing.T) {
	t.Parallel()
	for name, body := range corpus(t) {
		for _, mode := range []string{"path-ticketed", "query", "cookie"} {
			o := modes()[mode].options()
			once := viewerCopy(t, body, o)
			if diff := cmp.Diff(once, viewerCopy(t, once, o)); diff != "" {
				t.Errorf("%s, %s (-once +twice):\n%s", name, mode, diff)
			}
		}
	}
}
