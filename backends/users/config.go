package users

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"usher/backends/setting"
)

// Config is a users backend's own keys. Only the file has no default.
type Config struct {
	// File is the path of the file of accounts.
	File string `yaml:"file"`
	// ReloadInterval is the interval of checking the file for changes; zero: only at start.
	ReloadInterval time.Duration `yaml:"reload_interval"`
	// AuthParameter is the query parameter of login:password. Empty: not read.
	AuthParameter string `yaml:"auth_parameter"`
	// TokenParameter is the query parameter of an account's token. Empty: not read.
	TokenParameter string `yaml:"token_parameter"`
	// UserParameter is the query parameter of the login alone, as a route takes it from the path. Empty: not read.
	UserParameter string `yaml:"user_parameter"`
	// PasswordParameter is the query parameter of the password alone. It is set if and only if UserParameter is.
	PasswordParameter string `yaml:"password_parameter"`
	// Realm asks viewers without valid credentials for login and password (Basic, RFC 7617), under that name. Empty: they are
	// refused. The route must name Authorization among its credentials.
	Realm string `yaml:"realm"`
	// EndSessionOnExpiry also ends running sessions when their account expires. False: running sessions continue.
	EndSessionOnExpiry bool `yaml:"end_session_on_expiry"`
	// MaxConcurrentHashes bounds concurrent bcrypt computations; zero: half of the CPUs (GOMAXPROCS), at least one.
	MaxConcurrentHashes int `yaml:"max_concurrent_hashes"`
	// MaxWaiting bounds the viewers that wait for a computation.
	MaxWaiting int `yaml:"max_waiting"`
}

// mostConcurrentHashes is more than any machine has CPUs, which are all that a computation needs.
const mostConcurrentHashes = 1024

// DefaultConfig returns all defaults, with Astra's parameter names. Only the file has none.
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

// Validate returns all problems at once, except those of the file, which [New] reads. Each message begins with the key,
// relative to the backend's section.
func (c Config) Validate() error {
	var errs []error
	if c.File == "" {
		errs = append(errs, errors.New("file: must be set"))
	}
	if c.ReloadInterval < 0 {
		errs = append(errs, fmt.Errorf("reload_interval: %s must be 0 (never) or above", c.ReloadInterval))
	}
	if c.MaxConcurrentHashes < 0 || c.MaxConcurrentHashes > mostConcurrentHashes {
		errs = append(errs, fmt.Errorf("max_concurrent_hashes: %d is out of range; want 0 (half of the CPUs) to %d",
			c.MaxConcurrentHashes, mostConcurrentHashes))
	}
	if c.MaxWaiting < 0 {
		errs = append(errs, fmt.Errorf("max_waiting: %d must be 0 or above", c.MaxWaiting))
	}
	if len(c.Realm) > maxRealmBytes || !utf8.ValidString(c.Realm) || strings.ContainsFunc(c.Realm, isNotQuotable) {
		errs = append(errs, fmt.Errorf("realm: %q: want at most %d bytes, without quotes, backslashes and control characters",
			c.Realm, maxRealmBytes))
	}
	return errors.Join(append(errs, c.validateParameters())...)
}

// ViewerFields returns what is read of a viewer's request. Authorization is read without a realm, too, but nobody is asked for it.
func (c Config) ViewerFields() []setting.ViewerField {
	header := setting.ViewerField{Setting: "kind", Header: "Authorization", Credential: "header"}
	if c.Realm != "" {
		header.Setting, header.IsRequired = "realm", true
	}
	fields := []setting.ViewerField{header}
	for _, p := range c.parameters() {
		if p.name != "" {
			fields = append(fields, setting.ViewerField{Setting: p.key, Parameter: p.name, Credential: p.credential})
		}
	}
	return fields
}

// parameter is a query parameter with the key of its setting, and the credential of which it is a part.
type parameter struct{ key, name, credential string }

func (c Config) parameters() []parameter {
	return []parameter{
		{"auth_parameter", c.AuthParameter, "auth"},
		{"token_parameter", c.TokenParameter, "token"},
		{"user_parameter", c.UserParameter, "login"},
		{"password_parameter", c.PasswordParameter, "login"},
	}
}

// maxRealmBytes bounds a realm.
const maxRealmBytes = 256

// isNotQuotable reports whether a character cannot stand in a quoted string.
func isNotQuotable(r rune) bool { return r == '"' || r == '\\' || unicode.IsControl(r) }

func (c Config) validateParameters() error {
	var errs []error
	switch {
	case c.UserParameter != "" && c.PasswordParameter == "":
		errs = append(errs, errors.New("password_parameter: must be set, as user_parameter is"))
	case c.UserParameter == "" && c.PasswordParameter != "":
		errs = append(errs, errors.New("user_parameter: must be set, as password_parameter is"))
	}
	keys := map[string]string{} // by parameter name
	for _, p := range c.parameters() {
		if first, isTaken := keys[p.name]; isTaken {
			errs = append(errs, fmt.Errorf("%s: %q is already %s", p.key, p.name, first))
		} else if p.name != "" {
			keys[p.name] = p.key
		}
	}
	if len(keys) == 0 && c.Realm == "" {
		errs = append(errs, errors.New("auth_parameter: must be set, or another parameter; otherwise no viewer can log in"))
	}
	return errors.Join(errs...)
}
