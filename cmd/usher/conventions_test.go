package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// subjects returns the names with which tests of a folder may begin besides its types and functions, for tests of a whole
// program or of the repository.
func subjects() map[string][]string {
	return map[string][]string{
		"cmd/usher":     {"Check", "Cluster", "Edges", "Repository", "Serve", "Validate", "Version"},
		"cmd/usher/e2e": {"Binary", "Cluster", "Demo", "Edges", "Jaeger", "Node", "Players", "Prometheus"},
	}
}

// testName matches the name of a test, benchmark or fuzz test: the subject, and what holds, separated by underscores.
var testName = regexp.MustCompile(`^(Test|Benchmark|Fuzz)([A-Z][A-Za-z0-9]*)(_[A-Za-z0-9]+)*$`)

// folderNames holds the declared names and the test names of one folder.
type folderNames struct {
	declared map[string]bool
	tests    []string
}

// readNames adds the declarations of a file.
func (n *folderNames) readNames(file *ast.File, isTest bool) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			switch {
			case !isTest:
				n.declared[d.Name.Name] = true
			case d.Recv == nil && d.Name.Name != "TestMain" && isTestFunction(d.Name.Name):
				n.tests = append(n.tests, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if t, ok := s.(*ast.TypeSpec); ok && !isTest {
					n.declared[t.Name.Name] = true
				}
			}
		}
	}
}

func isTestFunction(name string) bool {
	return strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Benchmark") || strings.HasPrefix(name, "Fuzz")
}

// misnamed returns why a test's name breaks the convention, or an empty text.
func (n *folderNames) misnamed(test string, allowed []string) string {
	parts := testName.FindStringSubmatch(test)
	if parts == nil {
		return test + ": want Test<Subject>_<WhatHolds>, such as TestBreaker_OpensAfterConsecutiveFailures"
	}
	for name := range n.declared {
		if isFirstWord(name, parts[2]) {
			return ""
		}
	}
	if slices.ContainsFunc(allowed, func(name string) bool { return isFirstWord(name, parts[2]) }) {
		return ""
	}
	return test + ": want it to begin with a type or a function of the package under test"
}

// isFirstWord reports whether text begins with the name in any case, as JWKSCache with jwksCache, and ends there or continues
// with a capital letter.
func isFirstWord(name, text string) bool {
	if len(text) < len(name) || !strings.EqualFold(text[:len(name)], name) {
		return false
	}
	return len(text) == len(name) || 'A' <= text[len(name)] && text[len(name)] <= 'Z'
}

// viewerPronoun matches a pronoun other than "they" for a viewer.
var viewerPronoun = regexp.MustCompile(`(?i)\b(he|him|his)\b`)

// pronouns returns a complaint for each comment with a masculine pronoun.
func pronouns(files *token.FileSet, file *ast.File) []string {
	var complaints []string
	for _, group := range file.Comments {
		for _, c := range group.List {
			if found := viewerPronoun.FindString(c.Text); found != "" {
				complaints = append(complaints, fmt.Sprintf("line %d: %q; a viewer is they", files.Position(c.Pos()).Line, found))
			}
		}
	}
	return complaints
}

// readRepository parses all Go files below root, and returns the names of each folder and the complaints about comments.
func readRepository(t *testing.T, root string) (folders map[string]*folderNames, complaints []string) {
	t.Helper()
	folders, files := map[string]*folderNames{}, token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		folder := folders[path.Dir(relative)]
		if folder == nil {
			folder = &folderNames{declared: map[string]bool{}}
			folders[path.Dir(relative)] = folder
		}
		folder.readNames(parsed, strings.HasSuffix(name, "_test.go"))
		for _, c := range pronouns(files, parsed) {
			complaints = append(complaints, relative+": "+c)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the repository: %v", err)
	}
	return folders, complaints
}

func TestRepository_FollowsNamingConventions(t *testing.T) {
	t.Parallel()
	folders, complaints := readRepository(t, filepath.Join("..", ".."))
	tests := 0
	for name, folder := range folders {
		for _, test := range folder.tests {
			tests++
			if c := folder.misnamed(test, subjects()[name]); c != "" {
				complaints = append(complaints, name+": "+c)
			}
		}
	}
	if tests < 300 {
		t.Errorf("only %d tests were found", tests)
	}
	slices.Sort(complaints)
	if len(complaints) > 0 {
		t.Errorf("%d names and comments break the conventions:\n%s", len(complaints), strings.Join(complaints, "\n"))
	}
}

func TestRepository_FindsBrokenConventions(t *testing.T) {
	t.Parallel()
	const source = `package p
// breaker trips when its viewer has lost his place. The other words are the, this and history.
type breaker struct{}
// Serve answers him.
func Serve() {}
func (breaker) probe() {}
`
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "p.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`line 2: "his"; a viewer is they`, `line 4: "him"; a viewer is they`}
	if diff := cmp.Diff(want, pronouns(files, parsed)); diff != "" {
		t.Errorf("pronouns (-want +got):\n%s", diff)
	}
	n := folderNames{declared: map[string]bool{}}
	n.readNames(parsed, false)
	for test, isGood := range map[string]bool{
		"TestBreaker_OpensAfterFailures": true, "TestServe_NoTicket_Forbidden": true, "BenchmarkBreaker": true,
		"TestBreakerConfig": true, "TestBREAKER_Opens": true, "FuzzProbe": true, "TestNode_Starts": true,
		"TestABreakerOpens": false, "TestServer_Starts": false, "TestServe_": false, "Test_Serve": false, "Testserve": false,
	} {
		if c := n.misnamed(test, []string{"Node"}); (c == "") != isGood {
			t.Errorf("%s: got %q", test, c)
		}
	}
}
