package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// counted is one number and what it was counted on.
type counted struct {
	name string
	n    int
}

// figures are the measurements of one tree, each list sorted with the largest first.
type figures struct {
	packages, files, lines int
	code                   int       // lines with code in Go and Lua: not blank, not a comment alone
	exported               []counted // exported names a package: types, functions, methods, constants, variables
	filesOf                []counted // files a package
	functions              []counted // lines a function, its signature and closing brace included
	branches               []counted // cyclomatic complexity a function
}

// measure reads every Go file below root that is not a test, generated, or in a folder that is left out.
func measure(root string) (*figures, error) {
	f := &figures{}
	exported, files := map[string]int{}, map[string]int{}
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && isLeftOut(d.Name()):
			return fs.SkipDir
		case !d.IsDir() && path.Ext(name) == ".lua":
			return f.countLua(filepath.Join(root, name))
		case d.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil || ast.IsGenerated(file) {
			return err
		}
		folder := path.Dir(name)
		files[folder]++
		exported[folder] += exportedNames(file)
		f.files++
		f.lines += set.Position(file.FileEnd).Line
		f.code += codeLines(set, file)
		f.measureFunctions(set, file, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.packages = len(files)
	f.exported, f.filesOf = ranked(exported), ranked(files)
	descending(f.functions)
	descending(f.branches)
	return f, nil
}

// isLeftOut reports whether a folder holds nothing that runs in production.
func isLeftOut(folder string) bool {
	return strings.HasPrefix(folder, ".") ||
		slices.Contains([]string{"testdata", "backendtest", "redistest", "figures"}, folder)
}

// countLua counts the lines of a script that are neither blank nor a comment.
func (f *figures) countLua(name string) error {
	source, err := os.ReadFile(name)
	for line := range strings.Lines(string(source)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			f.code++
		}
	}
	return err
}

// codeLines counts the lines that hold a token of the language.
func codeLines(set *token.FileSet, file *ast.File) int {
	lines := map[int]bool{set.Position(file.Package).Line: true}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.Comment, *ast.CommentGroup, *ast.File:
		default:
			lines[set.Position(n.Pos()).Line] = true
			lines[set.Position(n.End()-1).Line] = true
		}
		return true
	})
	return len(lines)
}

func (f *figures) measureFunctions(set *token.FileSet, file *ast.File, name string) {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		where := name + ": " + fn.Name.Name
		length := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1
		f.functions = append(f.functions, counted{where, length})
		f.branches = append(f.branches, counted{where, complexity(fn)})
	}
}

// complexity returns the cyclomatic complexity: one, and one more for each branch that the code can take.
func complexity(fn *ast.FuncDecl) int {
	n := 1
	ast.Inspect(fn, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// exportedNames counts the names that other packages can use: methods count if their type is exported.
func exportedNames(file *ast.File) int {
	n := 0
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type))) {
				n++
			}
		case *ast.GenDecl:
			n += exportedSpecs(d)
		}
	}
	return n
}

func exportedSpecs(d *ast.GenDecl) int {
	n := 0
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				n++
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() {
					n++
				}
			}
		}
	}
	return n
}

// receiver returns the name of a method's type.
func receiver(e ast.Expr) string {
	for {
		switch t := e.(type) {
		case *ast.StarExpr:
			e = t.X
		case *ast.IndexExpr:
			e = t.X
		case *ast.Ident:
			return t.Name
		default:
			return ""
		}
	}
}

func ranked(counts map[string]int) []counted {
	list := make([]counted, 0, len(counts))
	for name, n := range counts {
		list = append(list, counted{name, n})
	}
	descending(list)
	return list
}

func descending(list []counted) {
	slices.SortFunc(list, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.name, b.name))
	})
}

// String prints the totals and the three largest of each figure.
func (f *figures) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %d packages, %d files, %d lines; %d lines of code in Go and Lua\n", f.packages, f.files, f.lines, f.code)
	for _, figure := range []struct {
		title string
		list  []counted
	}{
		{"exported names", f.exported},
		{"files", f.filesOf},
		{"longest function", f.functions},
		{"cyclomatic complexity", f.branches},
	} {
		fmt.Fprintf(&b, "  %-22s", figure.title)
		for _, c := range figure.list[:min(3, len(figure.list))] {
			fmt.Fprintf(&b, " %4d %s;", c.n, c.name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
