package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"usher/backends/setting"
)

var update = flag.Bool("update", false, "write the messages that were found into testdata/*.want")

func compare() cmp.Options {
	return cmp.Options{
		cmpopts.EquateEmpty(), // an empty list is printed for none
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	}
}

// edited are the defaults with a change.
func edited(change func(s *settings)) *settings {
	s := defaults()
	change(s)
	return s
}

// TestParse_Values_Bounds reads numbers, durations and sizes at their bound, and refuses what is above it, as it refuses other values.
func TestParse_Values_Bounds(t *testing.T) {
	t.Parallel()
	var into struct {
		Sum   int64            `yaml:"sum"`
		Small int8             `yaml:"small"`
		Time  time.Duration    `yaml:"time"`
		Size  setting.ByteSize `yaml:"size"`
		Level slog.Level       `yaml:"level"`
	}
	const most = "sum: 100_000_000\nsmall: 127\ntime: 3650d\nsize: 1024TiB\nlevel: INFO"
	if _, err := Parse("f", []byte(most), &into, Environment{}); err != nil {
		t.Errorf("the largest values: %v", err)
	}
	const above = "sum: 100_000_001\nsmall: 127\ntime: 3650d1ns\nsize: 1025TiB\nlevel: ${LEVEL}"
	const want = `f:1:6: sum: 100000001 is too large; want at most 100000000
f:3:7: time: 87600h0m0.000000001s is too long; want at most 87600h0m0s, ten years
f:4:7: size: 1025TiB is too large; want at most 1024TiB`
	kept := into
	_, err := Parse("f", []byte(above), &into, Environment{Variables: []string{"LEVEL=INFO"}})
	if err == nil || err.Error() != want || into != kept {
		t.Errorf("got %v and %+v, want no change and\n%s", err, into, want)
	}
}

func TestParse_Values(t *testing.T) {
	t.Parallel()
	yes := true
	tests := map[string]struct {
		file string
		want *settings
	}{
		"an empty file as the defaults":       {"", defaults()},
		"a file of comments as the defaults":  {"# nothing yet\n---\n", defaults()},
		"an empty section as its defaults":    {"cache:\n  # max_bytes: 1\ncluster:\norigins:\nroutes:\n", defaults()},
		"a byte order mark":                   {"\ufefflisten: a\n", edited(func(s *settings) { s.Listen = "a" })},
		"carriage returns":                    {"cache:\r\n  ratio: 0.25\r\n", edited(func(s *settings) { s.Cache.Ratio = 0.25 })},
		"a directive before its one document": {"%YAML 1.2\n---\nlisten: a\n", edited(func(s *settings) { s.Listen = "a" })},
		"a number or a word of YAML as a text": {"listen: 0123\nlabels: {a: true, b: 1.50, c: yes}\n", edited(func(s *settings) {
			s.Listen = "0123"
			s.Labels = map[string]string{"a": "true", "b": "1.50", "c": "yes"}
		})},
		"a quoted text as a number": {"cache: {max_bytes: \"1_000\", ratio: '1'}\n", edited(func(s *settings) { s.Cache.MaxBytes = 1000; s.Cache.Ratio = 1 })},
		"a block of text":           {"listen: |\n  a\n  b\n", edited(func(s *settings) { s.Listen = "a\nb\n" })},
		"days":                      {"cache: {keep_for: 1d12h}\n", edited(func(s *settings) { s.Cache.KeepFor = 36 * time.Hour })},
		"a pointer to a scalar":     {"admin: {debug: true}\n", edited(func(s *settings) { s.Admin.Debug = &yes })},
		"addresses, ranges and bare addresses": {
			"admin: {listen: '[::1]:1'}\ntrusted_proxies: [192.0.2.7, 2001:db8::/48]\n",
			edited(func(s *settings) {
				s.Admin.Listen = netip.MustParseAddrPort("[::1]:1")
				s.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/48")}
			}),
		},
		"a map's entry over its type's defaults": {
			"origins: {a: {url: u}, b: , c: {timeout: 1s}}\n",
			edited(func(s *settings) {
				s.Origins = map[string]originSettings{"a": {"u", 5 * time.Second}, "b": {"", 5 * time.Second}, "c": {"", time.Second}}
			}),
		},
		"a map and a list in place of the default's": {
			"labels: {line: x}\ncluster: {redis: {addresses: [a, b]}}\n",
			edited(func(s *settings) {
				s.Labels = map[string]string{"line": "x"}
				s.Cluster.Redis = &redisSettings{Addresses: []string{"a", "b"}}
			}),
		},
		"a section behind a pointer over its type's defaults": {
			"cluster: {redis: {password: p}}\n",
			edited(func(s *settings) {
				s.Cluster.Redis = &redisSettings{Addresses: []string{"127.0.0.1:6379"}, Password: "p"}
			}),
		},
		"a list's items over their type's defaults": {
			"routes:\n  - path: /a\n  - { path: /b, carry: none }\n",
			edited(func(s *settings) { s.Routes = []routeSettings{{"/a", "path"}, {"/b", "none"}} }),
		},
		"a kind's own keys beside the common ones, wherever the kind stands": {
			"backends:\n  a: { address: x, kind: portal }\n  b: { kind: list, users: [u], timeout: 1s }\n",
			edited(func(s *settings) {
				s.Backends = map[string]*backendSettings{
					"a": {"portal", 3 * time.Second, &portalSettings{Address: "x", Retries: 1}},
					"b": {"list", time.Second, &listSettings{Users: []string{"u"}}},
				}
			}),
		},
		"keys of a type that reads its texts itself": {
			"statuses: {none: -128}\n",
			edited(func(s *settings) { s.Statuses = map[carry]int8{"none": -128} }),
		},
		"anchors, merges and the place where they live": {
			"x-slow: &slow { timeout: 9s, url: base }\norigins:\n  a: *slow\n  b: { <<: *slow, url: own }\n  c:\n    url: own\n    <<: [*slow]\n",
			edited(func(s *settings) {
				s.Origins = map[string]originSettings{
					"a": {"base", 9 * time.Second}, "b": {"own", 9 * time.Second}, "c": {"own", 9 * time.Second},
				}
			}),
		},
		"variables, defaults and escapes": {
			"listen: \"${HOST}:${PORT:-80}${NIL:-}\"\nlabels: {price: $$5, lone: a$b, both: \"$${HOST}\", braces: \"{channel}$\"}\ncache: {ratio: \"${RATIO}\"}\n",
			edited(func(s *settings) {
				s.Listen, s.Cache.Ratio = "h$$h:80", 0.75
				s.Labels = map[string]string{"price": "$5", "lone": "a$b", "both": "${HOST}", "braces": "{channel}$"}
			}),
		},
		"a section that is given as a text, with a variable in it": {
			"hosts: [ a, \"${HOST}\", { name: b, port: 81 } ]\n",
			edited(func(s *settings) { s.Hosts = []hostSettings{{"a", 0}, {"h$$h", 0}, {"b", 81}} }),
		},
		"a secret from a variable as it is": {
			"admin: { token: \"${FILE}\" }\n",
			edited(func(s *settings) { s.Admin.Token = "$${HOST}file:key" }),
		},
	}
	environment := Environment{Variables: []string{"HOST=old", "HOST=h$$h", "RATIO=0.75", "NIL=", "FILE=$${HOST}file:key"}}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := defaults()
			if _, err := Parse("usher.yaml", []byte(test.file), got, environment); err != nil {
				t.Fatalf("Parse: %v, want no problem", err)
			}
			if diff := cmp.Diff(test.want, got, compare()); diff != "" {
				t.Errorf("Parse differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestParse_EmptyList_Given tells a list without entries from none.
func TestParse_EmptyList_Given(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]bool{"trusted_proxies: []\n": true, "trusted_proxies:\n": false, "": false} {
		got := defaults()
		if _, err := Parse("usher.yaml", []byte(file), got, Environment{}); err != nil || (got.Trusted != nil) != want {
			t.Errorf("%q: got %#v and error %v, want a list: %t", file, got.Trusted, err, want)
		}
	}
}

// TestParse_Errors compares every message for a file of testdata, and that none shows a secret: the files use the word
// swordfish-9x2 for those.
func TestParse_Errors(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("Glob = %d files, %v, want at least 10", len(files), err)
	}
	environment := Environment{Folder: "testdata", Variables: []string{"SECRET=swordfish-9x2", "EMPTY="}}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(file), data, defaults(), environment)
			if err == nil {
				t.Fatal("Parse = no problem, want one")
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".want", err.Error()+"\n")
			if strings.Contains(err.Error(), "swordfish-9x2") {
				t.Errorf("a message shows a secret:\n%s", err)
			}
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", file, diff)
	}
}

// TestParse_AliasesOfUnknownKeys_Bounded checks that a section of unknown keys that many aliases name does not fill the memory
// with problems.
func TestParse_AliasesOfUnknownKeys_Bounded(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("x-base: &b\n")
	for i := range 20_000 {
		fmt.Fprintf(&text, "  k%d: 1\n", i)
	}
	text.WriteString("origins:\n")
	for i := range 200 {
		fmt.Fprintf(&text, "  o%d: *b\n", i)
	}
	_, err := Parse("f", []byte(text.String()), defaults(), Environment{})
	problems, _ := errors.AsType[Problems](err)
	if len(problems) == 0 || !strings.Contains(err.Error(), "more than 250000 settings") {
		t.Errorf("got %d problems, want one of too many settings", len(problems))
	}
}

// TestParse_ManyMerges_NoKeyLeftOut checks that no key is left out in silence where more keys are merged than the bound allows.
func TestParse_ManyMerges_NoKeyLeftOut(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("x-base: &b\n")
	for i := range 20_000 {
		fmt.Fprintf(&text, "  k%d: 1\n", i)
	}
	for i := range 13 {
		fmt.Fprintf(&text, "x-%d: { <<: *b }\n", i)
	}
	text.WriteString("x-origin: &o { url: u }\norigins: { a: { <<: *o } }\n")
	s := defaults()
	_, err := Parse("f", []byte(text.String()), s, Environment{})
	if err == nil && s.Origins["a"].URL != "u" {
		t.Error("Parse = no problem and an origin without its merged URL, want the URL or a problem")
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("token", "swordfish-9x2\n")
	t.Run("takes the paths of secrets from the file's folder", func(t *testing.T) {
		t.Parallel()
		s := defaults()
		source, err := Load(write("good.yaml", "admin: { token: file:token }\n"), s, Environment{})
		if err != nil || s.Admin.Token != "swordfish-9x2" || len(source.Warnings()) != 0 {
			t.Errorf("Load = %v, token %q, warnings %v, want the file's text and no warning", err, s.Admin.Token.Reveal(), source.Warnings())
		}
	})
	t.Run("names the file as it was given", func(t *testing.T) {
		t.Parallel()
		path := write("bad.yaml", "lisen: x\n")
		_, err := Load(path, defaults(), Environment{})
		if err == nil || !strings.HasPrefix(err.Error(), path+`:1:1: lisen: unknown key; did you mean "listen"?`) {
			t.Errorf("Load = %v, want the problem at %s:1:1", err, path)
		}
	})
	t.Run("says that the file is missing", func(t *testing.T) {
		t.Parallel()
		source, err := Load(filepath.Join(folder, "none.yaml"), defaults(), Environment{})
		if !errors.Is(err, fs.ErrNotExist) || source != nil {
			t.Errorf("Load = %v, want a missing file", err)
		}
	})
	t.Run("refuses a file that is no config by its size", func(t *testing.T) {
		t.Parallel()
		_, err := Load(write("large.yaml", strings.Repeat("#", maxFileBytes+1)), defaults(), Environment{})
		if err == nil || !strings.HasSuffix(err.Error(), "is larger than 1048576 bytes") {
			t.Errorf("Load = %v, want the bound named", err)
		}
	})
}

// TestLoad_NoRegularFile_Refused checks that nothing is waited for that gives no file, or none to its end.
func TestLoad_NoRegularFile_Refused(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a folder": folder, "a pipe": pipe, "a device": "/dev/zero"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := path + " is no regular file"
			if _, err := Load(path, defaults(), Environment{}); err == nil || err.Error() != "read the config: "+want {
				t.Errorf("as the settings: got %v, want %s", err, want)
			}
			_, err := Parse("f", []byte("admin: { token: \"file:"+path+"\" }"), defaults(), Environment{})
			if err == nil || err.Error() != "f:1:17: admin.token: read the secret: "+want {
				t.Errorf("as a secret's: got %v, want %s", err, want)
			}
		})
	}
}

func TestSource_Locate(t *testing.T) {
	t.Parallel()
	file := "listen: a\nroutes:\n  - path: /a\n  - path: /b\n    carry: none\norigins:\n  \"a.b\": { url: u }\n"
	source, err := Parse("f", []byte(file), defaults(), Environment{})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path         string
		line, column int
	}{
		"a key":                          {"listen", 1, 1},
		"a key in a list's item":         {"routes[1].carry", 5, 5},
		"a key that the item leaves out": {"routes[0].carry", 3, 5},
		"an item that the list lacks":    {"routes[7].carry", 2, 1},
		"a quoted key":                   {`origins["a.b"].url`, 7, 12},
		"a missing key of a quoted one":  {`origins["a.b"].timeout`, 7, 3},
		"a key that the file lacks":      {"cache.max_bytes", 1, 1},
		"the top level":                  {"", 1, 1},
		"what is no path":                {"]][[..", 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if at := source.locate(test.path); at.Line != test.line || at.Column != test.column {
				t.Errorf("locate(%q) = %d:%d, want %d:%d", test.path, at.Line, at.Column, test.line, test.column)
			}
		})
	}
}

func TestLoad_SecretFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, text := range map[string]string{"key": "swordfish-9x2\r\n", "bare": "swordfish-9x2", "bytes": "\x80\xff\x00rdfish-9x2", "empty": "\n", "large": strings.Repeat("k", maxSecretBytes+1)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "open"), []byte("swordfish-9x2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(folder, "open"), 0o644); err != nil { // past the umask
		t.Fatal(err)
	}
	const inVariable = "the value of the variable begins with file:, which is not read there; write file:${NAME}, and have the variable hold the path alone"
	tests := map[string]struct{ text, want, warning, err string }{
		"without its newline":           {text: "file:key", want: "swordfish-9x2"},
		"that has no newline":           {text: "file:bare", want: "swordfish-9x2"},
		"of any bytes":                  {text: "file:bytes", want: "\x80\xff\x00rdfish-9x2"},
		"by an absolute path":           {text: "file:" + folder + "/key", want: "swordfish-9x2"},
		"in a folder out of a variable": {text: "file:${FOLDER}/key", want: "swordfish-9x2"},
		"that everybody can read":       {text: "file:open", want: "swordfish-9x2", warning: "f:1:17: admin.token: every user of this machine can read " + folder + "/open; take that away with chmod o-r"},
		"that is missing":               {text: "file:none", err: "read the secret: stat " + folder + "/none: no such file or directory"},
		"that is empty":                 {text: "file:empty", err: "read the secret: " + folder + "/empty is empty"},
		"that is too large":             {text: "file:large", err: "read the secret: " + folder + "/large is larger than 65536 bytes"},
		"that is a folder":              {text: "file:.", err: "read the secret: " + folder + " is no regular file"},
		"without a name":                {text: "file:", err: "file: names no file, want file:PATH"},
		"by a default":                  {text: "${UNSET:-file:key}", want: "swordfish-9x2"},
		"by defaults in parts":          {text: "${UNSET:-}${UNSET:-file:}${FOLDER}/key", want: "swordfish-9x2"},
		"by a default that is missing":  {text: "${UNSET:-file:none}", err: "read the secret: stat " + folder + "/none: no such file or directory"},
		"by the value of a variable":    {text: "${FILE:-x}", err: inVariable},
		"by a value behind nothing":     {text: "${UNSET:-}${FILE}", err: inVariable},
		"by a value in parts":           {text: "${UNSET:-fi}${LE}", err: inVariable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := defaults()
			source, err := Parse("f", []byte("admin: { token: \""+test.text+"\" }"), s,
				Environment{Folder: folder, Variables: []string{"FOLDER=" + folder, "FILE=file:key", "LE=le:key"}})
			if got := s.Admin.Token.Reveal(); got != test.want {
				t.Errorf("token = %q, want %q", got, test.want)
			}
			if got := source.Warnings().Error(); got != test.warning {
				t.Errorf("warnings = %q, want %q", got, test.warning)
			}
			if want := "f:1:17: admin.token: " + test.err; test.err != "" && (err == nil || err.Error() != want) {
				t.Errorf("error = %v\nwant    %s", err, want)
			}
		})
	}
}

// TestParse_ErrorsHideSecrets puts one wherever an operator might by mistake.
func TestParse_ErrorsHideSecrets(t *testing.T) {
	t.Parallel()
	const secret = "swordfish-9x2"
	places := map[string]string{
		"a variable in a number":            "cache: {max_bytes: \"${SECRET}\"}",
		"a variable in a type of its own":   "routes: [{path: /, carry: \"${SECRET}\"}]",
		"a variable in a kind":              "backends: {a: {kind: \"${SECRET}\"}}",
		"a text where a section belongs":    "admin: swordfish-9x2",
		"a text where a list belongs":       "routes: swordfish-9x2",
		"a list where a secret belongs":     "admin: {token: [swordfish-9x2]}",
		"a section where a secret belongs":  "admin: {token: {a: swordfish-9x2}}",
		"an open quote":                     "admin: {token: \"swordfish-9x2}",
		"an open reference":                 "admin: {token: \"${swordfish-9x2\"}",
		"a bad reference":                   "admin: {token: \"${swordfish-9x2!}\"}",
		"broken indentation":                "admin:\n  token: swordfish-9x2\n   listen: x",
		"a second value":                    "admin: {token: 'swordfish-9x2' 'swordfish-9x2'}",
		"a tab":                             "admin:\n\ttoken: swordfish-9x2",
		"the value of a section's override": "cache: {max_bytes: x}",
	}
	for name, file := range places {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			environment := Environment{Variables: []string{"SECRET=" + secret, "USHER_NO_SUCH=" + secret}}
			_, err := Parse("f", []byte(file), defaults(), environment)
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("Parse = %v, want a problem that does not say %s", err, secret)
			}
		})
	}
}
