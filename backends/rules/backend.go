package rules

import (
	"context"
	"fmt"
	"slices"

	"usher/backends"
)

// Backend decides by the first rule with a final result. Safe for concurrent use.
type Backend struct {
	name            string
	rules           []rule
	defaultDecision backends.Decision // if no rule decided
}

var _ backends.Backend = (*Backend)(nil)

// New makes the named backend. The members are those of [Members], in that order.
func New(name string, cfg Config, members []backends.Member) (*Backend, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("make backend %q: %w", name, err)
	}
	byName := make(map[string]*backends.Member, len(members))
	var names []string
	for i := range members {
		names = append(names, members[i].Name)
		byName[members[i].Name] = &members[i]
	}
	if want := Members(cfg); !slices.Equal(names, want) {
		return nil, fmt.Errorf("make backend %q: rules: got members %q, want %q", name, names, want)
	}
	b := &Backend{name: name, defaultDecision: decisionFor("default", cfg.Default)}
	for i, r := range cfg.Rules {
		compiled, err := newRule(fmt.Sprintf("rules[%d]", i), r, byName[r.Backend])
		if err != nil {
			return nil, fmt.Errorf("make backend %q: %w", name, err)
		}
		b.rules = append(b.rules, compiled)
	}
	return b, nil
}

// decisionFor returns the decision of a config's action; pending for pass.
func decisionFor(key string, a Action) backends.Decision {
	d := backends.Decision{Source: backends.FromLocal, Reason: key + ": " + a.String()}
	switch a {
	case Allow:
		d.Verdict = backends.Allowed
	case Deny:
		d.Verdict = backends.Denied
	}
	return d
}

// Check applies the rules in order until one has a final result.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	skipped, challenge := "", ""
	for i := range b.rules {
		rule := &b.rules[i]
		switch {
		case rule.Action == Pass || !rule.matches(r):
			continue
		case rule.member == nil:
			return afterSkippedFailure(rule.decision, skipped, r), nil
		}
		o := rule.check(ctx, b.requestFor(i, r))
		if o.isFinal {
			return withChallenge(o.decision, challenge), o.err
		}
		if o.err != nil {
			skipped = rule.member.Name
		}
		if challenge == "" {
			challenge = o.decision.Challenge
		}
	}
	return withChallenge(afterSkippedFailure(b.defaultDecision, skipped, r), challenge), nil
}

// DecideWithoutCall decides on a viewer while the check of a member does not end, or would fail: by the rules that need no member, by
// on_failure and by the default.
func (b *Backend) DecideWithoutCall(r *backends.Request) (d backends.Decision, isDecided bool) {
	silent, isOne := b.silentRule(r)
	if !isOne {
		return backends.Decision{}, false
	}
	skipped := ""
	for i := range b.rules {
		rule := &b.rules[i]
		if rule.Action == Pass || !rule.matches(r) {
			continue
		}
		if rule.member == nil {
			return afterSkippedFailure(rule.decision, skipped, r), true
		}
		o, isKnown := rule.withoutCall(r, i < silent)
		if !isKnown || o.isFinal {
			return o.decision, isKnown && o.err == nil
		}
		if o.err != nil {
			skipped = rule.member.Name
		}
	}
	return afterSkippedFailure(b.defaultDecision, skipped, r), true
}

// silentRule returns the rule whose member has not answered, -1 if none can: all that are asked are down. isOne is false if it may be
// one of several.
func (b *Backend) silentRule(r *backends.Request) (silent int, isOne bool) {
	silent = -1
	for i := range b.rules {
		rule := &b.rules[i]
		switch {
		case rule.Action == Pass || !rule.matches(r):
		case rule.member == nil:
			return silent, true
		case !rule.mayAnswer(r):
		case silent >= 0:
			return silent, false
		default:
			silent = i
		}
	}
	return silent, true
}

// withChallenge adds a challenge that was passed on: credentials for it could still allow the viewer.
func withChallenge(d backends.Decision, challenge string) backends.Decision {
	if d.Verdict != backends.Allowed && d.Challenge == "" {
		d.Challenge = challenge
	}
	return d
}

// requestFor returns the request for the backend of rule i. It withholds the caller's OnSent while a later rule may call
// a backend too: the caller would take time in that one's queue for a backend that hangs.
func (b *Backend) requestFor(i int, r *backends.Request) *backends.Request {
	if r.OnSent == nil || !b.hasLaterCheck(i, r) {
		return r
	}
	copied := *r
	copied.OnSent = nil
	return &copied
}

// hasLaterCheck reports whether the next rule that can decide after rule i calls a backend.
func (b *Backend) hasLaterCheck(i int, r *backends.Request) bool {
	for i++; i < len(b.rules); i++ {
		rule := &b.rules[i]
		if rule.Action != Pass && rule.matches(r) {
			return rule.member != nil
		}
	}
	return false
}

// afterSkippedFailure turns a local decision into a fallback if a failed backend was skipped. A viewer with a decision
// keeps it instead of being allowed anew. Fallbacks have no validity, so a re-check follows soon.
func afterSkippedFailure(d backends.Decision, skipped string, r *backends.Request) backends.Decision {
	if skipped == "" {
		return d
	}
	if d.Verdict == backends.Allowed && !r.IsUnknown() {
		d = r.Current
		d.ValidFor = 0
		if d.Source.IsAuthoritative() {
			d.Source = backends.FromCached
		}
		return d
	}
	d.Source = backends.FromFailOpen
	d.Reason += "; " + skipped + " did not answer"
	return d
}
