package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hastyCompares returns a complaint for each comparison of a secret, or of a hash of one, that takes the longer the more of it is
// right. It knows secrets by setting.Secret's Reveal, and files that compute hashes by their imports.
func hastyCompares(files *token.FileSet, file *ast.File) []string {
	hashes := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool {
		return slices.Contains([]string{`"crypto/hmac"`, `"crypto/md5"`, `"crypto/sha1"`, `"crypto/sha256"`, `"crypto/sha512"`, `"crypto/subtle"`}, i.Path.Value)
	})
	var complaints []string
	complain := func(n ast.Node, what string) {
		complaints = append(complaints, fmt.Sprintf("line %d: %s; want crypto/subtle or hmac.Equal", files.Position(n.Pos()).Line, what))
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			isCompare := n.Op == token.EQL || n.Op == token.NEQ
			left, right := isSecret(n.X, hashes), isSecret(n.Y, hashes)
			if isCompare && left != right && !isEmptyText(n.X) && !isEmptyText(n.Y) {
				complain(n, "a secret is compared by "+n.Op.String())
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && isSecret(n.Tag, hashes) {
				complain(n, "a switch on a secret")
			}
		case *ast.CallExpr:
			name := calledName(n)
			isCompare := slices.Contains([]string{"bytes.Equal", "bytes.Compare", "strings.EqualFold", "strings.Compare", "slices.Equal"}, name)
			if isCompare && (hashes && strings.HasPrefix(name, "bytes.") || slices.ContainsFunc(n.Args, func(a ast.Expr) bool { return isSecret(a, hashes) })) {
				complain(n, "a secret is compared by "+name)
			}
		}
		return true
	})
	return complaints
}

// isSecret reports whether an expression is a revealed secret or, in a file that computes hashes, the sum of one.
func isSecret(e ast.Expr, hashes bool) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		call, isCall := n.(*ast.CallExpr)
		if !isCall {
			return true
		}
		if name := calledName(call); name == "len" || strings.HasPrefix(name, "subtle.") || name == "hmac.Equal" {
			return false // which says nothing of its bytes
		}
		if s, isSelector := call.Fun.(*ast.SelectorExpr); isSelector {
			found = found || s.Sel.Name == "Reveal" || hashes && strings.HasPrefix(s.Sel.Name, "Sum")
		}
		return true
	})
	return found
}

func isEmptyText(e ast.Expr) bool {
	text, isText := e.(*ast.BasicLit)
	return isText && text.Value == `""`
}

// calledName returns the name of what is called, with its package.
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, isName := f.X.(*ast.Ident); isName {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

func TestRepository_SecretsComparedInConstantTime(t *testing.T) {
	t.Parallel()
	files, root, constant := token.NewFileSet(), filepath.Join("..", ".."), 0
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir(), !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if call, isCall := n.(*ast.CallExpr); isCall && slices.Contains([]string{"hmac.Equal", "subtle.ConstantTimeCompare"}, calledName(call)) {
				constant++
			}
			return true
		})
		for _, c := range hastyCompares(files, parsed) {
			t.Errorf("%s: %s", name, c)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if constant < 8 { // tickets, references, tokens of the API, of the page and of rules, passwords, links and secure tokens
		t.Errorf("only %d comparisons in constant time were found", constant)
	}
}

func TestRepository_FindsHastyCompares(t *testing.T) {
	t.Parallel()
	const source = `package p
import ("bytes"; "crypto/hmac"; "crypto/subtle")
func f(s secret, given string, mac, sum []byte) bool {
	if s.Reveal() == "" || len(s.Reveal()) < 3 || subtle.ConstantTimeCompare([]byte(s.Reveal()), sum) == 1 || hmac.Equal(mac, sum) { return true }
	if given == s.Reveal() { return true }
	switch s.Reveal() {
	}
	return bytes.Equal(mac, sum) || string(h.Sum(nil)) != given
}
`
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	const want = "; want crypto/subtle or hmac.Equal"
	if diff := cmp.Diff([]string{
		"line 5: a secret is compared by ==" + want, "line 6: a switch on a secret" + want,
		"line 8: a secret is compared by !=" + want, "line 8: a secret is compared by bytes.Equal" + want,
	}, slices.Sorted(slices.Values(hastyCompares(files, parsed)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
