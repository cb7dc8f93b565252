package main_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRepository_ReadmeCommands_NameTests finds the tests and benchmarks that the commands of both READMEs run, so that a renamed
// test leaves no command behind that runs nothing.
func TestRepository_ReadmeCommands_NameTests(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	functions := testFunctions(t, root)
	flag := regexp.MustCompile(`[^\w]-(run|bench) '?([A-Za-z_|]+)'?`)
	prefixes := map[string][]string{"run": {"Test", "Example"}, "bench": {"Benchmark"}}
	for file, least := range map[string]int{"README.md": 10, "deploy/README.md": 4} {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		// Tables spell "|" as "\|".
		commands := flag.FindAllStringSubmatch(strings.ReplaceAll(string(text), `\|`, "|"), -1)
		if len(commands) < least {
			t.Errorf("%s has %d commands with -run or -bench, want at least %d", file, len(commands), least)
		}
		for _, c := range commands {
			for name := range strings.SplitSeq(c[2], "|") {
				if !slices.ContainsFunc(functions, func(f string) bool {
					return strings.Contains(f, name) &&
						slices.ContainsFunc(prefixes[c[1]], func(p string) bool { return strings.HasPrefix(f, p) })
				}) {
					t.Errorf("%s: -%s %s: no test has %q in its name", file, c[1], c[2], name)
				}
			}
		}
	}
}

// testFunctions lists the names of all test, example and benchmark functions of the repository.
func testFunctions(t *testing.T, root string) []string {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Example|Benchmark)\w*)\(`)
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		source, err := os.ReadFile(filepath.Join(root, name))
		for _, match := range declared.FindAllSubmatch(source, -1) {
			names = append(names, string(match[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
