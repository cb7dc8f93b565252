package chain

import (
	"fmt"
	"time"

	"usher/backends"
)

// LocalConfig is what backends have in common that ask nobody over a network themselves, but may fail.
type LocalConfig struct {
	// OnFailure is what viewers are told while nobody answers; empty: as under the preset astra.
	OnFailure backends.Policy `yaml:"on_failure"`
	// AnswerDeadline is how long a viewer waits for the first answer at most.
	AnswerDeadline time.Duration `yaml:"answer_deadline"`
}

// DefaultLocalConfig waits as long as other backends do.
func DefaultLocalConfig() LocalConfig { return LocalConfig{AnswerDeadline: time.Second} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c LocalConfig) Validate() error {
	if c.AnswerDeadline <= 0 {
		return fmt.Errorf("answer_deadline: %s must be above 0", c.AnswerDeadline)
	}
	return nil
}
