package anyof

import (
	"errors"
	"fmt"
	"slices"

	"usher/backends/setting"
)

// Config is the composite backend's own keys.
type Config struct {
	// Backends names the members, at least one. Their order only decides which denial is shown.
	Backends []string `yaml:"backends"`
}

// DefaultConfig has no members: only the operator knows which backends exist.
func DefaultConfig() Config { return Config{} }

// ViewerFields returns none of a viewer's request. Its members read it.
func (c Config) ViewerFields() []setting.ViewerField { return nil }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
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
			errs = append(errs, fmt.Errorf("backends[%d]: %q is listed twice", i, name))
		}
	}
	return errors.Join(errs...)
}

// Members returns the names of the config's backends, in its order, each once.
func Members(c Config) []string {
	names := make([]string, 0, len(c.Backends))
	for _, name := range c.Backends {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
