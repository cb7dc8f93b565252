package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/bench/result"
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

// TestRun_Demo_Steady runs a scenario in an empty folder on a node with the race detector. How fast it is is the machine's matter.
func TestRun_Demo_Steady(t *testing.T) {
	folder := t.TempDir()
	usher := filepath.Join(folder, "usher")
	if out, err := exec.Command("go", "build", "-race", "-o", usher, "usher/cmd/usher").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := runCmd{
		Scenario: "steady", Demo: true, For: 4 * time.Second, Set: []string{"viewers=40", "validity=1m"}, Usher: usher, Out: filepath.Join(folder, "out"),
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
	for _, a := range m.Assertions {
		if !a.Kept && !strings.HasPrefix(a.Text, "p99") {
			t.Errorf("%s: got %s", a.Text, a.Got)
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

// TestRun_Credentials_NotInReport gives credentials in every flag that takes one.
func TestRun_Credentials_NotInReport(t *testing.T) {
	folder := t.TempDir()
	const secret = "s3cret"
	arguments := os.Args
	os.Args = []string{"usher-bench", "run", "steady", "--token", secret, "--target=http://name:" + secret + "@127.0.0.1:1/?key=" + secret}
	t.Cleanup(func() { os.Args = arguments })
	c := runCmd{
		Scenario: "steady", Target: []string{"http://127.0.0.1:1"}, Token: secret, For: 3 * time.Second, Out: folder,
		Metrics: []string{"http://127.0.0.1:1/metrics?key=" + secret}, Set: []string{"viewers=1", "path=/{channel}?token=" + secret},
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
		"for: 1s is below 3s":                                             {Scenario: "steady", For: time.Second},
		"--demo does not go together with --target":                       {Scenario: "steady", Demo: true, Target: target},
		"--against does not go together with --target":                    {Scenario: "steady", Against: []string{"usher"}, Target: target},
		"--auth does not go together with --target":                       {Scenario: "edge", Auth: "http://127.0.0.1:1/x", Target: target},
		"--auth=here: want a URL":                                         {Scenario: "edge", Auth: "here"},
		"--metrics, --pid, --middleware and --origin are for servers":     {Scenario: "steady", PID: []int{1}},
		`fault "middleware refuse": the harness does not run that server`: {Scenario: "outage", Target: target},
		`--against: unknown peer "apache"`:                                {Scenario: "steady", Against: []string{"apache"}, Usher: "none"},
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
