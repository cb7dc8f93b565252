package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"usher/bench/result"
	"usher/bench/rig"
	"usher/bench/scenario"
	"usher/bench/stage"
)

// readRun reads the report of a run.
func readRun(t *testing.T, file string) *result.Run {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := result.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// usher builds the program usher with the race detector, once.
var usher = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "usher-bench-test-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "usher")
	if out, err := exec.Command("go", "build", "-race", "-o", file, "usher/cmd/usher").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

// TestRun_Demo_Steady runs a scenario in an empty folder on a node with the race detector. How fast it is is the machine's matter.
func TestRun_Demo_Steady(t *testing.T) {
	folder := t.TempDir()
	binary, err := usher()
	if err != nil {
		t.Fatal(err)
	}
	c := runCmd{
		Scenario: "steady", Demo: true, For: 4 * time.Second, Set: []string{"viewers=40", "validity=1m"}, Usher: binary, Out: filepath.Join(folder, "out"),
	}
	if err := c.Run(t.Context()); err != nil && !errors.Is(err, errNotKept) {
		t.Fatal(err)
	}
	run := readRun(t, filepath.Join(folder, "out", "steady.json"))
	m := &run.Measurements[0]
	if m.Operations[result.Opening].Requests != 40 || m.Operations[result.Segment].Requests == 0 || m.Counts["decisions.backend"] < 40 {
		t.Errorf("%d openings, %d segments, counts %v; want 40 viewers who play", m.Operations[result.Opening].Requests,
			m.Operations[result.Segment].Requests, m.Counts)
	}
	if len(m.Assertions) == 0 {
		t.Error("nothing was expected")
	}
	for _, line := range m.Series.Lines {
		if last := len(line.Values) - 1; line.Name == "sessions.allowed" && line.Values[last] == nil {
			t.Error("the nodes were not read in the last second")
		}
	}
	for op, o := range m.Operations {
		delete(o.Errors, "no answer") // when the run ended: it is the machine's matter too
		if o.Failed() > 0 {
			t.Errorf("%s: failed %v", op, o.Errors)
		}
	}
	for _, a := range m.Assertions {
		if !a.Kept && !strings.HasPrefix(a.Text, "p99") && a.Text != "errors == 0" {
			t.Errorf("%s: got %s", a.Text, a.Got)
		}
	}
}

// hls serves a live channel below another path than the harness's own servers do, and counts the requests.
func hls(t *testing.T, requests *atomic.Int64) string {
	t.Helper()
	origin := http.StripPrefix("/live", stage.NewOrigin(stage.Config{SegmentDuration: time.Second}))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		origin.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// printed returns what a function prints to standard output.
func printed(t *testing.T, do func()) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer func(before *os.File) { os.Stdout = before }(os.Stdout)
	os.Stdout = f
	do()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRun_AgainstURL_InAlternation measures Usher, a peer and a server by its URL in turn.
func TestRun_AgainstURL_InAlternation(t *testing.T) {
	binary, err := usher()
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	c := runCmd{
		Scenario: "steady", For: 3 * time.Second, Set: []string{"viewers=20", "segment=1s", "validity=1s"}, Usher: binary, Rounds: 2, Out: t.TempDir(),
		Against: []string{"nginx-cache", "cdn=" + hls(t, &requests) + "/live/single/{channel}/index.m3u8"},
	}
	out := printed(t, func() {
		if err := c.Run(t.Context()); err != nil && !errors.Is(err, errNotKept) {
			t.Error(err)
		}
	})
	run := readRun(t, filepath.Join(c.Out, "steady.json"))
	var order []string
	for i := range run.Measurements {
		m := &run.Measurements[i]
		order = append(order, m.Target)
		if m.Operations[result.Opening].Failed() > 0 || m.Operations[result.Playlist].Requests == 0 {
			t.Errorf("%s: %+v; want viewers who play", m.Target, m.Operations)
		}
		if isJudged := len(m.Assertions) > 0; isJudged != (m.Target == "usher") {
			t.Errorf("%s: judged: %t", m.Target, isJudged)
		}
	}
	if want := []string{"usher", "nginx-cache", "cdn", "nginx-cache", "cdn", "usher"}; !slices.Equal(order, want) {
		t.Errorf("measured %v, want %v", order, want)
	}
	if requests.Load() == 0 {
		t.Error("the server of the URL had no request")
	}
	if !regexp.MustCompile(`Medians over the rounds \(least to most\), and as a ratio to usher\.\n(.*\n)*` +
		`  playlist p99 \(ms\) +cdn +[\d.e+]+ \([\d.e+]+ to [\d.e+]+\) +[\d.]+ \([\d.]+ to [\d.]+\)`).MatchString(out) {
		t.Errorf("no ratio to usher in:\n%s", out)
	}
}

// TestRun_TargetAgainstURL_Segments measures two servers of the operator's, with all that viewers fetch.
func TestRun_TargetAgainstURL_Segments(t *testing.T) {
	var requests atomic.Int64
	url := hls(t, &requests)
	c := runCmd{
		Scenario: "steady", For: 3 * time.Second, Set: []string{"viewers=5", "path=/live/play/{channel}/index.m3u8"}, Rounds: 1, Out: t.TempDir(),
		Target: []string{url}, Against: []string{url + "/live/single/{channel}/index.m3u8", "other=" + url},
	}
	err := c.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "is there twice") {
		t.Errorf("%v, want an error for two servers of one name", err)
	}
	c.Against[0] = "single=" + c.Against[0]
	if err := c.Run(t.Context()); err != nil && !errors.Is(err, errNotKept) {
		t.Fatal(err)
	}
	run := readRun(t, filepath.Join(c.Out, "steady.json"))
	for i, want := range []string{url, "single", "other"} {
		m := &run.Measurements[i]
		if m.Target != want || m.Operations[result.Segment] == nil || m.Operations[result.Segment].Requests == 0 || m.Operations[result.Opening].Failed() > 0 {
			t.Errorf("%s: %+v; want %s with segments", m.Target, m.Operations, want)
		}
	}
}

// TestRun_External_ExpectationFails measures a server that is not there by a scenario of the operator's own.
func TestRun_External_ExpectationFails(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "mine.yaml")
	text := "shows: A server that is not there.\nviewers: 5\nfor: 3s\nexpect: [ errors == 0, max(middleware.calls) <= 1 ]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := runCmd{Scenario: file, Target: []string{"http://127.0.0.1:1"}, Out: folder}
	if err := c.Run(t.Context()); !errors.Is(err, errNotKept) {
		t.Errorf("%v, want %v", err, errNotKept)
	}
	m := &readRun(t, filepath.Join(folder, "mine.json")).Measurements[0]
	if len(m.Assertions) != 1 || m.Assertions[0].Kept || m.Operations[result.Opening].Errors["refused"] == 0 {
		t.Errorf("assertions %v, errors %v; want errors == 0 to fail", m.Assertions, m.Operations[result.Opening].Errors)
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "not checked: max(middleware.calls) <= 1") {
		t.Errorf("notes %q do not tell what was not checked", notes)
	}
}

// TestRun_ServerHangs_ExpectationFails measures a server that answers a few requests and then none, for less time than a request may take.
func TestRun_ServerHangs_ExpectationFails(t *testing.T) {
	origin := stage.NewOrigin(stage.Config{SegmentDuration: time.Second})
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > 10 {
			<-r.Context().Done()
			return
		}
		origin.ServeHTTP(w, r)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("shows: a\nviewers: 5\nfor: 5s\narrive: 1s\nexpect: [ errors == 0, quiet.errors == 0 ]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := runCmd{Scenario: file, Target: []string{server.URL}, Out: t.TempDir()}
	if err := c.Run(t.Context()); !errors.Is(err, errNotKept) {
		t.Errorf("%v, want %v", err, errNotKept)
	}
	for _, a := range readRun(t, filepath.Join(c.Out, "mine.json")).Measurements[0].Assertions {
		if a.Kept {
			t.Errorf("%s: holds, got %s", a.Text, a.Got)
		}
	}
}

// TestRun_Middleware_Unasked has the harness run a middleware that the server never asks: it proves nothing of that server.
func TestRun_Middleware_Unasked(t *testing.T) {
	var requests atomic.Int64
	file := filepath.Join(t.TempDir(), "mine.yaml")
	text := "shows: a\nviewers: 3\nfor: 3s\npath: /live/play/{channel}/index.m3u8\nexpect: [ max(middleware.calls) <= 1 ]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := runCmd{Scenario: file, Target: []string{hls(t, &requests)}, Middleware: "127.0.0.1:0", Out: t.TempDir()}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--middleware=127.0.0.1:0: no server of yours asked it") {
		t.Errorf("%v, want that the middleware was not asked", err)
	}
}

// TestRun_Credentials_NotInReport gives credentials in every flag that takes one.
func TestRun_Credentials_NotInReport(t *testing.T) {
	folder := t.TempDir()
	const secret = "s3cret"
	arguments := os.Args
	os.Args = []string{"usher-bench", "run", "steady", "--token", secret, "--target=http://name:" + secret + "@127.0.0.1:1/?key=" + secret}
	t.Cleanup(func() { os.Args = arguments })
	metrics := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("usher_free_rides_total 0\n")) }))
	defer metrics.Close()
	c := runCmd{
		Scenario: "steady", Target: []string{"http://127.0.0.1:1"}, Token: secret, For: 3 * time.Second, Out: folder,
		Metrics: []string{metrics.URL + "/metrics?key=" + secret}, Set: []string{"viewers=1", "path=/{channel}?token=" + secret},
	}
	if err := c.Run(t.Context()); err == nil {
		t.Fatal("a server that is not there passed")
	}
	for _, name := range []string{"steady.json", "steady.html"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || strings.Contains(string(text), secret) {
			t.Errorf("%s: %v, or it holds a credential", name, err)
		}
	}
	if run := readRun(t, filepath.Join(folder, "steady.json")); !strings.Contains(run.Command, "run steady --token [hidden] '--target=http://[hidden]@127.0.0.1:1/?key=[hidden]'") {
		t.Errorf("command %q", run.Command)
	}
}

// TestRun_Flags_Errors names the flag or the setting that cannot be.
func TestRun_Flags_Errors(t *testing.T) {
	target := []string{"http://127.0.0.1:1"}
	for want, c := range map[string]runCmd{
		`unknown scenario "stady"; did you mean "steady"?`:                {Scenario: "stady"},
		`--set=viewrs=3: unknown knob; did you mean "viewers"?`:           {Scenario: "steady", Set: []string{"viewrs=3"}},
		"--set=viewers=x: want a whole number":                            {Scenario: "steady", Set: []string{"viewers=x"}},
		"--set=viewers: want NAME=VALUE":                                  {Scenario: "steady", Set: []string{"viewers"}},
		"nodes: 3 with redis: false: they would share nothing":            {Scenario: "steady", Set: []string{"nodes=3"}},
		`leaves no node alive, but "errors <= viewers" is expected`:       {Scenario: "node-loss", Set: []string{"nodes=1"}},
		"for: 1s is below 3s":                                             {Scenario: "steady", For: time.Second},
		"for: -5s is below 3s":                                            {Scenario: "steady", For: -5 * time.Second, Usher: "none"},
		"for: -6s is below 3s":                                            {Scenario: "steady", For: -6 * time.Second, Target: target},
		"--rounds=-1: want at least 1":                                    {Scenario: "steady", Rounds: -1, Usher: "none"},
		"--demo does not go together with --target":                       {Scenario: "steady", Demo: true, Target: target},
		"--against does not go together with --auth":                      {Scenario: "edge", Against: []string{"usher"}, Auth: "http://127.0.0.1:1/x"},
		`--against: "ftp://cdn": want a URL such as`:                      {Scenario: "steady", Against: []string{"ftp://cdn"}, Usher: "none"},
		`--against: "cdn=cdn.example.com": want a URL such as`:            {Scenario: "steady", Against: []string{"cdn=cdn.example.com"}, Usher: "none"},
		`--against: "nginx-auth" is there twice`:                          {Scenario: "steady", Against: []string{"nginx-auth", "nginx-auth"}, Usher: "none"},
		`--against: "usher" is there twice`:                               {Scenario: "steady", Against: []string{"usher=http://127.0.0.1:1"}, Usher: "none"},
		`nginx-auth: fault "node kill 1": the harness does not run`:       {Scenario: "node-loss", Against: []string{"nginx-auth"}, Usher: "none"},
		`nginx-auth: fault "collector refuse": the harness does not run`:  {Scenario: "collector", Against: []string{"nginx-auth"}, Usher: "none"},
		"nginx-failopen: dialect: nginx: edges cannot ask it":             {Scenario: "edge", Against: []string{"nginx-failopen"}, Usher: "none"},
		"nginx-auth: tls: true, http2: false: peers speak":                {Scenario: "steady", Against: []string{"nginx-auth"}, Set: []string{"tls=true"}, Usher: "none"},
		"nginx-auth: tls: true, http2: true: peers speak":                 {Scenario: "steady", Against: []string{"nginx-auth"}, Set: []string{"tls=true", "http2=true"}, Usher: "none"},
		`fault "attack idle 15000": the harness does not run`:             {Scenario: "slow-clients", Against: []string{"nginx-auth"}, Usher: "none"},
		`--against: "cdn=http://[hidden]@127.0.0.1:1": want a URL`:        {Scenario: "steady", Against: []string{"cdn=http://a:b@127.0.0.1:1"}, Usher: "none"},
		`cdn: fault "middleware refuse": the harness does not run`:        {Scenario: "outage", Against: []string{"cdn=http://127.0.0.1:1"}, Usher: "none"},
		"--auth does not go together with --target":                       {Scenario: "edge", Auth: "http://127.0.0.1:1/x", Target: target},
		"--auth=here: want a URL":                                         {Scenario: "edge", Auth: "here"},
		"--metrics, --pid, --middleware and --origin are for servers":     {Scenario: "steady", PID: []int{1}},
		`fault "middleware refuse": the harness does not run that server`: {Scenario: "outage", Target: target},
		`--against: unknown peer "apache"`:                                {Scenario: "steady", Against: []string{"apache"}, Usher: "none"},
		"--dialect=astra: is for --auth":                                  {Scenario: "edge", Dialect: "astra", Target: target},
		`dialect "apache"`:                                                {Scenario: "edge", Auth: "http://127.0.0.1:1/x", Dialect: "apache"},
		`targets: "http://[hidden]@127.0.0.1:1" is no URL of a server`:    {Scenario: "steady", Target: []string{"http://a:b@127.0.0.1:1"}},
		"targets: \"127.0.0.1:1\" is no URL of a server":                  {Scenario: "steady", Target: []string{"127.0.0.1:1"}},
	} {
		c.Out = t.TempDir()
		if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s…", err, want)
		}
	}
}

// TestRunCmd_Load_Dialect asks an auth server in the dialect of the flag, else in that of the scenario and --set, else in nginx's.
func TestRunCmd_Load_Dialect(t *testing.T) {
	mine := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(mine, []byte("shows: a\ndialect: astra\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const auth = "--auth=http://127.0.0.1:1/auth"
	for _, test := range []struct {
		want      string
		arguments []string
	}{
		{"astra", []string{mine, auth}},
		{"astra", []string{mine}},
		{"alta", []string{mine, auth, "--set=dialect=alta"}},
		{"caddy", []string{mine, auth, "--set=dialect=alta", "--dialect=caddy"}},
		{"nginx", []string{"steady", auth}},
		{"envoy", []string{"edge", auth, "--dialect=envoy"}},
		{"", []string{"steady"}},
	} {
		var cli struct {
			Run runCmd `cmd:""`
		}
		parser, err := kong.New(&cli, kong.Vars{"scenarios": ""})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append([]string{"run"}, test.arguments...)); err != nil {
			t.Fatal(err)
		}
		s, err := cli.Run.load()
		if err != nil {
			t.Fatal(err)
		}
		if s.Dialect != test.want {
			t.Errorf("%q: dialect %q, want %q", test.arguments, s.Dialect, test.want)
		}
	}
}

// TestRun_OutUnwritable_ErrorBeforeMeasuring spends no time on a report that cannot be written.
func TestRun_OutUnwritable_ErrorBeforeMeasuring(t *testing.T) {
	var requests atomic.Int64
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := runCmd{Scenario: "steady", For: 3 * time.Second, Set: []string{"viewers=1"}, Target: []string{hls(t, &requests)}, Out: filepath.Join(file, "below")}
	if err := c.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--out="+c.Out) || requests.Load() > 0 {
		t.Errorf("%v, %d requests; want an error about --out before any", err, requests.Load())
	}
}

// TestRun_DemoWithoutRedis_OneNodeOrRefused has all scenarios where redis-server is not installed.
func TestRun_DemoWithoutRedis_OneNodeOrRefused(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	needMore := map[string]bool{"node-loss": true, "rolling-upgrade": true, "hopping": true, "redis-loss": true}
	for _, name := range scenario.Names() {
		c := runCmd{Scenario: name, Demo: true, Usher: "none"}
		s, err := c.load()
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.options(s)
		want := "--demo: " + rig.ErrNoRedis.Error() + ", and " + name + " cannot be run on one node without it: "
		switch {
		case needMore[name] && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%s: %v, want %s…", name, err, want)
		case !needMore[name] && (err != nil || s.Nodes != 1 || s.Redis):
			t.Errorf("%s: %v, %d nodes, redis: %t; want one node without", name, err, s.Nodes, s.Redis)
		}
	}
}
