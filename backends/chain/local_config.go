package chain

import (
	"fmt"
	"time"

	"usher/backends"
)

// LocalConfig holds the settings of backends that make no network calls themselves, but may fail.
type LocalConfig struct {
	// OnFailure is the outage policy. Empty: as under the preset astra.
	OnFailure backends.Policy `yaml:"on_failure"`
	// AnswerDeadline is the longest time that a viewer's opening waits for its first decision.
	AnswerDeadline time.Duration `yaml:"answer_deadline"`
}

// DefaultLocalConfig returns the answer deadline of every other backend.
func DefaultLocalConfig() LocalConfig { return LocalConfig{AnswerDeadline: time.Second} }

// Validate reports everything wrong. Messages begin with the key, relative to the backend's.
func (c LocalConfig) Validate() error {
	if c.AnswerDeadline <= 0 {
		return fmt.Errorf("answer_deadline: %s must be above 0", c.AnswerDeadline)
	}
	return nil
}
