package scenario

import (
	"cmp"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/backends/backendtest"
	"usher/bench/result"
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
	lastToEnd   = wrong{plan: func(s *Scenario) {
		last := &s.Faults[len(s.Faults)-1]
		last.For = Span{fixed: s.For - last.At.Of(s.For)}
	}}
)

// wrongs are the servers with which each scenario must fail. Between them they break each expectation.
var wrongs = map[string][]wrong{
	"steady":          {lockedOut, slowMedia, forgetful, crowded},
	"match-night":     {lockedOut, slowMedia, forgetful, crowded},
	"zapping":         {lockedOut, slowMedia, knob("zap=0s")},
	"outage":          {closed, slowMedia, neverBack, inPlace("origin slow 1500ms")},
	"recovery":        {forgetful, openDoor, neverBack},
	"mass-recovery":   {closed, crowded, forgetful, openDoor, neverBack},
	"token-flood":     {brokenMedia, openDoor, slowMedia, set("sessions", map[string]any{"denial_ttl": "1s"})},
	"retry-storm":     {brokenMedia, inPlace("origin slow 1ms"), slowMedia, forgetful},
	"node-loss":       {brokenMedia, forgetful},
	"rolling-upgrade": {brokenMedia, oneSession, lockedOut, forgetful},
	"hopping":         {lockedOut, knob("hop=0s"), forgetful},
	"roaming":         {lockedOut, knob("roam=0s"), forgetful},
	"collector":       {lockedOut, inPlace("origin slow 1500ms"), inPlace("middleware slow 900ms")},
	"million":         {oneSession, crowded, slowMedia, knob("viewers=1")},
	"redis-loss":      {lockedOut, openDoor, forgetful, slowMedia, inPlace("origin slow 1500ms"), lastToEnd},
	"origin-loss":     {lockedOut, openDoor, forgetful, inPlace("origin slow 1500ms")},
	"slow-clients":    {lockedOut, inPlace("origin slow 900ms"), inPlace("attack idle 1")},
	"rapid-reset":     {lockedOut, inPlace("origin slow 900ms"), inPlace("attack idle 1"), knob("tls=false")},
	"random-tokens":   {brokenMedia, openDoor, inPlace("origin slow 1500ms"), inPlace("attack idle 1")},
	"slow-middleware": {lockedOut, slowMedia, crowded},
	"edge":            {lockedOut, fault("middleware slow 900ms"), forgetful},
}

// small makes a scenario one of seconds and few viewers. What holds of a right server at its own size still does.
func small(s *Scenario) {
	s.For, s.Viewers, s.Arrive, s.WarmUp, s.Nodes = 5*time.Second, 30, Span{share: 0.2}, Span{share: 0.1}, min(s.Nodes, 2)
	s.Validity = Span{fixed: time.Minute}
	s.Settle = Span{}
	switch s.Name {
	case "outage", "collector":
		s.For, s.Arrive = 20*time.Second, Span{share: 0.9}
	case "node-loss", "retry-storm", "rolling-upgrade":
		s.For, s.Faults[0].At, s.Faults[0].For = 14*time.Second, Span{share: 0.35}, Span{share: 0.2}
	case "redis-loss", "origin-loss":
		s.For, s.Viewers, s.Arrive, s.Bad, s.Segment, s.Faults[0].At = 16*time.Second, 60, Span{share: 0.9}, 0.3, time.Second, Span{share: 0.3}
	case "recovery", "mass-recovery":
		s.For, s.Arrive, s.Bad, s.RecheckRate = 10*time.Second, Span{share: 0.4}, 0.3, 10
		s.Segment, s.Pause, s.Faults[0].For = 2*time.Second, Span{}, Span{share: 0.2}
		if s.Name == "mass-recovery" {
			s.Arrive = Span{share: 0.2} // all in the outage
		}
		for i := range s.Expect {
			s.Expect[i] = parse(strings.NewReplacer("65s +", "1s +", "5s +", "1s +").Replace(s.Expect[i].Text))
		}
	case "slow-clients", "rapid-reset", "random-tokens":
		if s.For = 10 * time.Second; s.Name == "slow-clients" {
			s.For = 20 * time.Second // its faults are shorter
		}
		for i := range s.Faults {
			s.Faults[i].What = strings.NewReplacer("15000", "50", "5000", "50").Replace(s.Faults[i].What)
		}
		// In phases of a second, among other measurements, a percentile says little.
		for i := range s.Expect {
			s.Expect[i] = parse(strings.NewReplacer("+ 5ms", "+ 300ms", "+ 1ms", "+ 300ms", "> 10000", "> 100").Replace(s.Expect[i].Text))
		}
	case "steady":
		s.Arrive = Span{share: 0.5}
	case "million":
		s.Segment, s.Pause = time.Second, Span{}
		// Programs without viewers have their size too.
		for i := range s.Expect {
			s.Expect[i] = parse(strings.NewReplacer("4kB", "8MB", "1kB", "100MB").Replace(s.Expect[i].Text))
		}
	}
}

func parse(text string) Expectation {
	e, err := ParseExpectation(text)
	if err != nil {
		panic(err)
	}
	return e
}

// proof is what is known of a scenario's expectations.
type proof struct {
	name string
	// open are the expectations that are not proven yet, each with the wrong servers that broke it in the last round.
	open map[string][]int

	mu sync.Mutex
	// found are the outcomes of a round by server.
	found map[int][]result.Assertion
}

// right is the number of the right server. The others are indices of the scenario's wrong ones.
const right = -1

// TestRun_WrongServer_EachExpectationFails runs each scenario on a right server and on servers that are wrong on purpose. An
// expectation is proven by a round in which it holds on the right server and fails on a wrong one. Many run at once, so on a slow
// machine the right server may miss one as well: what is not proven is measured again with fewer at once. Whether a latency is
// within its bound is for a quiet machine to say: here the right server must take at most two thirds of the wrong one's time.
func TestRun_WrongServer_EachExpectationFails(t *testing.T) {
	binary, err := usher()
	if err != nil {
		t.Fatal(err)
	}
	length := map[string]time.Duration{}
	var proofs []*proof
	for _, name := range Names() {
		s := load(t, name)
		p := &proof{name: name, open: map[string][]int{}}
		for i := range s.Expect {
			p.open[s.Expect[i].Text] = nil
		}
		length[name] = s.For
		proofs = append(proofs, p)
	}
	slices.SortFunc(proofs, func(a, b *proof) int { return cmp.Compare(length[b.name], length[a.name]) }) // the longest begin
	for _, atOnce := range []int{8, 4, 2, 1, 1, 1} {
		prove(t, binary, atOnce, proofs)
	}
	for _, p := range proofs {
		for text, breakers := range p.open {
			t.Errorf("%s: %q is not proven: %d wrong servers break it, and the right one too if there are any", p.name, text, len(breakers))
		}
	}
}

func load(t *testing.T, name string) *Scenario {
	t.Helper()
	s, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	small(s)
	return s
}

// prove is a round: it runs the scenarios of which something is open.
func prove(t *testing.T, binary string, atOnce int, proofs []*proof) {
	t.Helper()
	free := make(chan bool, atOnce)
	var running sync.WaitGroup
	for _, p := range proofs {
		p.found = map[int][]result.Assertion{}
		for _, server := range p.servers() {
			free <- true // in order, so that the right server and the wrong ones have the same load beside them
			running.Go(func() {
				defer func() { <-free }()
				p.measure(t, binary, server)
			})
		}
	}
	running.Wait()
	for _, p := range proofs {
		p.settle(t, atOnce)
	}
}

// servers returns the right server and the wrong ones that may break what is open; none: nothing is open. Of those that broke an
// expectation in the last round it takes one.
func (p *proof) servers() []int {
	if len(p.open) == 0 {
		return nil
	}
	all := []int{right}
	for i := range wrongs[p.name] {
		for _, breakers := range p.open {
			if len(breakers) == 0 || breakers[0] == i {
				all = append(all, i)
				break
			}
		}
	}
	return all
}

// measure runs the scenario on a server.
func (p *proof) measure(t *testing.T, binary string, server int) {
	s, w := load(t, p.name), wrong{}
	if server != right {
		w = wrongs[p.name][server]
	}
	if w.plan != nil {
		w.plan(s)
	}
	run, err := Run(t.Context(), s, Options{Binary: binary, sabotage: w.servers})
	if err != nil {
		t.Errorf("%s: %v", p.name, err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found[server] = run.Measurements[0].Assertions
}

// settle closes what a round has proven.
func (p *proof) settle(t *testing.T, atOnce int) {
	t.Helper()
	for text := range p.open {
		onRight := find(p.found[right], text)
		if onRight != nil && !onRight.Kept {
			t.Logf("%d at once: the right server misses %s: %s: got %s", atOnce, p.name, text, onRight.Got)
		}
		var breakers []int
		for server, assertions := range p.found {
			onWrong := find(assertions, text)
			if server == right || onWrong == nil || onWrong.Kept || strings.Contains(onWrong.Got, errNotMeasured.Error()) {
				continue
			}
			t.Logf("%d at once: wrong server %d breaks %s: %s: got %s", atOnce, server, p.name, text, onWrong.Got)
			breakers = append(breakers, server)
			if onRight != nil && (onRight.Kept || isShorter(onRight, onWrong)) {
				delete(p.open, text)
			}
		}
		if _, isOpen := p.open[text]; isOpen {
			slices.Sort(breakers)
			p.open[text] = breakers
		}
	}
}

func find(all []result.Assertion, text string) *result.Assertion {
	if i := slices.IndexFunc(all, func(a result.Assertion) bool { return a.Text == text }); i >= 0 {
		return &all[i]
	}
	return nil
}

// latency is an expectation on one latency.
var latency = regexp.MustCompile(`^(\w+\.)?(p99|max)\((playlist|opening|auth)\) <= `)

// isShorter reports whether a latency that was too long on both servers was so on the right one by the machine's load alone: it
// took at most two thirds of the wrong one's.
func isShorter(onRight, onWrong *result.Assertion) bool {
	if !latency.MatchString(onRight.Text) {
		return false
	}
	rightTook, _, _ := strings.Cut(onRight.Got, ",")
	wrongTook, _, _ := strings.Cut(onWrong.Got, ",")
	short, err := time.ParseDuration(rightTook)
	long, err2 := time.ParseDuration(wrongTook)
	return err == nil && err2 == nil && short <= long*2/3
}

// TestRun_ServerDies_Error ends a node, and redis-server, without a fault. The other node serves all viewers, so all that is expected holds.
func TestRun_ServerDies_Error(t *testing.T) {
	binary, err := usher()
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(g *rig.Rig) error{
		"node2": func(g *rig.Rig) error { return syscall.Kill(g.Nodes[1].PID(), syscall.SIGKILL) },
		"redis-server": func(g *rig.Rig) error {
			info, err := g.RedisInfo(t.Context())
			if err != nil {
				return err
			}
			pid, err := strconv.Atoi(info["process_id"])
			if err != nil {
				return err
			}
			return syscall.Kill(pid, syscall.SIGKILL)
		},
	} {
		s, err := Parse("f.yaml", []byte("shows: a\nviewers: 3\nfor: 3s\nvalidity: 1m\nnodes: 2\nredis: true\nbalancer: true\nexpect: [ dropped == 0 ]"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), s, Options{Binary: binary, sabotage: end}); err == nil || !strings.Contains(err.Error(), name+": it ended by itself") {
			t.Errorf("%v, want that %s ended", err, name)
		}
	}
}

// TestRun_Proof_NeedsRightServer closes only what holds on the right server and fails on a wrong one in the same round.
func TestRun_Proof_NeedsRightServer(t *testing.T) {
	const text = "errors == 0"
	notMeasured := result.Assertion{Text: text, Got: errNotMeasured.Error()}
	kept, missed := result.Assertion{Text: text, Kept: true}, result.Assertion{Text: text, Got: "3"}
	took := func(got string) result.Assertion { return result.Assertion{Text: "p99(opening) <= 500ms", Got: got} }
	for name, tt := range map[string]struct {
		right, wrong result.Assertion
		isOpen       bool
	}{
		"it fails on the wrong one alone":         {kept, missed, false},
		"it holds on both":                        {kept, kept, true},
		"it fails on both, as under load":         {missed, missed, true},
		"it fails on the right one alone":         {missed, kept, true},
		"it is not measured on the wrong one":     {kept, notMeasured, true},
		"it is not measured on the right one":     {notMeasured, missed, true},
		"it is another one that the right has":    {result.Assertion{Text: "dropped == 0", Kept: true}, missed, true},
		"it is another one that the wrong breaks": {kept, result.Assertion{Text: "dropped == 0"}, true},
		"a latency that load makes too long":      {took("1s, want <= 500ms"), took("2s, want <= 500ms"), false},
		"a latency that is hardly longer":         {took("1.4s, want <= 500ms"), took("2s, want <= 500ms"), true},
		"a latency that is not measured":          {took("p99(opening): not measured"), took("2s, want <= 500ms"), true},
	} {
		text := text
		if latency.MatchString(tt.right.Text) {
			text = tt.right.Text
		}
		p := &proof{open: map[string][]int{text: nil}, found: map[int][]result.Assertion{right: {tt.right}, 0: {tt.wrong}}}
		p.settle(t, 1)
		if _, isOpen := p.open[text]; isOpen != tt.isOpen {
			t.Errorf("%s: open: %t, want %t", name, isOpen, tt.isOpen)
		}
	}
}
