package scenario

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/bench/result"
	"usher/bench/rig"
	"usher/bench/viewer"
)

// aMeasurement has six seconds, a fault from the third to the fifth, and a line for each of the tests.
func aMeasurement() *measured {
	line := func(name, unit string, values ...float64) result.Line {
		l := result.Line{Name: name, Unit: unit}
		for _, v := range values {
			l.Values = append(l.Values, &v)
		}
		return l
	}
	playlist := &result.Operation{Requests: 60, Errors: map[string]uint64{"status 503": 2, "timeout": 1}}
	for i := range 100 {
		playlist.Latency.Record(time.Duration(i+1) * time.Millisecond)
	}
	m := &result.Measurement{
		Operations: map[string]*result.Operation{result.Playlist: playlist},
		Counts:     map[string]float64{"zaps": 7},
		Faults:     []result.Fault{{Name: "middleware hang", From: 2.1, To: 4.9}},
		Series: result.Series{Seconds: []float64{1, 2, 3, 4, 5, 6}, Lines: []result.Line{
			line("latency.p99.playlist", "s", 0.01, 0.02, 0.5, 0.4, 0.3, 0.01), line("errors.playlist", "1/s", 0, 0, 1, 2, 0, 0),
			line("requests.playlist", "1/s", 10, 10, 10, 10, 10, 10), line("middleware.calls", "1/s", 9, 3, 0, 0, 5, 4),
			line("memory.node1", "B", 1e6, 2e6, 3e6, 3e6, 3e6, 2e6),
		}},
	}
	m.Arrivals.Planned, m.Arrivals.Started, m.Arrivals.Dropped = 10, 9, 1
	s := &Scenario{Knobs: defaultKnobs(), Faults: []Fault{{Name: "hang", What: "middleware hang"}}}
	s.For, s.WarmUp, s.Settle = 6*time.Second, Span{fixed: time.Second}, Span{}
	return &measured{Measurement: m, knobs: s.byName(), phases: s.phases(m.Faults)}
}

func TestExpectation_Evaluate(t *testing.T) {
	for text, want := range map[string]struct {
		kept bool
		got  string
	}{
		"errors == 3":                                          {true, "3"},
		"errors(playlist) < 3":                                 {false, "3"},
		`failures("status 503") == 2`:                          {true, "2"},
		"requests > 10 * 5":                                    {true, "60"},
		"p50(playlist) <= 51ms":                                {true, "50.02ms"},
		"p99(playlist) <= 20ms":                                {false, "99.01ms"},
		"max(playlist) <= 99ms":                                {false, "100"},
		"quiet.p99(playlist) == 20ms":                          {true, "20ms"},
		"hang.p99(playlist) <= 2 * quiet.p99(playlist) + 60ms": {false, "400ms, want <= 100ms"},
		"fault.max(playlist) > 0s":                             {false, "max(playlist)"},
		"after.errors == 0":                                    {true, "0"},
		"fault.errors == 3":                                    {true, "3"},
		"max(middleware.calls) <= 9":                           {true, "9 1/s"},
		"fault.max(middleware.calls) <= recheck_rate / 50":     {false, "5 1/s, want <= 4"},
		"mean(middleware.calls) == (9 + 3 + 5 + 4) / 6":        {true, "3.5 1/s"},
		"min(middleware.calls) == 0":                           {true, "0 1/s"},
		"sum(middleware.calls) == 21":                          {true, "21"},
		"last(memory.node1) <= 1.5MB":                          {false, "2 MB"},
		"until(errors.playlist) == 4s":                         {true, "4s"},
		"fault.until(errors.playlist) <= 1s":                   {false, "2s"},
		"after.until(errors.playlist) == 0s":                   {true, "0"},
		"until(free_rides) == 0s":                              {true, "0"},
		"until(decisions.backend) == 0s":                       {false, "until(decisions.backend): not measured"},
		"count(zaps) >= 5 + 2":                                 {true, "7"},
		"count(roams) == 0":                                    {true, "0"},
		"started == planned":                                   {false, "9, want == 10"},
		"dropped != 1":                                         {false, "1"},
		"viewers / for >= 80":                                  {true, "83.333 1/s"},
		"lateness <= 10ms":                                     {true, "0"},
		"count(zaps) / count(roams) >= 5":                      {false, "+Inf, want >= 5: a division by zero has no value"},
		"count(roams) / count(hops) != 1":                      {false, "NaN, want != 1: a division by zero has no value"},
		"1 <= viewers / (count(zaps) - 7)":                     {false, "1, want <= +Inf: a division by zero has no value"},
		"max(decisions.backend) < 5":                           {false, "max(decisions.backend): not measured"},
	} {
		e, err := ParseExpectation(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		m := aMeasurement()
		a, _ := m.evaluate(&e)
		if a.Kept != want.kept || !strings.HasPrefix(a.Got, want.got) && !strings.Contains(a.Got, "fault."+want.got) {
			t.Errorf("%s: kept %t, got %q; want %t, %q", text, a.Kept, a.Got, want.kept, want.got)
		}
	}
}

// TestMeasured_WithoutRequests finds that nothing holds of requests that there were none of.
func TestMeasured_WithoutRequests(t *testing.T) {
	for _, text := range []string{
		`failures("status 503") == 0`, "dropped == 0", "started == planned", "lateness <= 1s", "errors == 0", "requests == 0", "errors(playlist) == 0",
		"count(free_rides) == 0", "until(free_rides) == 0", "p99(playlist) >= 0s",
	} {
		e, err := ParseExpectation(text)
		if err != nil {
			t.Fatal(err)
		}
		m := aMeasurement()
		m.Operations, m.Series.Lines, m.Counts = nil, nil, nil
		if a, err := m.evaluate(&e); a.Kept || !errors.Is(err, errNotMeasured) {
			t.Errorf("%s: kept %t, %v; want %v", text, a.Kept, err, errNotMeasured)
		}
	}
}

// TestMeasured_Errors_PhaseWithoutRequests has no request in the last second.
func TestMeasured_Errors_PhaseWithoutRequests(t *testing.T) {
	for _, text := range []string{"after.errors == 0", "after.errors(playlist) == 0"} {
		e, err := ParseExpectation(text)
		if err != nil {
			t.Fatal(err)
		}
		m := aMeasurement()
		none := 0.0
		for _, l := range m.Series.Lines {
			if l.Name == "requests.playlist" {
				l.Values[5] = &none
			}
		}
		if a, err := m.evaluate(&e); a.Kept || !errors.Is(err, errNotMeasured) {
			t.Errorf("%s: kept %t, %v; want %v", text, a.Kept, err, errNotMeasured)
		}
	}
}

// TestScenario_Judge_External leaves out what the operator's servers do not tell, and nothing else.
func TestScenario_Judge_External(t *testing.T) {
	all := &rig.External{Metrics: []string{"http://127.0.0.1:1"}, Middleware: "127.0.0.1:1", PIDs: []int{1}}
	for text, want := range map[string]struct {
		of     *rig.External
		isLeft bool
	}{
		"max(middleware.calls) <= 1":            {&rig.External{}, true},
		"count(sessions.opened) == 0":           {&rig.External{}, true},
		"max(memory.node1) <= 1MB":              {all, true},
		"count(attack.served) == 0":             {all, true},
		"last(sessions.unverified) == 0":        {all, false},
		"count(middleware.calls) == 0":          {all, false},
		"max(memory.server1) <= 1MB":            {all, false},
		"errors == 0":                           {&rig.External{}, false},
		"requests(segment) >= 0":                {&rig.External{}, false},
		"p99(segment) <= 1s":                    {&rig.External{}, false},
		`failures("status 503") == 0`:           {&rig.External{}, false},
		"quiet.p99(playlist) * 2 >= p99(auth)":  {&rig.External{}, false},
		"started == planned":                    {&rig.External{}, false},
		"max(viewers.alive) <= 5":               {&rig.External{}, false},
		"max(latency.p99.segment) <= 5s":        {&rig.External{}, false},
		"count(zaps) == 0":                      {&rig.External{}, false},
		"until(errors.segment) == 0s":           {&rig.External{}, false},
		"errors <= count(middleware.calls) + 1": {&rig.External{}, false},
	} {
		s := &Scenario{Knobs: defaultKnobs(), Expect: []Expectation{parse(text)}}
		m := &result.Measurement{}
		s.judge(m, want.of)
		if isLeft := len(m.Assertions) == 0; isLeft != want.isLeft || !isLeft && m.Assertions[0].Kept {
			t.Errorf("%s: %+v, notes %q; want it left out: %t", text, m.Assertions, m.Notes, want.isLeft)
		}
	}
}

// TestMeasured_Until_SecondsWithoutValue counts the time of seconds whose value is not known, and none of a phase without a second.
func TestMeasured_Until_SecondsWithoutValue(t *testing.T) {
	one, zero := 1.0, 0.0
	m := aMeasurement()
	m.Series.Lines = append(m.Series.Lines, result.Line{Name: "free_rides", Unit: "1/s", Values: []*float64{nil, nil, nil, &one, &one, nil}},
		result.Line{Name: "sessions.unverified", Values: []*float64{&one, nil, nil, &one, &one, &zero}})
	m.phases["after"] = phase{isWhole: true, spans: [][2]float64{{6, 7}}}
	for text, want := range map[string]struct {
		kept bool
		got  string
	}{
		"until(free_rides) == 5s":                 {true, "5s"},
		"fault.until(free_rides) == 3s":           {true, "3s"},
		"until(sessions.unverified) == 5s":        {true, "5s"},
		"after.until(free_rides) == 0s":           {false, "after.until(free_rides): not measured"},
		"after.until(sessions.unverified) <= 60s": {false, "after.until(sessions.unverified): not measured"},
	} {
		e, err := ParseExpectation(text)
		if err != nil {
			t.Fatal(err)
		}
		if a, _ := m.evaluate(&e); a.Kept != want.kept || a.Got != want.got {
			t.Errorf("%s: kept %t, got %q; want %t, %q", text, a.Kept, a.Got, want.kept, want.got)
		}
	}
}

func TestParseExpectation_Errors(t *testing.T) {
	for _, text := range []string{
		"", "errors", "errors =", "errors = 0", "errors == ", "errors == 0 1", "(errors == 0", "p99(playlist == 1", "p99() <= 1", "5 apples > 1", "== 1",
		"errors == 1.2.3", strings.Repeat("(", 100) + "1" + strings.Repeat(")", 100) + " == 1",
	} {
		if e, err := ParseExpectation(text); err == nil {
			t.Errorf("%q: no error: %+v", text, e)
		}
	}
}

func FuzzParseExpectation(f *testing.F) {
	for _, text := range []string{"errors == 0", "fault.p99(playlist) <= 2 * (quiet.p99(playlist) + 20ms)", `failures("status 503") / 1MB != 5%`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExpectation(text)
		if err != nil {
			return
		}
		m := aMeasurement()
		if e.check(m.knobs, map[string]bool{"quiet": true, "fault": true, "after": true}) != nil {
			return
		}
		if _, err := m.evaluate(&e); err != nil && !errors.Is(err, errNotMeasured) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// TestNames_AreValid loads each of the harness's scenarios, at the shortest length too.
func TestNames_AreValid(t *testing.T) {
	if len(Names()) == 0 {
		t.Fatal("no scenarios")
	}
	for _, name := range Names() {
		s, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.For, s.Validity = minFor, Span{fixed: minValidity}
		if err := s.Validate(); err != nil {
			t.Errorf("%s for %s: %v", name, s.For, err)
		}
		if len(s.Expect) == 0 {
			t.Errorf("%s: expects nothing", name)
		}
	}
}

func TestParse_Errors(t *testing.T) {
	for text, want := range map[string]string{
		"shows: a\nviewer: 3":                                `f.yaml:2:1: viewer: unknown key; did you mean "viewers"?`,
		"shows: a\nviewers: many":                            `f.yaml:2:10: viewers: "many": want a whole number of at least 1`,
		"shows: a\nfor: 5":                                   `f.yaml:2:6: for: "5": want a duration`,
		"shows: a\nbad: 5":                                   `f.yaml:2:6: bad: "5": want a share`,
		"shows: a\nredis: maybe":                             `f.yaml:2:8: redis: "maybe": want true or false`,
		"shows: a\nviewers: [ 3 ]":                           `f.yaml:2:10: viewers: want a single value`,
		"shows: a\nexpect: errors == 0":                      `f.yaml:2:9: expect: want a list`,
		"shows: a\nexpect: [ errors = 0 ]":                   `f.yaml:2:11: expect: "errors = 0": at "="`,
		"shows: a\nfaults: [ { at: 5, fault: redis kill } ]": `f.yaml:2:17: at: "5": want a duration`,
		"shows: a\nfaults: [ { at: 5s, for: 1s } ]":          `f.yaml:2:11: fault: missing`,
		"shows: a\nfaults: [ { at: 5s, what: redis kill } ]": `f.yaml:2:21: what: unknown key`,
		"viewers: 3":                                         `f.yaml:1:1: shows: missing`,
		"- 3":                                                `f.yaml:1:1: want keys and values`,
		"":                                                   `f.yaml: it is empty; want keys and values`,
		"# nothing\n":                                        `f.yaml: it is empty; want keys and values`,
		"shows: a\nviewers: 3\nviewers: 4":                   `f.yaml:3:1: viewers: the key is there twice`,
		"shows: a\nfaults: [ { at: 1s, at: 2s, for: 1s, fault: origin hang } ]": `f.yaml:2:21: at: the key is there twice`,
		"shows: a\nsettings: { a: 1, a: 2 }":                                    `f.yaml:2:11: settings: `,
		"shows: a\n---\nshows: b\n":                                             `f.yaml:2:1: another document`,
		"shows: a\n---\n{":                                                      `f.yaml:`,
		"shows: a\nsettings: 3":                                                 `f.yaml:2:11: settings: `,
	} {
		if _, err := Parse("f.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
}

// TestScenario_Validate_Expectations accepts each failure that there is, zero of any unit, and sums with knobs that have none.
func TestScenario_Validate_Expectations(t *testing.T) {
	expectations := []string{
		`failures("status 503") == 0`, "until(free_rides) == 0", "0 <= p99(playlist)", "until(free_rides) <= 5s + 1.2 * viewers / recheck_rate",
		"until(free_rides) <= viewers / recheck_rate", "viewers / for >= 80", "max(bytes) <= 5MB", "max(multivariant) <= 1s", "last(sessions.node12) > 0", "max(memory.server2) <= 1GB", "sum(errors.auth) == 0",
		"max(cpu.nginx-auth) <= 2", "count(decisions.fail-open) == 0", "max(breakers.half-open) == 0", "max(middleware.calls) <= 2 * viewers / validity",
	}
	for _, failure := range viewer.Failures() {
		expectations = append(expectations, fmt.Sprintf("failures(%q) == 0", failure))
	}
	for _, text := range expectations {
		s, err := Parse("f.yaml", []byte("shows: a\nexpect: [ '"+text+"' ]"))
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// killBoth kills a node for 4 s at 1 s, and another one.
func killBoth(when string) string {
	return "faults: [ { at: 1s, for: 4s, fault: node kill 1 }, { " + when + ", fault: node kill 2 } ]"
}

// overlap has two faults, the second of which begins within the first.
func overlap(first, second string) string {
	return "faults: [ { at: 1s, for: 4s, fault: " + first + " }, { at: 4s, for: 4s, fault: " + second + " } ]"
}

// TestScenario_Validate_Servers accepts faults of nodes that the expectations allow for.
func TestScenario_Validate_Servers(t *testing.T) {
	for _, text := range []string{
		"faults: [ { for: 1s, fault: node kill 1 } ]\nexpect: [ fault.errors > 0, quiet.errors == 0, after.errors == 0 ]",
		"nodes: 2\nredis: true\nexpect: [ errors == 0 ]\nfaults: [ { for: 1s, fault: node restart all }, { at: 5s, for: 1s, fault: node stop 2 } ]",
		"nodes: 2\nredis: true\nexpect: [ errors == 0 ]\n" + killBoth("at: 6s, for: 1s"),
		"nodes: 2\nredis: true\n" + overlap("node kill 1", "node kill 2"), overlap("middleware hang", "origin hang"), overlap("attack idle 1", "attack idle 1"),
		"redis: true\nfaults: [ { at: 1s, fault: redis flush } ]", "redis: true\nfaults: [ { at: 1s, fault: redis  flush } ]",
		"faults: [ { at: 1s, fault: node restart 1 } ]", "nodes: 2\nredis: true\nfaults: [ { at: 1s, fault: node restart all } ]",
		"faults: [ { at: 1s, for: 1s, fault: origin hang }, { at: 2s, for: 1s, fault: origin hang } ]",
		"redis: true\nfaults: [ { at: 1s, for: 1s, fault: redis kill }, { at: 2s, fault: redis flush } ]",
		"tls: true\nhttp2: true", "dialect: nginx",
		"nodes: 2\nsettings: { cluster: { redis: { addresses: [ '127.0.0.1:6379' ] } } }",
	} {
		s, err := Parse("f.yaml", []byte("shows: a\n"+text))
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestScenario_Validate_Errors(t *testing.T) {
	for text, want := range map[string]string{
		"pace: fast":    `pace: "fast": want constant`,
		"sources: here": "sources: ",
		"for: 1s":       "for: 1s is below 3s",
		"faults: [ { at: 90%, for: 20%, fault: a b } ]":                                                   `fault "a b": at 90% for 20% ends behind the run`,
		"faults: [ { at: 100%, fault: node restart 1 } ]":                                                 `fault "node restart 1": at 100% is not before the end of the run (for: `,
		"redis: true\nfor: 9s\nfaults: [ { at: 9s, fault: redis flush } ]":                                `fault "redis flush": at 9s is not before the end of the run (for: 9s)`,
		"for: 9s\nfaults: [ { at: 10s, for: 1s, fault: middleware hang } ]":                               `fault "middleware hang": at 10s is not before the end of the run (for: 9s)`,
		"expect: [ hang.errors == 0 ]":                                                                    `expect: "hang.errors == 0": hang: no phase`,
		"expect: [ wrong == 0 ]":                                                                          `expect: "wrong == 0": wrong: neither a knob`,
		"expect: [ wrong(playlist) == 0 ]":                                                                `expect: "wrong(playlist) == 0": wrong: neither a knob`,
		"expect: [ quiet.dropped == 0 ]":                                                                  `expect: "quiet.dropped == 0": dropped: known of the whole run alone`,
		"expect: [ p99(playlst) <= 1us ]":                                                                 `p99(playlst): no kind of request; did you mean "playlist"?`,
		"expect: [ errors(segments) == 0 ]":                                                               `errors(segments): no kind of request; did you mean "segment"?`,
		"expect: [ count(midleware.calls) == 0 ]":                                                         `count(midleware.calls): nothing of that name is measured; did you mean "middleware.calls"?`,
		"expect: [ last(sessions.node) == 0 ]":                                                            `last(sessions.node): nothing of that name is measured`,
		"expect: [ max(palylist) <= 1s ]":                                                                 `max(palylist): nothing of that name is measured`,
		"arrive: 0s\nexpect: [ max(middleware.calls) <= viewers / arrive ]":                               `arrive: is 0, and divides nothing`,
		"expect: [ requests / (3 * zap) > 0 ]":                                                            `3 * zap: is 0, and divides nothing`,
		"expect: [ requests / 0 > 0 ]":                                                                    `0: is 0, and divides nothing`,
		"arrive: 0s\npace: ramp":                                                                          `arrive: 0s with pace: ramp: want a time`,
		"arrive: 0%\npace: steps":                                                                         `arrive: 0s with pace: steps: want a time`,
		"faults: [ { at: 1s, fault: redis freeze } ]":                                                     `fault "redis freeze": for: missing, or 0s: it would end as it begins`,
		"faults: [ { at: 1s, for: 0%, fault: middleware hang } ]":                                         `fault "middleware hang": for: missing, or 0s`,
		overlap("middleware hang", "middleware refuse"):                                                   `faults "middleware hang" and "middleware refuse" overlap: a server has one fault at a time`,
		overlap("origin hang", "origin slow 1s"):                                                          `faults "origin hang" and "origin slow 1s" overlap`,
		overlap("collector hang", "collector hang"):                                                       `faults "collector hang" and "collector hang" overlap`,
		overlap("redis kill", "redis freeze"):                                                             `faults "redis kill" and "redis freeze" overlap`,
		overlap("node kill 1", "node kill 1"):                                                             `faults "node kill 1" and "node kill 1" overlap`,
		"redis: true\nfaults: [ { at: 1s, for: 2s, fault: redis kill }, { at: 2s, fault: redis flush } ]": `faults "redis kill" and "redis flush" overlap`,
		"faults: [ { at: 1s, fault: node restart 1 }, { at: 1s, for: 2s, fault: node stop 1 } ]":          `faults "node restart 1" and "node stop 1" overlap`,
		overlap("node restart all", "node stop 1"):                                                        `faults "node restart all" and "node stop 1" overlap`,
		"expect: [ path == 0 ]":                                                                           `expect: "path == 0": path: neither a knob`,
		`expect: [ 'failures("status503") == 0' ]`:                                                        `failures("status503"): no request fails so; want "status 503" or another status, or one of "not a playlist", `,
		`expect: [ 'failures("status 5xx") == 0' ]`:                                                       `failures("status 5xx"): no request fails so`,
		`expect: [ "errors == failures(timeouts)" ]`:                                                      `failures("timeouts"): no request fails so`,
		"expect: [ lateness <= 250 ]":                                                                     `"lateness <= 250": a time beside a number without a unit; want one such as 20ms or 1MB`,
		"expect: [ 2 * 100 >= max(opening) ]":                                                             `a time beside a number without a unit`,
		"expect: [ p99(playlist) <= 2 * for + 20 ]":                                                       `a time beside a number without a unit`,
		"expect: [ max(memory.node1) / viewers <= 4 ]":                                                    `a size beside a number without a unit`,
		"expect: [ last(memory.node1) <= for ]":                                                           `a size beside a time: they do not compare`,
		"dialect: astra":                                                                                  `dialect: astra: the harness's servers know nginx's alone; give --auth`,
		"dialect: envoy":                                                                                  `dialect: envoy: the harness's servers know nginx's alone`,
		"http2: true":                                                                                     "http2: true with tls: false: the nodes speak HTTP/2 by TLS alone; set tls=true",
		"dialect: apache":                                                                                 `dialect "apache"`,
		"nodes: 3":                                                                                        "nodes: 3 with redis: false: they would share nothing; set redis=true or nodes=1",
		"for: 3s":                                                                                         "validity: 30% of for: 3s is below 1s, the least that a node takes; set validity=1s or a longer for",
		"hop: 1s":                                                                                         "hop: 1s with nodes: 1: there is no other node to reach; set nodes=2 and redis=true",
		"faults: [ { fault: redis kill } ]":                                                               `fault "redis kill": redis: false: there is no redis-server to break; set redis=true`,
		"faults: [ { fault: node restart 2 } ]":                                                           `fault "node restart 2": nodes: 1: there is no node "2"; set nodes=2, or name one from 1 to 1`,
		"faults: [ { fault: node kill 0 } ]":                                                              `fault "node kill 0": nodes: 1: there is no node "0"`,
		"expect: [ errors <= viewers ]\nfaults: [ { fault: node kill 1 } ]":                               `leaves no node alive, but "errors <= viewers" is expected; set nodes=2 and redis=true`,
		"expect: [ 0 == fault.errors(playlist) ]\nfaults: [ { fault: node restart all } ]":                `leaves no node alive, but "0 == fault.errors(playlist)"`,
		"expect: [ 'viewers > dead.errors' ]\nfaults: [ { name: dead, fault: node stop 1 } ]":             `leaves no node alive, but "viewers > dead.errors"`,
		"nodes: 2\nredis: true\nexpect: [ 'failures(\"reset\") == 0' ]\n" + killBoth("at: 3s, for: 4s"): `fault "node kill 2" with nodes: 2 leaves no node alive, but "failures(\"reset\") == 0" is expected; set nodes=3`,
	} {
		s, err := Parse("f.yaml", []byte("shows: a\n"+text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s…", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		text, err := embedded.ReadFile("scenarios/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		if s, err := Parse("f.yaml", text); err == nil {
			_ = s.Validate() // does not panic
		}
	})
}
