package securetoken

import (
	"errors"
	"fmt"
	"time"

	"usher/backends"
)

// Formula is what the hash is made over.
type Formula uint8

// The formulas. Astra (zero) and Flussonic sign the channel's id, Flussonic a user's id as well; Alta signs the
// request's path.
const (
	FormulaAstra Formula = iota
	FormulaAlta
	FormulaFlussonic
)

// String is the formula as the config spells it.
func (f Formula) String() string { return [...]string{"astra", "alta", "flussonic"}[f] }

// MarshalText spells the formula as the config does.
func (f Formula) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what the config spells.
func (f *Formula) UnmarshalText(text []byte) error {
	for candidate := FormulaAstra; candidate <= FormulaFlussonic; candidate++ {
		if candidate.String() == string(text) {
			*f = candidate
			return nil
		}
	}
	return fmt.Errorf("formula %q: want astra, alta or flussonic", text)
}

// maxTolerance keeps the tolerance smaller than any validity that makes sense.
const maxTolerance = time.Hour

// Config is a securetoken backend's own keys. Only the key has no default.
type Config struct {
	// Key is what the portal signs with. Keys are more of them, so that it can be changed; any one verifies.
	Key       backends.Secret   `yaml:"key"`
	ExtraKeys []backends.Secret `yaml:"extra_keys"`
	// Formula says whose tokens they are.
	Formula Formula `yaml:"formula"`
	// NoCheckIP takes tokens that hold for any address, and none other.
	NoCheckIP bool `yaml:"no_check_ip"`
	// ClockSkew is by how much the portal's clock and ours may differ, in whole seconds. Zero: not at all.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// EndSessionOnExpiry also ends running sessions with their tokens. False: who is in stays in.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
	// Parameter is the query parameter that holds the token.
	Parameter string `yaml:"parameter"`
	// UserParameter is the one that holds the user's id, if the portal signs it. Empty: it does not.
	UserParameter string `yaml:"user_parameter"`
	// SaltLength is how many characters a salt has. Zero: any number, which a signed user's id does not go with.
	SaltLength int `yaml:"salt_length"`
}

// DefaultConfig has everything but the key.
func DefaultConfig() Config {
	return Config{Formula: FormulaAstra, ClockSkew: 30 * time.Second, Parameter: "token"}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	return errors.Join(c.validateKeys(), c.validateTolerance(), c.validateParameters(), c.validateSalt())
}

func (c Config) validateKeys() error {
	if c.Key == "" && len(c.ExtraKeys) == 0 {
		return errors.New("key: must be set")
	}
	var errs []error
	for i, key := range c.ExtraKeys {
		if key == "" {
			errs = append(errs, fmt.Errorf("extra_keys[%d]: is empty", i))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateTolerance() error {
	switch {
	case c.ClockSkew < 0 || c.ClockSkew > maxTolerance:
		return fmt.Errorf("clock_skew: %s is out of range; want 0 to %s", c.ClockSkew, maxTolerance)
	case c.ClockSkew%time.Second != 0:
		return fmt.Errorf("clock_skew: %s is no whole number of seconds, in which tokens count", c.ClockSkew)
	}
	return nil
}

func (c Config) validateParameters() error {
	switch {
	case c.Parameter == "":
		return errors.New("parameter: must be set")
	case c.UserParameter == c.Parameter:
		return fmt.Errorf("user_parameter: %q is that of the token", c.UserParameter)
	case c.UserParameter != "" && c.Formula != FormulaFlussonic:
		return fmt.Errorf("user_parameter: %q: formula %s signs no user; want flussonic", c.UserParameter, c.Formula)
	}
	return nil
}

func (c Config) validateSalt() error {
	switch {
	case c.SaltLength < 0 || c.SaltLength > maxSalt:
		return fmt.Errorf("salt_length: %d is out of range; want 0 (any) to %d", c.SaltLength, maxSalt)
	case c.UserParameter != "" && c.SaltLength == 0:
		return fmt.Errorf("salt_length: 0 must be set with user_parameter=%q, or a viewer could move characters "+
			"of his salt to his user's id; Flussonic's sample makes 32", c.UserParameter)
	}
	return nil
}

// keys are all keys, the first one first.
func (c Config) keys() []backends.Secret {
	if c.Key == "" {
		return c.ExtraKeys
	}
	return append([]backends.Secret{c.Key}, c.ExtraKeys...)
}
