package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version is the version of the document. A reader refuses a newer one.
const Version = 1

// Run is one run of a scenario.
type Run struct {
	Version int `json:"version"`
	// Scenario is the scenario's name.
	Scenario string `json:"scenario"`
	// Description is a sentence on what the scenario shows; empty: none.
	Description string    `json:"description,omitempty"`
	Started     time.Time `json:"started"`
	// Command is the command line that repeats the run, without credentials.
	Command string `json:"command,omitempty"`
	Host    Host   `json:"host"`
	// Settings are the scenario's knobs by name, as text, in the order of Settings' keys sorted.
	Settings map[string]string `json:"settings,omitempty"`
	// Measurements are in the order in which they were made.
	Measurements []Measurement `json:"measurements"`
}

// Host is the machine of the generator.
type Host struct {
	CPUs   int    `json:"cpus"`
	CPU    string `json:"cpu,omitempty"`
	Memory uint64 `json:"memory_bytes,omitempty"`
	System string `json:"system"`
	Go     string `json:"go"`
	// Commit is the harness's version control revision; empty: unknown.
	Commit string `json:"commit,omitempty"`
}

// Measurement is what one target did in one round.
type Measurement struct {
	// Target is the target's name; Round counts from 1.
	Target string `json:"target"`
	Round  int    `json:"round"`
	// URL is the target's address without credentials.
	URL     string    `json:"url"`
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Arrivals says how well the plan was kept.
	Arrivals Arrivals `json:"arrivals"`
	// Operations are by name: one of the Operation constants.
	Operations map[string]*Operation `json:"operations"`
	// Counts are totals that are no requests, by name: decisions by source ("decisions.backend"), the middleware's calls
	// ("middleware.calls"), free rides, zaps, and others.
	Counts map[string]float64 `json:"counts,omitempty"`
	Series Series             `json:"series"`
	Faults []Fault            `json:"faults,omitempty"`
	// Processes are the generator, and the servers whose figures could be read.
	Processes []Process `json:"processes,omitempty"`
	// Assertions are what the scenario expects.
	Assertions []Assertion `json:"assertions,omitempty"`
	// Notes are what a reader has to know, such as that the generator was the bottleneck.
	Notes []string `json:"notes,omitempty"`
}

// The names of operations.
const (
	// Opening is a viewer's first request to an entry URL, with its redirects.
	Opening = "opening"
	// Playlist is a reload of a media playlist; Multivariant a reload of a multivariant playlist.
	Playlist     = "playlist"
	Multivariant = "multivariant"
	Segment      = "segment"
	// AuthQuestion is a question of an edge to its auth server.
	AuthQuestion = "auth"
)

// Arrivals says how well the generator kept its plan.
type Arrivals struct {
	// Planned is how many viewers were to start, Started how many did.
	Planned uint64 `json:"planned"`
	Started uint64 `json:"started"`
	// Dropped is how many starts and requests were given up because the generator had no room for them.
	Dropped uint64 `json:"dropped"`
	// Lateness is the time between the intended and the real send time of a request.
	Lateness Histogram `json:"lateness"`
}

// Operation is all requests of one kind.
type Operation struct {
	Requests uint64 `json:"requests"`
	Bytes    uint64 `json:"bytes"`
	// Errors are failed requests by what was wrong: "status 503", "timeout", "refused", "reset", "broken body".
	Errors map[string]uint64 `json:"errors,omitempty"`
	// Latency is the time from the intended send time to the end of the body, of all requests, failed ones too. FirstByte
	// ends at the first byte of the head.
	Latency   Histogram `json:"latency"`
	FirstByte Histogram `json:"first_byte"`
}

// Failed returns the number of failed requests.
func (o *Operation) Failed() uint64 {
	var all uint64
	for _, n := range o.Errors {
		all += n
	}
	return all
}

// Series are values over time.
type Series struct {
	// Seconds are the times of the values, since the measurement's start.
	Seconds []float64 `json:"seconds"`
	Lines   []Line    `json:"lines"`
}

// Line is one value over time.
type Line struct {
	// Name is dotted; its first part is the plot that shows it: "requests.playlist", "latency.p99.playlist", "errors.segment",
	// "openings.started", "viewers.alive", "decisions.backend", "middleware.calls", "memory.node1", "cpu.node1".
	Name string `json:"name"`
	// Unit is "1/s", "s", "B", "cores" or "".
	Unit string `json:"unit,omitempty"`
	// Values has one value for each of Seconds; nil: not known.
	Values []*float64 `json:"values"`
}

// Fault is a fault that was injected.
type Fault struct {
	Name string `json:"name"`
	// From and To are seconds since the measurement's start.
	From float64 `json:"from"`
	To   float64 `json:"to"`
	// Seen are how many answers viewers got during the fault, by what they were; nil: not counted.
	Seen map[string]uint64 `json:"seen,omitempty"`
}

// Process is what a process used during the measurement.
type Process struct {
	Name string `json:"name"`
	// CPUSeconds is user and system time. Resident is the largest resident size in bytes that was seen.
	CPUSeconds float64 `json:"cpu_seconds"`
	Resident   uint64  `json:"resident_bytes"`
}

// The harness's own processes, by their names.
const (
	Generator = "generator"
	Attacker  = "attacker"
)

// IsServer reports whether the process is not the harness's own.
func (p Process) IsServer() bool { return p.Name != Generator && p.Name != Attacker }

// Assertion is something that a scenario expects.
type Assertion struct {
	// Text is the assertion as it stands in the scenario.
	Text string `json:"text"`
	// Got is the measured value, with its unit.
	Got  string `json:"got"`
	Kept bool   `json:"kept"`
}

// Failed returns the assertions that do not hold.
func (r *Run) Failed() []Assertion {
	var failed []Assertion
	for i := range r.Measurements {
		for _, a := range r.Measurements[i].Assertions {
			if !a.Kept {
				failed = append(failed, a)
			}
		}
	}
	return failed
}

// Write writes the document, indented.
func (r *Run) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}

// ErrVersion is wrapped by Read's error for a document of another version.
var ErrVersion = errors.New("version of the result is not supported")

// errNoRun is wrapped by Read's error for a document that is no run.
var errNoRun = errors.New("no run of usher-bench")

// Read reads a document.
func Read(r io.Reader) (*Run, error) {
	var run Run
	if err := json.NewDecoder(r).Decode(&run); err != nil {
		return nil, fmt.Errorf("read a result: %w", err)
	}
	if run.Version != Version {
		return nil, fmt.Errorf("%w: %d, want %d", ErrVersion, run.Version, Version)
	}
	if len(run.Measurements) == 0 {
		return nil, fmt.Errorf("read a result: %w: it has no measurements", errNoRun)
	}
	for i := range run.Measurements {
		for name, o := range run.Measurements[i].Operations {
			if o == nil {
				return nil, fmt.Errorf("read a result: %w: measurements[%d].operations.%s: null", errNoRun, i, name)
			}
		}
	}
	return &run, nil
}
