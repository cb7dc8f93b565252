package securetoken

import (
	"errors"
	"fmt"
	"time"

	"usher/backends/setting"
)

// Formula selects the input of the hash.
type Formula uint8

// The formulas. Astra (zero) and Flussonic sign the channel's id, Flussonic a user's id as well; Alta signs the
// request's path.
const (
	FormulaAstra Formula = iota
	FormulaAlta
	FormulaFlussonic
)

// String returns the formula as the config spells it.
func (f Formula) String() string { return [...]string{"astra", "alta", "flussonic"}[f] }

// MarshalText writes the formula as the config spells it.
func (f Formula) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads the config's spelling.
func (f *Formula) UnmarshalText(text []byte) error {
	for candidate := FormulaAstra; candidate <= FormulaFlussonic; candidate++ {
		if candidate.String() == string(text) {
			*f = candidate
			return nil
		}
	}
	return fmt.Errorf("formula %q: want astra, alta or flussonic", text)
}

// maxTolerance keeps the tolerance below any sensible validity.
const maxTolerance = time.Hour

// Config is a securetoken backend's own keys. Only the key has no default.
type Config struct {
	// Key is the key that the portal signs with.
	Key setting.Secret `yaml:"key"`
	// ExtraKeys are further keys, for rotation. A token may be made with any of them. Removing one ends the sessions that it opened.
	ExtraKeys []setting.Secret `yaml:"extra_keys"`
	// Formula is the vendor's formula of the tokens.
	Formula Formula `yaml:"formula"`
	// NoCheckIP accepts only tokens made for any address.
	NoCheckIP bool `yaml:"no_check_ip"`
	// ClockSkew is the allowed difference between the portal's clock and ours, in whole seconds. Zero: none.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// EndSessionOnExpiry also ends running sessions when their token expires. False: running sessions continue.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
	// Parameter is the query parameter of the token.
	Parameter string `yaml:"parameter"`
	// UserParameter is the query parameter of the user's id, if the portal signs one. Empty: it does not.
	UserParameter string `yaml:"user_parameter"`
	// SaltLength is the number of characters of a salt. Zero: any number, which excludes a signed user's id.
	SaltLength int `yaml:"salt_length"`
}

// DefaultConfig returns all defaults. Only the key has none.
func DefaultConfig() Config {
	return Config{Formula: FormulaAstra, ClockSkew: 30 * time.Second, Parameter: "token"}
}

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	return errors.Join(c.validateKeys(), c.validateTolerance(), c.validateParameters(), c.validateSalt())
}

// ViewerFields returns what the settings read of a viewer's request.
func (c Config) ViewerFields() []setting.ViewerField {
	fields := []setting.ViewerField{{Setting: "parameter", Parameter: c.Parameter, Credential: "token"}}
	if c.UserParameter != "" {
		fields = append(fields, setting.ViewerField{Setting: "user_parameter", Parameter: c.UserParameter, IsRequired: true})
	}
	return fields
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
		return fmt.Errorf("clock_skew: %s is not a whole number of seconds, the unit of tokens", c.ClockSkew)
	}
	return nil
}

func (c Config) validateParameters() error {
	switch {
	case c.Parameter == "":
		return errors.New("parameter: must be set")
	case c.UserParameter == c.Parameter:
		return fmt.Errorf("user_parameter: %q is the token's parameter", c.UserParameter)
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
			"from the salt to the user's id; Flussonic's sample makes 32", c.UserParameter)
	}
	return nil
}

// keys returns all keys, Key first.
func (c Config) keys() []setting.Secret {
	if c.Key == "" {
		return c.ExtraKeys
	}
	return append([]setting.Secret{c.Key}, c.ExtraKeys...)
}
