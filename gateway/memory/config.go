package memory

import "fmt"

// Limits say when memory is short.
type Limits struct {
	// HighWater is from which part of GOMEMLIMIT on, in percent, no session of a stranger is opened, and half way from there to
	// the limit none at all; 0: all are, until the memory is used up. GOMEMLIMIT is 90 % of the container's or the machine's
	// memory, unless the environment sets it.
	HighWater int `yaml:"memory_high_water_percent"`
}

// DefaultLimits returns the limits that hold unless the file overrides them.
func DefaultLimits() Limits { return Limits{HighWater: 80} }

// Validate names an invalid setting.
func (l Limits) Validate() error {
	if l.HighWater < 0 || l.HighWater > 0 && l.HighWater < 20 || l.HighWater > 95 {
		return fmt.Errorf("memory_high_water_percent: %d is out of range; want 20 to 95, or 0 for no bound", l.HighWater)
	}
	return nil
}
