package users

import (
	"errors"
	"fmt"
	"time"
)

// Config is a users backend's own keys. Only the file has no default.
type Config struct {
	// File is the path of the file of accounts.
	File string `yaml:"file"`
	// ReloadInterval is how often the file is looked at; zero: only at the start.
	ReloadInterval time.Duration `yaml:"reload_interval"`
	// AuthParameter is the query parameter that holds login:password; TokenParameter the one of an account's token.
	// UserParameter and PasswordParameter hold login and password apart, as a route takes them from the path. Empty:
	// that way is closed.
	AuthParameter     string `yaml:"auth_parameter"`
	TokenParameter    string `yaml:"token_parameter"`
	UserParameter     string `yaml:"user_parameter"`
	PasswordParameter string `yaml:"password_parameter"`
	// EndSessionOnExpiry also ends running sessions when their account expires. False: who is in stays in.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
	// MaxConcurrentHashes bounds how many bcrypt hashes are computed at once; zero: half of the CPUs (GOMAXPROCS), at least one.
	MaxConcurrentHashes int `yaml:"max_concurrent_hashes"`
	// MaxWaiting bounds how many viewers may wait for that.
	MaxWaiting int `yaml:"max_waiting"`
}

// DefaultConfig has everything but the file, with Astra's names of parameters.
func DefaultConfig() Config {
	return Config{
		ReloadInterval:    10 * time.Second,
		AuthParameter:     "auth",
		TokenParameter:    "token",
		UserParameter:     "user",
		PasswordParameter: "password",
		MaxWaiting:        256,
	}
}

// Validate reports everything wrong. Messages begin with the key, under the backend's own. The file is read by [New].
func (c Config) Validate() error {
	var errs []error
	if c.File == "" {
		errs = append(errs, errors.New("file: must be set"))
	}
	if c.ReloadInterval < 0 {
		errs = append(errs, fmt.Errorf("reload_interval: %s must be 0 (never) or above", c.ReloadInterval))
	}
	if c.MaxConcurrentHashes < 0 {
		errs = append(errs, fmt.Errorf("max_concurrent_hashes: %d must be 0 (half of the CPUs) or above", c.MaxConcurrentHashes))
	}
	if c.MaxWaiting < 0 {
		errs = append(errs, fmt.Errorf("max_waiting: %d must be 0 or above", c.MaxWaiting))
	}
	return errors.Join(append(errs, c.validateParameters())...)
}

func (c Config) validateParameters() error {
	var errs []error
	switch {
	case c.UserParameter != "" && c.PasswordParameter == "":
		errs = append(errs, errors.New("password_parameter: must be set, as user_parameter is"))
	case c.UserParameter == "" && c.PasswordParameter != "":
		errs = append(errs, errors.New("user_parameter: must be set, as password_parameter is"))
	}
	named := map[string]string{}
	for _, p := range []struct{ key, name string }{
		{"auth_parameter", c.AuthParameter},
		{"token_parameter", c.TokenParameter},
		{"user_parameter", c.UserParameter},
		{"password_parameter", c.PasswordParameter},
	} {
		if first, taken := named[p.name]; taken {
			errs = append(errs, fmt.Errorf("%s: %q is that of %s", p.key, p.name, first))
		} else if p.name != "" {
			named[p.name] = p.key
		}
	}
	if len(named) == 0 {
		errs = append(errs, errors.New("auth_parameter: must be set, or another parameter, for anybody to get in"))
	}
	return errors.Join(errs...)
}
