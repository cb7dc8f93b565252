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
	Default Verb `yaml:"default"`
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

	// Action is what follows if the rule applies: allow, deny or pass. It excludes Backend.
	Action Verb `yaml:"action"`
	// Backend names the backend that is asked if the rule applies.
	Backend string `yaml:"backend"`
	// OnAllow is allow (also if empty) or pass; OnNo is deny (also if empty) or pass.
	OnAllow Verb `yaml:"on_allow"`
	OnDeny  Verb `yaml:"on_deny"`
	// OnFailure is fail (also if empty), pass or deny.
	OnFailure Verb `yaml:"on_failure"`
}

// DefaultConfig has no rules, and denies.
func DefaultConfig() Config { return Config{Default: Deny} }

// Validate reports everything wrong. Messages begin with the key, under the backend's own.
func (c Config) Validate() error {
	var errs []error
	if len(c.Rules) == 0 {
		errs = append(errs, errors.New("rules: none; want at least one, such as { addresses: [192.0.2.0/24], action: allow }"))
	}
	for i, r := range c.Rules {
		key := fmt.Sprintf("rules[%d]", i)
		errs = append(errs, r.validateConditions(key), r.validateVerbs(key), r.validateReach(key, i == len(c.Rules)-1))
	}
	return errors.Join(append(errs, oneOf("default", c.Default, Allow, Deny, Pass))...)
}

// Members names the backends that the rules ask, in the order of their first mention, each once.
func Members(c Config) []string {
	var names []string
	for _, r := range c.Rules {
		if r.Backend != "" && !slices.Contains(names, r.Backend) {
			names = append(names, r.Backend)
		}
	}
	return names
}

// alwaysApplies reports whether the rule has no condition.
func (r Rule) alwaysApplies() bool {
	return len(r.Addresses)+len(r.Channels)+len(r.UserAgents)+len(r.Hosts)+len(r.Referers)+len(r.Tokens) == 0
}

// validateReach finds a rule that nobody can mean. One that allows without a condition is most likely one whose
// conditions got lost, and would let in everybody.
func (r Rule) validateReach(key string, last bool) error {
	switch {
	case !r.alwaysApplies():
		return nil
	case r.Action == Allow:
		return fmt.Errorf("%s.action: allow without a condition lets in everybody; if that is meant, say default: allow", key)
	case r.Action == Deny && !last:
		return fmt.Errorf("%s.action: deny without a condition; the rules after it are never reached", key)
	}
	return nil
}

func (r Rule) validateVerbs(key string) error {
	if r.Backend == "" {
		return r.validateThen(key)
	}
	var both error
	if r.Action != NoVerb {
		both = fmt.Errorf("%s.action: %s excludes backend: %s", key, r.Action, r.Backend)
	}
	return errors.Join(
		both,
		oneOf(key+".on_allow", r.OnAllow.or(Allow), Allow, Pass),
		oneOf(key+".on_deny", r.OnDeny.or(Deny), Deny, Pass),
		oneOf(key+".on_failure", r.OnFailure.or(Fail), Fail, Pass, Deny),
	)
}

// validateThen is for a rule that asks nobody.
func (r Rule) validateThen(key string) error {
	var errs []error
	if r.Action == NoVerb {
		errs = append(errs, fmt.Errorf("%s: want action or backend", key))
	} else {
		errs = append(errs, oneOf(key+".action", r.Action, Allow, Deny, Pass))
	}
	for _, verb := range []struct {
		key   string
		value Verb
	}{{"on_allow", r.OnAllow}, {"on_deny", r.OnDeny}, {"on_failure", r.OnFailure}} {
		if verb.value != NoVerb {
			errs = append(errs, fmt.Errorf("%s.%s: %s needs backend", key, verb.key, verb.value))
		}
	}
	return errors.Join(errs...)
}

// oneOf refuses a verb that is not among those allowed.
func oneOf(key string, v Verb, allowed ...Verb) error {
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
	each("channels", r.Channels, checkChannel)
	each("user_agents", r.UserAgents, checkFilled)
	each("hosts", r.Hosts, checkHost)
	each("referers", r.Referers, checkHost)
	for i, token := range r.Tokens {
		if token.Reveal() == "" {
			errs = append(errs, fmt.Errorf("%s.tokens[%d]: %w", key, i, errEmpty))
		}
	}
	return errors.Join(errs...)
}

var errEmpty = errors.New("must not be empty")

func checkFilled(s string) error {
	if s == "" {
		return errEmpty
	}
	return nil
}

func checkChannel(pattern string) error {
	if pattern == "" {
		return errEmpty
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%q: %w", pattern, err)
	}
	return nil
}
