package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"usher/cmd/usher/config"
)

// mutationBases returns valid settings files with every key spelled, beside the files that they name.
func mutationBases(t *testing.T, folder string) [][]byte {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(pagesFolder, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(folder, "accounts.yaml")
	if err := os.WriteFile(accounts, []byte("users: { alice: { tokens: [ 0123456789abcdef0123456789 ] } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var bases [][]byte
	for _, file := range append(pages, sampleFile) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`file:([a-z.]+)`).FindAllSubmatch(text, -1) {
			if err := os.WriteFile(filepath.Join(folder, string(m[1])), []byte(sampleKey+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text = regexp.MustCompile(`/etc/usher/users.yaml`).ReplaceAllLiteral(text, []byte(accounts))
		bases = append(bases, config.Uncomment(text))
	}
	return bases
}

// mutate changes one node of a settings file. It draws again until the result can be written.
func mutate(t *testing.T, text []byte, random *rand.Rand) []byte {
	t.Helper()
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		t.Fatal(err)
	}
	var all []*yaml.Node
	var collect func(n *yaml.Node)
	collect = func(n *yaml.Node) {
		n.HeadComment, n.LineComment, n.FootComment = "", "", ""
		all = append(all, n)
		for _, c := range n.Content {
			collect(c)
		}
	}
	collect(document.Content[0])
	values := []string{
		"", "0", "-1", "1", "65536", "99999999999999999999", "1e3", "x", "10s", "-1s", "0s", "1ns", "200000h", "1GiB", "1B", "true", "null",
		"deny", "allow", "keep", "file:none", "${NONE}", "0.0.0.0/0", "http://", "http://[", "https://a.example/b?c=d", "[::1]:80", ":99999",
		"127.0.0.1:0", "/", "*", "/{", "{channel}", "redis", "rules", "any", "users", "jwt", "portal", "ES256", "HS256", "é\x00",
	}
	n := all[random.IntN(len(all))]
	switch random.IntN(8) {
	case 0: // take a part away
		if len(n.Content) > 1 {
			n.Content = slices.Delete(n.Content, 0, 2)
		}
	case 1: // give it twice
		if len(n.Content) > 1 {
			n.Content = append(n.Content, n.Content[:2]...)
		}
	case 2: // exchange two parts
		*n, *all[len(all)-1] = *all[len(all)-1], *n
	case 3: // make it a list
		*n = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: n.Value}}}
	default:
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: values[random.IntN(len(values))]}
	}
	mutated, err := yaml.Dump(&document)
	if err != nil { // a part inside itself, for example, cannot be written
		return mutate(t, text, random)
	}
	return mutated
}

// TestSettings_RandomMutations_LoaderAndNodeAgree tries mutations of valid files: a node can be built from whatever the
// loader accepts, and nothing panics.
func TestSettings_RandomMutations_LoaderAndNodeAgree(t *testing.T) {
	folder := t.TempDir()
	bases := mutationBases(t, folder)
	accepted := 0
	for seed := range uint64(200) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // repeatable
			text := mutate(t, bases[random.IntN(len(bases))], random)
			s := defaultSettings()
			if _, err := config.Parse("usher.yaml", text, s, config.Environment{Folder: folder}); err != nil {
				return
			}
			accepted++
			n, err := prepare(s, slog.New(slog.DiscardHandler), nil)
			if errors.Is(err, fs.ErrNotExist) { // the loader reads no files but those of secrets; validate builds the node too
				return
			}
			if err != nil {
				t.Fatalf("the loader accepts what no node can be built from: %v\n%s", err, text)
			}
			n.close()
		})
	}
	if accepted < 20 {
		t.Errorf("%d mutations are accepted, want at least 20", accepted)
	}
}

func TestValidate_WhatServeRefuses_Refused(t *testing.T) {
	for name, test := range map[string]struct{ backend, more, says string }{
		"a file of accounts that is missing": {"kind: users, file: /nowhere.yaml", "", ":6:3: backends.portal: make backend"},
		"a key that is missing":              {"kind: jwt, algorithms: [ES256], public_key_file: /nowhere.pem", "", ":6:3: backends.portal: make backend"},
		"a certificate that is missing": {
			"kind: iprules, rules: [ allow all ]", "tls: { cert_file: /nowhere.pem, key_file: /nowhere.key }", ":9:8: tls.cert_file: ",
		},
		"a port that does not exist": {"kind: iprules, rules: [ allow all ]", "listen: ':65536'", ":9:1: listen: "},
		"one address for two listeners": {
			"kind: iprules, rules: [ allow all ]", "listen: ':8081'\nadmin: { listen: ':8081', token: 0123456789abcdef }",
			":10:10: admin.listen: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := regexp.MustCompile(`portal: \{ .*`).ReplaceAllLiteralString(settingsFor("http://127.0.0.1:9"), "portal: { "+test.backend+" }")
			path := writeFile(t, text+test.more+"\n")
			code, _, errs := usher("validate", "--config", path)
			if code != exitFailed || !strings.Contains(errs, path+test.says) {
				t.Errorf("validate: exit code %d, %s; want 2 and %s", code, errs, test.says)
			}
			if code, _, _ := usher("serve", "--config", path); code != exitFailed {
				t.Errorf("serve: exit code %d, want 2", code)
			}
		})
	}
}
