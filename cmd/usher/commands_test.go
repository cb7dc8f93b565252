package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestCommands_Documents_Parse parses every command of usher that README.md and the files of deploy name, so that none has a flag or an
// argument that there is not. A command that is named without all that it needs is no mistake.
func TestCommands_Documents_Parse(t *testing.T) {
	t.Parallel()
	parser := kong.Must(new(commands), kong.Name("usher"))
	mistaken := regexp.MustCompile("^un(known flag|expected argument) ")
	n := 0
	root := os.DirFS(filepath.Join("..", ".."))
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		isDocument := file == "README.md" || strings.HasPrefix(file, "deploy/") && !strings.HasSuffix(file, ".go")
		if err != nil || d.IsDir() || !isDocument {
			return err
		}
		text, err := fs.ReadFile(root, file)
		for _, command := range namedCommands(string(text)) {
			n++
			_, problem := parser.Parse(command)
			if problem != nil && mistaken.MatchString(problem.Error()) {
				t.Errorf("%s: usher %s: %v", file, strings.Join(command, " "), problem)
			}
		}
		return err
	})
	if err != nil || n < 50 {
		t.Errorf("%d commands, %v; want at least 50", n, err)
	}
}

// namedCommands returns the arguments of each command of usher in a text: up to the closing backquote, else to the end of the line, a
// remark after two spaces, or what a shell does not pass on.
func namedCommands(text string) [][]string {
	var (
		quoted = regexp.MustCompile("`usher (\\w[^`]*)`")
		line   = regexp.MustCompile(`(?m)(?:^|[\s/])usher +((?:serve|demo|check|validate|sessions|health|version)\b.*)$`)
		remark = regexp.MustCompile(`\s{2,}[^-\s].*`)
		value  = regexp.MustCompile(`{{.*?}}`)
		word   = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
	)
	named := quoted.FindAllStringSubmatch(text, -1)
	for _, match := range line.FindAllStringSubmatch(text, -1) {
		named = append(named, []string{"", remark.ReplaceAllString(match[1], "")})
	}
	all := make([][]string, len(named))
	for i, match := range named {
		for _, w := range word.FindAllString(value.ReplaceAllString(match[1], "x"), -1) {
			if strings.ContainsAny(w[:1], "#|&>;") {
				break
			}
			all[i] = append(all[i], strings.Trim(w, `'"`))
		}
	}
	return all
}
