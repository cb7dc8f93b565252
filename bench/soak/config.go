package soak

import (
	"errors"
	"fmt"
	"os/exec"
	"time"

	"usher/bench/record"
)

// Config is what a run is.
type Config struct {
	// Usher is the program. HasClock says that its clock can be set, as one of clock.Build; else no clock steps.
	Usher    string
	HasClock bool
	// For is the length of the run.
	For time.Duration
	// Viewers is how many watch at once.
	Viewers int
	// Seed is what faults and viewers are drawn from.
	Seed uint64
	// Logs is the folder in which the nodes' logs are kept; empty: they are not.
	Logs string
	// Show is called once a second; nil: not.
	Show func(record.Snapshot)
	// sabotage changes the nodes' settings in a test of the checks; nil: not.
	sabotage func(node, settings string) string
}

// minFor is the shortest run. Its two quiet times are long enough for a node's timeouts.
const minFor = 40 * time.Second

// Validate reports every invalid field, and servers that are not installed.
func (c *Config) Validate() error {
	var errs []error
	if c.For < minFor {
		errs = append(errs, fmt.Errorf("for: %s is below %s", c.For, minFor))
	}
	const most = 5000
	if c.Viewers < 1 || c.Viewers > most {
		errs = append(errs, fmt.Errorf("viewers: %d is not between 1 and %d", c.Viewers, most))
	}
	for _, program := range []string{"redis-server", "nginx"} {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed (Debian: apt-get install %s)", program, program))
		}
	}
	return errors.Join(errs...)
}
