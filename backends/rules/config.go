package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"usher/backends/setting"
)

// Config is the backend's own keys.
type Config struct {
	// Rules are applied in order until one decides.
	Rules []Rule `yaml:"rules"`
	// Default applies if none did: allow, deny, or pass, which is no opinion.
	Default Action `yaml:"default"`
}

// Rule is one rule. It matches if each of its conditions is met by one of the condition's entries; without conditions it
// always matches. A condition without entries is rejected: what it would match cannot be told.
type Rule struct {
	// Addresses are viewer addresses: IPv4, IPv6, CIDR.
	Addresses []string `yaml:"addresses,omitempty"`
	// Channels are patterns; see [setting.MatchesChannel].
	Channels []string `yaml:"channels,omitempty"`
	// UserAgents are wildcards in which '*' matches any text, also none; case is ignored.
	UserAgents []string `yaml:"user_agents,omitempty"`
	// Hosts are requested host names without port; "*.example.com" matches every name below example.com.
	Hosts []string `yaml:"hosts,omitempty"`
	// Referers are host names of the page that embeds the player, as in Hosts.
	Referers []string `yaml:"referers,omitempty"`
	// Tokens are values of the query parameter "token".
	Tokens []setting.Secret `yaml:"tokens,omitempty"`

	// Action is the action of a matching rule: allow, deny or pass. It excludes Backend.
	Action Action `yaml:"action"`
	// Backend names the backend that a matching rule checks with.
	Backend string `yaml:"backend"`
	// OnAllow is the action if the backend allows: allow (the default) or pass.
	OnAllow Action `yaml:"on_allow"`
	// OnDeny is the action if the backend denies: deny (the default) or pass.
	OnDeny Action `yaml:"on_deny"`
	// OnFailure is the action if the backend fails: fail (the default), pass or deny.
	OnFailure Action `yaml:"on_failure"`
}

// DefaultConfig has no rules, and denies.
func DefaultConfig() Config { return Config{Default: Deny} }

// Validate returns all problems at once. Each message begins with the key, relative to the backend's section.
func (c Config) Validate() error {
	var errs []error
	if len(c.Rules) == 0 {
		errs = append(errs, errors.New("rules: none; want at least one, such as { addresses: [192.0.2.0/24], action: allow }"))
	}
	for i, r := range c.Rules {
		key := fmt.Sprintf("rules[%d]", i)
		errs = append(errs, r.validateConditions(key), r.validateActions(key), r.validateReachability(key, i == len(c.Rules)-1))
	}
	return errors.Join(append(errs, oneOf("default", c.Default, Allow, Deny, Pass))...)
}

// ViewerFields returns what the rules read of a viewer's request.
func (c Config) ViewerFields() []setting.ViewerField {
	var fields []setting.ViewerField
	for i, r := range c.Rules {
		if len(r.Tokens) > 0 {
			fields = append(fields, setting.ViewerField{Setting: fmt.Sprintf("rules[%d].tokens", i), Parameter: tokenParameter, IsRequired: true})
		}
	}
	return fields
}

// Members returns the names of the backends that the rules check with, in the order of their first mention, each once.
func Members(c Config) []string {
	var names []string
	for _, r := range c.Rules {
		if r.Backend != "" && !slices.Contains(names, r.Backend) {
			names = append(names, r.Backend)
		}
	}
	return names
}

// isUnconditional reports whether the rule has no conditions.
func (r Rule) isUnconditional() bool {
	return len(r.Addresses)+len(r.Channels)+len(r.UserAgents)+len(r.Hosts)+len(r.Referers)+len(r.Tokens) == 0
}

// validateReachability rejects a rule that cannot be intended. A rule that allows without a condition has most likely
// lost its conditions, and would allow every viewer.
func (r Rule) validateReachability(key string, last bool) error {
	switch {
	case !r.isUnconditional():
		return nil
	case r.Action == Allow:
		return fmt.Errorf("%s.action: allow without a condition allows every viewer; if that is intended, use default: allow", key)
	case r.Action == Deny && !last:
		return fmt.Errorf("%s.action: deny without a condition; the rules after it are never reached", key)
	}
	return nil
}

func (r Rule) validateActions(key string) error {
	if r.Backend == "" {
		return r.validateAction(key)
	}
	var conflict error
	if r.Action != NoAction {
		conflict = fmt.Errorf("%s.action: %s excludes backend: %s", key, r.Action, r.Backend)
	}
	return errors.Join(
		conflict,
		oneOf(key+".on_allow", r.OnAllow.orDefault(Allow), Allow, Pass),
		oneOf(key+".on_deny", r.OnDeny.orDefault(Deny), Deny, Pass),
		oneOf(key+".on_failure", r.OnFailure.orDefault(Fail), Fail, Pass, Deny),
	)
}

// validateAction validates the actions of a rule without a backend.
func (r Rule) validateAction(key string) error {
	var errs []error
	if r.Action == NoAction {
		errs = append(errs, fmt.Errorf("%s: want action or backend", key))
	} else {
		errs = append(errs, oneOf(key+".action", r.Action, Allow, Deny, Pass))
	}
	for _, action := range []struct {
		key   string
		value Action
	}{{"on_allow", r.OnAllow}, {"on_deny", r.OnDeny}, {"on_failure", r.OnFailure}} {
		if action.value != NoAction {
			errs = append(errs, fmt.Errorf("%s.%s: %s needs backend", key, action.key, action.value))
		}
	}
	return errors.Join(errs...)
}

// oneOf rejects an action that is not among the allowed ones.
func oneOf(key string, a Action, allowed ...Action) error {
	if slices.Contains(allowed, a) {
		return nil
	}
	names := make([]string, len(allowed))
	for i := range allowed {
		names[i] = allowed[i].String()
	}
	last := len(names) - 1
	return fmt.Errorf("%s: %q is not possible here; want %s or %s", key, a, strings.Join(names[:last], ", "), names[last])
}

func (r Rule) validateConditions(key string) error {
	return errors.Join(
		validateCondition(key+".addresses", r.Addresses, func(s string) error {
			_, err := parsePrefix(s)
			return err
		}),
		validateCondition(key+".channels", r.Channels, setting.ValidateChannelPattern),
		validateCondition(key+".user_agents", r.UserAgents, validateNonEmpty),
		validateCondition(key+".hosts", r.Hosts, validateHost),
		validateCondition(key+".referers", r.Referers, validateHost),
		validateCondition(key+".tokens", r.Tokens, validateNonEmpty),
	)
}

// validateCondition checks each entry. A list that is given without entries has most likely lost them.
func validateCondition[S ~string](key string, entries []S, check func(string) error) error {
	var errs []error
	if entries != nil && len(entries) == 0 {
		errs = append(errs, fmt.Errorf("%s: is empty; leave the key out if there is no such condition", key))
	}
	for i, entry := range entries {
		if err := check(string(entry)); err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %w", key, i, err))
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
