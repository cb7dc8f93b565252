package bounds

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository.
const root = "../../.."

// withoutMetric returns the constants that need no metric. Those in one_thing.txt bound one message, file, text or moment, which is
// given up or refused then: nothing grows by them, however many there are. Those in small.txt bound a table of some hundred kB at
// most, whose overflow costs a repeated line of the log or a less exact figure.
func withoutMetric(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, name := range []string{"one_thing.txt", "small.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Fields(string(text))...)
	}
	return all
}

// constantsOf returns the constants of the program that look like bounds, as Bound has them.
func constantsOf(t *testing.T) []string {
	t.Helper()
	isBound := regexp.MustCompile(`^(max[A-Z]\w*|queueSize|cells|setSize)$`)
	var found []string
	for _, folder := range []string{"actors", "backends", "cluster", "gateway", "cmd/usher"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				return err
			}
			in, err := filepath.Rel(root, path.Dir(name))
			for _, decl := range file.Decls {
				general, isGeneral := decl.(*ast.GenDecl)
				if !isGeneral || general.Tok != token.CONST {
					continue
				}
				for _, spec := range general.Specs {
					for _, n := range spec.(*ast.ValueSpec).Names { //nolint:forcetypeassert // constants have no other
						if isBound.MatchString(n.Name) {
							found = append(found, filepath.ToSlash(in)+"."+n.Name)
						}
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// TestAll_HasEveryConstant has each constant that looks like a bound in the list or among those without a metric, and none besides.
func TestAll_HasEveryConstant(t *testing.T) {
	t.Parallel()
	inCode, without := constantsOf(t), withoutMetric(t)
	listed := map[string]bool{}
	for _, b := range All() {
		if b.Constant != "" {
			listed[b.Constant] = true
		}
	}
	for _, c := range inCode {
		if isWithout := slices.Contains(without, c); listed[c] == isWithout {
			t.Errorf("%s: in the list %v, without metric %v; a bound of what grows needs a metric, see Bound", c, listed[c], isWithout)
		}
	}
	for c := range listed {
		if !slices.Contains(inCode, c) {
			t.Errorf("%s: is no constant any more", c)
		}
	}
	for _, c := range without {
		if !slices.Contains(inCode, c) {
			t.Errorf("%s: is no constant any more", c)
		}
	}
}

// settingsOf returns the bounds among the settings that the sample documents, as Bound has them.
func settingsOf(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/usher.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^( *)(?:- )?#?([a-z_0-9]+):`)
	isBound := regexp.MustCompile(`^(max|max_.*|.*_rate|.*_rate_per_.*|.*_percent|pool_size)$`)
	var found, path []string
	for l := range strings.Lines(string(text)) {
		match := line.FindStringSubmatch(l)
		if match == nil {
			continue
		}
		depth := min(len(match[1])/2, len(path))
		path = append(path[:depth:depth], match[2])
		if isBound.MatchString(match[2]) {
			found = append(found, strings.Join(path, "."))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// TestAll_HasEverySetting has each setting that looks like a bound in the list or among those of one thing, and none besides.
func TestAll_HasEverySetting(t *testing.T) {
	t.Parallel()
	// ofOne are bounds of one request, one user, one file, or that are no bounds.
	ofOne := strings.Fields(`
backends.*.max_body_size backends.*.max_connection_age backends.*.max_response_header_size
cache.max_object_size cache.max_wait_for_fresh fetch.max_playlist_size limits.max_header_size limits.max_url_size
records.file.max_files records.file.max_size sessions.per_user.max_sessions_overrides_unique sessions.per_user.max_streams
sessions.recheck.jitter_percent sessions.recheck.max tickets.max_uri
`)
	listed := map[string]bool{}
	for _, b := range All() {
		listed[b.Setting] = true
	}
	backend := regexp.MustCompile(`^backends\.[a-z_]+\.`)
	found := settingsOf(t)
	for i, s := range found {
		s = backend.ReplaceAllString(s, "backends.*.")
		if found[i] = s; listed[s] == slices.Contains(ofOne, s) {
			t.Errorf("%s: in the list %v; a bound of what grows needs a metric, see Bound", s, listed[s])
		}
	}
	for _, s := range slices.Concat(slices.Collect(maps.Keys(listed)), ofOne) {
		if s != "" && !slices.Contains(found, s) {
			t.Errorf("%s: is no setting, or none that looks like a bound", s)
		}
	}
	if len(found) < 20 {
		t.Errorf("only %d settings are bounds: %q", len(found), found)
	}
}

// TestAll_EveryMetricIsThere has each metric among those that are documented, which are those of the code.
func TestAll_EveryMetricIsThere(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join(root, "gateway/admin/doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\busher_[a-z_]+`).FindAllString(string(doc), -1)
	for _, b := range All() {
		if !slices.Contains(names, b.Metric) {
			t.Errorf("%s%s: no metric %q", b.Setting, b.Constant, b.Metric)
		}
		if (b.Setting == "") == (b.Constant == "") {
			t.Errorf("%+v: has not one name", b)
		}
	}
}
