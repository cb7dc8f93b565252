package main_test

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "usher"

// importEdge is one import: file, relative to the repository's root, depends on the package imported.
type importEdge struct{ file, imported string }

func (a importEdge) isTest() bool   { return strings.HasSuffix(a.file, "_test.go") }
func (a importEdge) folder() string { return path.Dir(a.file) }

// siblings returns the folders of this module that a folder may import. Its own entry counts or, without one, the longest
// entry of a parent. An entry that ends in "/..." means the folder and all below it. Folders without an entry import nothing.
func siblings() map[string][]string {
	// backends is the vocabulary of checks, actors/session of sessions, and backends/setting of settings. Every package may
	// import them.
	const backends, session, setting = "backends", "actors/session", "backends/setting"
	// mac computes the keyed hashes of the packages that sign or hash at each request.
	const mac = "backends/mac"
	// socket reads and writes the sockets of viewers and middlewares.
	const socket = "backends/socket"
	// redisclient is the Redis client of all folders of cluster.
	const redisclient = "cluster/redisclient"
	return map[string][]string{
		"backends":                       {},
		"backends/setting":               {},
		mac:                              {},
		socket:                           {},
		"backends/chain":                 {backends, setting},
		"backends/httpbackend":           {backends, setting, "backends/httpbackend/signature", "backends/httpbackend/plainhttp"},
		"backends/httpbackend/signature": {setting},
		"backends/httpbackend/plainhttp": {socket},
		// A query that two adapters send.
		"backends/httpbackend/flussonicquery": {backends, "backends/httpbackend"},
		"backends/backendtest":                {backends, setting, "backends/chain", "backends/httpbackend"},
		// Test support imports no backends.
		"backends/backendtest/testbrowser": {"backends/backendtest/testflags"},
		// An adapter imports no other adapter. A composite gets its members as values.
		"backends/...":   {backends, setting, "backends/httpbackend/..."},
		"actors/session": {backends, setting},
		"actors/...":     {backends, setting, session, "actors/..."},
		"gateway/...":    {backends, setting, session, mac, "gateway/..."},
		// Its connections are sockets.
		"gateway/front/plain": {"gateway", "gateway/listener", "gateway/origin", socket},
		// The gateway imports edge, and extauthz imports both.
		"gateway/edge":           {backends, setting, "gateway/evictions"},
		"gateway/edge/extauthz":  {setting, "gateway", "gateway/edge", "gateway/listener"},
		"gateway/ticket":         {backends, setting, session, mac},
		"gateway/reference":      {backends, setting, mac, "gateway/hls"},
		"gateway/enforcement":    {backends, "gateway/evictions"},
		"gateway/evictions":      {},
		"gateway/gatewaytest":    {},
		"gateway/memory":         {backends},
		"gateway/upstream":       {setting},
		"gateway/admin/access":   {setting},
		"gateway/admin/audit":    {"gateway/admin/access"},
		"gateway/admin/openapi":  {},
		"gateway/admin/overview": {backends},
		"gateway/admin/page":     {setting, backends, "gateway/admin/access", "gateway/admin/audit"},
		// The root joins its folders. They import only the Redis client, which imports none of them.
		"cluster":             {backends, setting, session, "cluster/events", "cluster/known", "cluster/limits", "cluster/matches", "cluster/reports", redisclient},
		"cluster/...":         {backends, setting, session, redisclient},
		"cluster/redisclient": {backends, setting, mac},
		"cluster/redistest":   {"backends/backendtest/testproc"},
		// The bench uses a gateway by its URL, and provides the middleware.
		"bench/...": {backends, setting, "backends/backendtest", "bench/..."},
		// The simulation runs the sessions of nodes in this process.
		"bench/simulate":      {backends, session, "backends/chain", "actors", "cluster", "bench/process", "bench/record", "bench/result"},
		"bench/stage/...":     {backends, setting, "backends/backendtest", "bench/stage/..."},
		"deploy/stage":        {"backends/backendtest", "bench/stage"},
		"deploy/packages/...": {"bench/strict"},
		"cmd/usher/...":       {"backends/...", "gateway/...", "actors/...", "cluster/...", "bench/...", "cmd/usher/..."},
		"cmd/usher/config":    {backends, setting},
		"cmd/usher-bench/...": {backends, setting, "backends/backendtest", "bench/...", "cmd/usher-bench/..."},
	}
}

// inTests returns the packages that every test may import: the vocabularies, the chain, test support, and the fake middleware
// and origin, and ports that are reserved for processes.
func inTests() []string {
	return []string{
		"backends", "backends/setting", "backends/chain", "backends/httpbackend", "actors/session", "backends/backendtest/...", "bench/stage",
		"bench/process", "cluster/redistest", "gateway/gatewaytest", "cmd/usher/config",
	}
}

// libraryRule bounds who may import a third-party library.
type libraryRule struct {
	library string
	// importers are folders ("actors/...") or files ("backends/chain/breaker.go") that may import it.
	importers []string
	// inAllTests allows it in every test; testsIn is where tests may import it otherwise.
	inAllTests bool
	testsIn    string
}

func libraryRules() []libraryRule {
	return []libraryRule{
		{library: "github.com/asynkron/protoactor-go", importers: []string{"actors/..."}},
		// Tests read and break what Redis holds.
		{library: "github.com/redis/go-redis", importers: []string{"cluster/redisclient", "cluster/redistest"}, testsIn: "cluster/..."},
		{library: "github.com/redis/rueidis", importers: []string{"cluster/redisclient"}},
		{library: "github.com/sony/gobreaker", importers: []string{"backends/chain/breaker.go", "cluster/redisclient/breaker.go"}},
		{library: "go.etcd.io/bbolt", importers: []string{"cluster/events/ban_file.go", "actors/records/spool.go"}, inAllTests: true},
		{library: "gopkg.in/natefinch/lumberjack", importers: []string{"actors/records/file.go"}},
		{library: "go.opentelemetry.io/otel/sdk", importers: []string{"cmd/..."}, inAllTests: true},
		{library: "go.opentelemetry.io/otel/exporters", importers: []string{"cmd/..."}, inAllTests: true},
		{library: "go.opentelemetry.io/contrib", importers: []string{"cmd/..."}, inAllTests: true},
		{library: "go.yaml.in/yaml", importers: []string{"cmd/usher/config", "backends/users", "bench/rig", "bench/scenario"}, testsIn: "cmd/usher/..."},
		{library: "golang.org/x/crypto", importers: []string{"backends/users"}, inAllTests: true},
		{library: "github.com/golang-jwt/jwt", importers: []string{"backends/jwt"}},
		{library: "github.com/MicahParks/jwkset", importers: []string{"backends/jwt"}},
		{library: "google.golang.org/grpc", importers: []string{"gateway/edge/extauthz", "bench/viewer/edge"}, inAllTests: true},
		{library: "github.com/envoyproxy/go-control-plane", importers: []string{"gateway/edge/extauthz", "bench/viewer/edge"}, inAllTests: true},
		{library: "github.com/prometheus/client_golang", importers: []string{"gateway/admin/...", "bench/report"}, inAllTests: true},
		{library: "github.com/getkin/kin-openapi", testsIn: "gateway/admin"},
		{library: "github.com/pires/go-proxyproto", importers: []string{"gateway/listener"}},
		{library: "github.com/coreos/go-systemd", importers: []string{"cmd/usher/systemd"}},
		{library: "github.com/alecthomas/kong", importers: []string{"cmd/..."}, inAllTests: true},
	}
}

// covers reports whether a pattern of the tables matches the folder or file.
func covers(pattern, name string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == below || strings.HasPrefix(name, below+"/")
	}
	return pattern == name
}

func anyCovers(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, name) })
}

// forbidden returns a complaint for each import that the design does not have, sorted.
func forbidden(arrows []importEdge) []string {
	var complaints []string
	for _, a := range arrows {
		if ours, ok := strings.CutPrefix(a.imported, module+"/"); ok {
			if !mayImport(a, ours) {
				complaints = append(complaints, fmt.Sprintf("%s imports %s", a.file, a.imported))
			}
			continue
		}
		for _, r := range libraryRules() {
			if covers(r.library+"/...", a.imported) && !r.allows(a) {
				complaints = append(complaints, fmt.Sprintf("%s imports %s, which stays in %s",
					a.file, a.imported, r.home()))
			}
		}
	}
	slices.Sort(complaints)
	return slices.Compact(complaints)
}

// home names where the library may be imported.
func (r libraryRule) home() string {
	if len(r.importers) == 0 {
		return "tests of " + r.testsIn
	}
	return strings.Join(r.importers, ", ")
}

func mayImport(a importEdge, ours string) bool {
	if ours == a.folder() { // an external test imports what it tests
		return a.isTest()
	}
	if a.isTest() && anyCovers(inTests(), ours) {
		return true
	}
	allowed, exact := siblings()[a.folder()]
	if exact {
		return anyCovers(allowed, ours)
	}
	best := ""
	for pattern, may := range siblings() {
		if covers(pattern, a.folder()) && len(pattern) > len(best) {
			best, allowed = pattern, may
		}
	}
	return anyCovers(allowed, ours)
}

func (r libraryRule) allows(a importEdge) bool {
	return a.isTest() && (r.inAllTests || covers(r.testsIn, a.folder())) || anyCovers(r.importers, a.folder()) || slices.Contains(r.importers, a.file)
}

// unknownNames returns the names of the top level that the design does not have.
func unknownNames(topLevel []string) []string {
	known := []string{
		"cmd", "actors", "gateway", "backends", "cluster", "bench", "deploy", "go.mod", "go.sum", "README.md", "LICENSE",
	}
	return slices.DeleteFunc(slices.Clone(topLevel), func(name string) bool {
		return strings.HasPrefix(name, ".") || slices.Contains(known, name)
	})
}

func TestRepository_FindsForbiddenImports(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		arrows []importEdge
		want   []string
	}{
		"the standard library and free libraries": {
			[]importEdge{{"gateway/request.go", "net/http"}, {"actors/timer_wheel.go", "golang.org/x/time/rate"}, {"backends/a.go", "go.opentelemetry.io/otel/trace"}}, nil,
		},
		"every package may import the vocabulary": {
			[]importEdge{{"gateway/hls/a.go", "usher/backends"}, {"actors/a.go", "usher/backends"}, {"cluster/a.go", "usher/backends"}, {"backends/jwt/a.go", "usher/backends"}, {"bench/a.go", "usher/backends"}, {"cmd/usher/a.go", "usher/backends"}}, nil,
		},
		"the root of cluster joins its folders, which import the Redis client": {
			[]importEdge{{"cluster/a.go", "usher/cluster/events"}, {"cluster/a.go", "usher/cluster/limits"}, {"cluster/a.go", "usher/cluster/redisclient"}, {"cluster/limits/a.go", "usher/cluster/redisclient"}, {"cluster/events/a.go", "usher/actors/session"}, {"cluster/limits/a_test.go", "usher/cluster/redistest"}}, nil,
		},
		"the folders of cluster do not import one another": {
			[]importEdge{{"cluster/events/a.go", "usher/cluster/limits"}, {"cluster/limits/a.go", "usher/cluster"}, {"cluster/redisclient/a.go", "usher/cluster/events"}, {"cluster/redisclient/b.go", "usher/actors/session"}, {"cluster/a.go", "usher/cluster/redistest"}},
			[]string{"cluster/a.go imports usher/cluster/redistest", "cluster/events/a.go imports usher/cluster/limits", "cluster/limits/a.go imports usher/cluster", "cluster/redisclient/a.go imports usher/cluster/events", "cluster/redisclient/b.go imports usher/actors/session"},
		},
		"a tree may import its own": {
			[]importEdge{{"gateway/a.go", "usher/gateway/hls"}, {"gateway/hls/a.go", "usher/gateway/origin"}, {"bench/a.go", "usher/bench/stage"}}, nil,
		},
		"siblings may not import one another": {
			[]importEdge{{"gateway/a.go", "usher/actors"}, {"actors/a.go", "usher/cluster"}, {"cluster/a.go", "usher/gateway/hls"}},
			[]string{"actors/a.go imports usher/cluster", "cluster/a.go imports usher/gateway/hls", "gateway/a.go imports usher/actors"},
		},
		"siblings' tests may not import one another": {
			[]importEdge{{"gateway/a_test.go", "usher/actors"}}, []string{"gateway/a_test.go imports usher/actors"},
		},
		"the vocabulary imports nothing of this module": {
			[]importEdge{{"backends/a.go", "usher/backends/jwt"}, {"backends/b.go", "usher/gateway/hls"}},
			[]string{"backends/a.go imports usher/backends/jwt", "backends/b.go imports usher/gateway/hls"},
		},
		"adapters do not import one another": {
			[]importEdge{{"backends/smarty/a.go", "usher/backends/httprequest"}},
			[]string{"backends/smarty/a.go imports usher/backends/httprequest"},
		},
		"only cmd imports the adapters": {
			[]importEdge{{"cmd/usher/a.go", "usher/backends/jwt"}, {"cmd/usher/e2e/a_test.go", "usher/actors"}, {"gateway/a.go", "usher/backends/jwt"}},
			[]string{"gateway/a.go imports usher/backends/jwt"},
		},
		"edge does not import the gateway": {
			[]importEdge{{"gateway/a.go", "usher/gateway/edge"}, {"gateway/edge/a.go", "usher/gateway"}, {"gateway/edge/extauthz/a.go", "usher/gateway"}},
			[]string{"gateway/edge/a.go imports usher/gateway"},
		},
		"no package imports cmd, and no command another": {
			[]importEdge{{"cmd/usher/a.go", "usher/cmd/usher/config"}, {"gateway/a.go", "usher/cmd/usher/config"}, {"cmd/usher-bench/a.go", "usher/cmd/usher/config"}},
			[]string{"cmd/usher-bench/a.go imports usher/cmd/usher/config", "gateway/a.go imports usher/cmd/usher/config"},
		},
		"the config loader knows no settings": {
			[]importEdge{{"cmd/usher/config/a.go", "usher/gateway"}}, []string{"cmd/usher/config/a.go imports usher/gateway"},
		},
		"the stage imports the fake middleware at most": {
			[]importEdge{{"bench/stage/a.go", "usher/backends/backendtest"}, {"bench/stage/b.go", "usher/gateway/hls"}, {"bench/stage/c.go", "usher/bench"}},
			[]string{"bench/stage/b.go imports usher/gateway/hls", "bench/stage/c.go imports usher/bench"},
		},
		"tests may use the fakes, and import what they test": {
			[]importEdge{{"backends/jwt/a_test.go", "usher/backends/backendtest"}, {"gateway/a_test.go", "usher/bench/stage"}, {"gateway/b_test.go", "usher/backends/backendtest/testproc"}, {"cluster/a_test.go", "usher/cluster"}}, nil,
		},
		"the fakes are for tests": {
			[]importEdge{{"gateway/a.go", "usher/backends/backendtest"}}, []string{"gateway/a.go imports usher/backends/backendtest"},
		},
		"a folder that the design does not have": {
			[]importEdge{{"helpers/a.go", "usher/backends"}}, []string{"helpers/a.go imports usher/backends"},
		},
		"libraries where they are allowed": {
			[]importEdge{{"actors/a.go", "github.com/asynkron/protoactor-go/actor"}, {"cluster/redisclient/a.go", "github.com/redis/go-redis/v9"}, {"cluster/a_test.go", "github.com/redis/go-redis/v9"}, {"backends/chain/breaker.go", "github.com/sony/gobreaker/v2"}, {"cluster/redisclient/breaker.go", "github.com/sony/gobreaker/v2"}, {"cmd/usher/a.go", "go.opentelemetry.io/otel/sdk/trace"}, {"actors/a_test.go", "go.opentelemetry.io/otel/sdk/trace/tracetest"}}, nil,
		},
		"libraries elsewhere": {
			[]importEdge{{"gateway/a_test.go", "github.com/asynkron/protoactor-go/actor"}, {"actors/b.go", "github.com/redis/go-redis/v9"}, {"actors/c_test.go", "github.com/redis/go-redis/v9"}, {"cluster/d.go", "github.com/redis/go-redis/v9"}, {"cluster/redisclient/pipeline.go", "github.com/sony/gobreaker/v2"}, {"backends/chain/bulkhead.go", "github.com/sony/gobreaker/v2"}, {"gateway/d.go", "go.opentelemetry.io/otel/sdk/trace"}, {"gateway/admin/a.go", "github.com/getkin/kin-openapi/openapi3"}, {"gateway/admin/a_test.go", "github.com/getkin/kin-openapi/openapi3"}},
			[]string{
				"actors/b.go imports github.com/redis/go-redis/v9, which stays in cluster/redisclient, cluster/redistest",
				"actors/c_test.go imports github.com/redis/go-redis/v9, which stays in cluster/redisclient, cluster/redistest",
				"backends/chain/bulkhead.go imports github.com/sony/gobreaker/v2, which stays in backends/chain/breaker.go, cluster/redisclient/breaker.go",
				"cluster/d.go imports github.com/redis/go-redis/v9, which stays in cluster/redisclient, cluster/redistest",
				"cluster/redisclient/pipeline.go imports github.com/sony/gobreaker/v2, which stays in backends/chain/breaker.go, cluster/redisclient/breaker.go",
				"gateway/a_test.go imports github.com/asynkron/protoactor-go/actor, which stays in actors/...",
				"gateway/admin/a.go imports github.com/getkin/kin-openapi/openapi3, which stays in tests of gateway/admin",
				"gateway/d.go imports go.opentelemetry.io/otel/sdk/trace, which stays in cmd/...",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, forbidden(test.arrows)); diff != "" {
				t.Errorf("forbidden differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRepository_FindsUnknownTopLevelNames(t *testing.T) {
	t.Parallel()
	got := unknownNames([]string{".ci", "LICENSE", "Makefile", "README.md", "actors", "cmd", "go.mod", "internal", "pkg"})
	if diff := cmp.Diff([]string{"Makefile", "internal", "pkg"}, got); diff != "" {
		t.Errorf("unknown names (-want +got):\n%s", diff)
	}
}

func TestRepository_ImportsAreAllowed(t *testing.T) {
	t.Parallel()
	arrows := readArrows(t, root(t))
	if len(arrows) < 50 {
		t.Fatalf("only %d imports were found", len(arrows))
	}
	for _, complaint := range forbidden(arrows) {
		t.Error(complaint)
	}
}

func TestRepository_TopLevelIsFixed(t *testing.T) {
	t.Parallel()
	names := topLevel(t, root(t))
	if !slices.Contains(names, "go.mod") {
		t.Fatalf("the top level was not found: %q", names)
	}
	if unknown := unknownNames(names); len(unknown) > 0 {
		t.Errorf("the top level has %q, which the design does not have", unknown)
	}
}

// root returns the repository's root folder.
func root(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// readArrows reads the imports of every Go file, including those excluded by build constraints.
func readArrows(t *testing.T, root string) []importEdge {
	t.Helper()
	var arrows []importEdge
	files := os.DirFS(root)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, data, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range parsed.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			arrows = append(arrows, importEdge{file: name, imported: imported})
		}
		return nil
	})
	if err != nil {
		t.Fatalf("read the imports: %v", err)
	}
	return arrows
}

// topLevel lists the top-level names that git tracks or would add, or all of them without git, as in a source archive.
func topLevel(t *testing.T, root string) []string {
	t.Helper()
	names := map[string]bool{}
	list := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if out, err := list.Output(); err == nil && len(out) > 0 {
		for file := range bytes.SplitSeq(bytes.Trim(out, "\x00"), []byte{0}) {
			first, _, _ := strings.Cut(string(file), "/")
			names[first] = true
		}
	} else {
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names[e.Name()] = true
		}
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted
}
