package scenario

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/backends/backendtest"
	"usher/bench/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// usher is the program under test, built once.
var usher = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "usher-scenario-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "usher")
	out, err := exec.Command("go", "build", "-o", file, "usher/cmd/usher").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return file, nil
})

// wrong is a server, or a plan, that is wrong on purpose.
type wrong struct {
	// plan changes the scenario before its start, and servers them after theirs; nil: not.
	plan    func(*Scenario)
	servers func(*rig.Rig) error
}

// fault has a fault hold from the start to the end.
func fault(what string) wrong {
	return wrong{servers: func(g *rig.Rig) error {
		f, err := g.Fault(what)
		if err != nil {
			return err
		}
		_, err = f.Begin(context.Background())
		return err
	}}
}

// answering has the middleware answer all with a status.
func answering(status int) wrong {
	return wrong{servers: func(g *rig.Rig) error {
		g.Middleware.SetDialect(func(w http.ResponseWriter, _ *http.Request, _ backendtest.User, _ bool) { w.WriteHeader(status) })
		return nil
	}}
}

// set changes settings of the nodes behind the scenario's back.
func set(part string, value map[string]any) wrong {
	return wrong{plan: func(s *Scenario) {
		merged := map[string]any{part: value}
		for key, old := range s.Settings {
			if key != part {
				merged[key] = old
			}
		}
		s.Settings = merged
	}}
}

func portal(settings map[string]any) wrong {
	return set("backends", map[string]any{"portal": settings})
}

func knob(assignments ...string) wrong {
	return wrong{plan: func(s *Scenario) {
		for _, a := range assignments {
			if err := s.Set(a); err != nil {
				panic(err)
			}
		}
	}}
}

// inPlace has other faults in place of the scenario's.
func inPlace(what string) wrong {
	return wrong{plan: func(s *Scenario) {
		for i := range s.Faults {
			s.Faults[i].What = what
		}
	}}
}

var (
	lockedOut   = answering(http.StatusForbidden)
	openDoor    = answering(http.StatusOK)
	brokenMedia = fault("origin status 503")
	slowMedia   = fault("origin slow 1600ms")
	forgetful   = portal(map[string]any{"validity": "1s", "recheck_rate": 100000})
	neverBack   = answering(http.StatusInternalServerError)
	closed      = portal(map[string]any{"on_failure": "deny", "validity": "1s", "breaker": map[string]any{"open_duration": "1s"}})
	crowded     = knob("max_alive=3")
	oneSession  = set("sessions", map[string]any{"max": 1})
)

// wrongs are the servers with which each scenario must fail. Between them they break each expectation.
var wrongs = map[string][]wrong{
	"steady":          {lockedOut, slowMedia, forgetful, crowded},
	"match-night":     {lockedOut, slowMedia, forgetful, crowded},
	"zapping":         {lockedOut, slowMedia, knob("zap=0s")},
	"outage":          {closed, slowMedia, neverBack, inPlace("origin slow 1500ms")},
	"recovery":        {closed, forgetful, openDoor, neverBack},
	"token-flood":     {brokenMedia, openDoor, slowMedia, set("sessions", map[string]any{"denial_ttl": "1s"})},
	"retry-storm":     {brokenMedia, inPlace("origin slow 1ms"), slowMedia, forgetful},
	"node-loss":       {brokenMedia, forgetful},
	"rolling-upgrade": {brokenMedia, oneSession, lockedOut, forgetful},
	"hopping":         {lockedOut, knob("hop=0s"), forgetful},
	"roaming":         {lockedOut, knob("roam=0s"), forgetful},
	"million":         {oneSession, crowded, slowMedia},
	"edge":            {lockedOut, fault("middleware slow 900ms"), forgetful},
}

// small makes a scenario one of seconds and few viewers.
func small(s *Scenario) {
	s.For, s.Viewers, s.Arrive, s.WarmUp, s.Nodes = 5*time.Second, 30, Span{share: 0.2}, Span{share: 0.1}, min(s.Nodes, 2)
	s.Validity = Span{fixed: time.Minute}
	s.Settle = Span{}
	switch s.Name {
	case "outage":
		s.For, s.Arrive = 20*time.Second, Span{share: 0.9}
	case "node-loss", "retry-storm", "rolling-upgrade":
		s.For, s.Faults[0].At, s.Faults[0].For = 10*time.Second, Span{share: 0.3}, Span{share: 0.2}
	case "recovery":
		s.For, s.Arrive, s.Bad, s.RecheckRate = 8*time.Second, Span{share: 0.5}, 0.3, 5
	case "steady":
		s.Arrive = Span{share: 0.5}
	case "million":
		s.Segment, s.Pause = time.Second, Span{}
	}
}

// TestRun_WrongServer_EachExpectationFails runs all scenarios on servers that are wrong on purpose. Many run at once, so on a slow
// machine a second may be missing in a phase: what was not broken is then tried again by fewer.
func TestRun_WrongServer_EachExpectationFails(t *testing.T) {
	binary, err := usher()
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]map[string]bool{} // expectations that nothing has broken yet, by scenario
	for _, name := range Names() {
		s, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		left[name] = map[string]bool{}
		for i := range s.Expect {
			left[name][s.Expect[i].Text] = true
		}
	}
	for _, atOnce := range []int{12, 4, 2, 1, 1} {
		breakAll(t, binary, atOnce, left)
	}
	for name, texts := range left {
		for text := range texts {
			t.Errorf("%s: no wrong server breaks %q", name, text)
		}
	}
}

// breakAll runs the scenarios of which something is left, and takes away what fails.
func breakAll(t *testing.T, binary string, atOnce int, left map[string]map[string]bool) {
	free := make(chan bool, atOnce)
	var mu sync.Mutex
	var running sync.WaitGroup
	for name, texts := range left {
		if len(texts) == 0 { // read before anything of it runs
			continue
		}
		for _, w := range wrongs[name] {
			running.Go(func() {
				free <- true
				defer func() { <-free }()
				failed := failing(t, name, binary, w)
				mu.Lock()
				defer mu.Unlock()
				for _, text := range failed {
					delete(left[name], text)
				}
			})
		}
	}
	running.Wait()
}

// failing returns the expectations that a wrong server measurably breaks.
func failing(t *testing.T, name, binary string, w wrong) (texts []string) {
	s, err := Load(name)
	if err != nil {
		t.Error(err)
		return nil
	}
	small(s)
	if w.plan != nil {
		w.plan(s)
	}
	run, err := Run(t.Context(), s, Options{Binary: binary, sabotage: w.servers})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	for _, a := range run.Failed() {
		t.Logf("%s: %s: got %s", name, a.Text, a.Got)
		if !strings.Contains(a.Got, errNotMeasured.Error()) {
			texts = append(texts, a.Text)
		}
	}
	return texts
}
