package rules

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"usher/backends"
)

// Config is the backend's own keys.
type Config struct {
	// Rules are gone through in their order, until one ends the check.
	Rules []Rule `yaml:"rules"`
	// Default is what holds if none did: allow, deny, or pass, which is no opinion.
	Default Action `yaml:"default"`
}

// Rule is one rule. It applies if each condition that it has is met by one of its entries; without conditions, always.
type Rule struct {
	// Addresses are the viewer's own: IPv4, IPv6, CIDR.
	Addresses []string `yaml:"addresses"`
	// Channels are patterns of [path.Match].
	Channels []string `yaml:"channels"`
	// UserAgents are texts in which '*' stands for any text, also for none; upper and lower case are the same.
	UserAgents []string `yaml:"user_agents"`
	// Hosts are names that the viewer asked for, and Referers those of the page that embeds the player, without port;
	// "*.example.com" is every name below example.com.
	Hosts    []string `yaml:"hosts"`
	Referers []string `yaml:"referers"`
	// Tokens are values of the query parameter "token".
	Tokens []backends.Secret `yaml:"tokens"`

	// Then is what follows if the rule applies: allow, deny or pass. It excludes Ask.
	Then Action `yaml:"then"`
	// Ask names the backend that is asked if the rule applies.
	Ask string `yaml:"ask"`
	// OnYes is allow (also if empty) or pass; OnNo is deny (also if empty) or pass.
	OnYes Action `yaml:"on_yes"`
	OnNo  Action `yaml:"on_no"`
	// OnFailure is fail (also if empty), pass or deny.
	OnFailure Action `yaml:"on_failure"`
}

// DefaultConfig has no rules, and denies.
func DefaultConfig() Config { return Config{Default: Deny} }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	var errs []error
	if len(c.Rules) == 0 {
		errs = append(errs, errors.New("rules: none; want at least one, such as { addresses: [192.0.2.0/24], then: allow }"))
	}
	for i, r := range c.Rules {
		key := fmt.Sprintf("rules[%d]", i)
		errs = append(errs, r.validateConditions(key), r.validateActions(key), r.validateReachability(key, i == len(c.Rules)-1))
	}
	return errors.Join(append(errs, oneOf("default", c.Default, Allow, Deny, Pass))...)
}

// Members names the backends that the rules ask, in the order of their first mention, each once.
func Members(c Config) []string {
	var names []string
	for _, r := range c.Rules {
		if r.Ask != "" && !slices.Contains(names, r.Ask) {
			names = append(names, r.Ask)
		}
	}
	return names
}

// isUnconditional reports whether the rule has no condition.
func (r Rule) isUnconditional() bool {
	return len(r.Addresses)+len(r.Channels)+len(r.UserAgents)+len(r.Hosts)+len(r.Referers)+len(r.Tokens) == 0
}

// validateReachability finds a rule that nobody can mean. One that allows without a condition is most likely one whose
// conditions got lost, and would let in everybody.
func (r Rule) validateReachability(key string, last bool) error {
	switch {
	case !r.isUnconditional():
		return nil
	case r.Then == Allow:
		return fmt.Errorf("%s.then: allow without a condition lets in everybody; if that is meant, say default: allow", key)
	case r.Then == Deny && !last:
		return fmt.Errorf("%s.then: deny without a condition; the rules after it are never reached", key)
	}
	return nil
}

func (r Rule) validateActions(key string) error {
	if r.Ask == "" {
		return r.validateThen(key)
	}
	var both error
	if r.Then != NoAction {
		both = fmt.Errorf("%s.then: %s excludes ask: %s", key, r.Then, r.Ask)
	}
	return errors.Join(
		both,
		oneOf(key+".on_yes", r.OnYes.orDefault(Allow), Allow, Pass),
		oneOf(key+".on_no", r.OnNo.orDefault(Deny), Deny, Pass),
		oneOf(key+".on_failure", r.OnFailure.orDefault(Fail), Fail, Pass, Deny),
	)
}

// validateThen is for a rule that asks nobody.
func (r Rule) validateThen(key string) error {
	var errs []error
	if r.Then == NoAction {
		errs = append(errs, fmt.Errorf("%s: want then or ask", key))
	} else {
		errs = append(errs, oneOf(key+".then", r.Then, Allow, Deny, Pass))
	}
	for _, verb := range []struct {
		key   string
		value Action
	}{{"on_yes", r.OnYes}, {"on_no", r.OnNo}, {"on_failure", r.OnFailure}} {
		if verb.value != NoAction {
			errs = append(errs, fmt.Errorf("%s.%s: %s needs ask", key, verb.key, verb.value))
		}
	}
	return errors.Join(errs...)
}

// oneOf refuses a verb that is not among those allowed.
func oneOf(key string, v Action, allowed ...Action) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = a.String()
	}
	last := len(names) - 1
	return fmt.Errorf("%s: %q is not possible here; want %s or %s", key, v, strings.Join(names[:last], ", "), names[last])
}

func (r Rule) validateConditions(key string) error {
	var errs []error
	each := func(condition string, entries []string, check func(string) error) {
		for i, entry := range entries {
			if err := check(entry); err != nil {
				errs = append(errs, fmt.Errorf("%s.%s[%d]: %w", key, condition, i, err))
			}
		}
	}
	each("addresses", r.Addresses, func(s string) error {
		_, err := parsePrefix(s)
		return err
	})
	each("channels", r.Channels, validateChannel)
	each("user_agents", r.UserAgents, validateNonEmpty)
	each("hosts", r.Hosts, validateHost)
	each("referers", r.Referers, validateHost)
	for i, token := range r.Tokens {
		if token.Reveal() == "" {
			errs = append(errs, fmt.Errorf("%s.tokens[%d]: %w", key, i, errEmpty))
		}
	}
	return errors.Join(errs...)
}

var errEmpty = errors.New("must not be empty")

func validateNonEmpty(s string) error {
	if s == "" {
		return errEmpty
	}
	return nil
}

func validateChannel(pattern string) error {
	if pattern == "" {
		return errEmpty
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%q: %w", pattern, err)
	}
	return nil
}
