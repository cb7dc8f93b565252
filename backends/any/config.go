package anyof

import (
	"errors"
	"fmt"
	"slices"
)

// Config is the joining backend's own keys.
type Config struct {
	// Backends are the names of those that are asked, at least one. Their order decides only whose no is shown.
	Backends []string `yaml:"backends"`
}

// DefaultConfig joins nobody: which backends there are, only the config knows.
func DefaultConfig() Config { return Config{} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	if len(c.Backends) == 0 {
		return errors.New("backends: none; want at least one name, such as [portal, legacy]")
	}
	var errs []error
	for i, name := range c.Backends {
		switch {
		case name == "":
			errs = append(errs, fmt.Errorf("backends[%d]: must not be empty", i))
		case slices.Contains(c.Backends[:i], name):
			errs = append(errs, fmt.Errorf("backends[%d]: %q is named twice", i, name))
		}
	}
	return errors.Join(errs...)
}

// Members names the backends that the config joins, in its order, each once.
func Members(c Config) []string {
	names := make([]string, 0, len(c.Backends))
	for _, name := range c.Backends {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
