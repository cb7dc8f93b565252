package backends

import (
	"fmt"
	"time"
)

// Member is a backend that another one joins with others.
type Member struct {
	// Name is its name in the config.
	Name string
	// Backend asks it, bulkhead and breaker and all, but without its outage policy: what holds when it fails is for
	// whoever joins it to say. Beside a yes and a no it may answer with an Undecided decision and no error: it has no
	// opinion on this viewer.
	Backend Backend
	// Validity is how long its answers hold if it does not say.
	Validity time.Duration
}

// LocalConfig is what backends have in common that ask nobody over a network themselves, but may fail.
type LocalConfig struct {
	// OnFailure is what viewers are told while nobody answers; empty: as under the preset astra.
	OnFailure Policy `yaml:"on_failure"`
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
