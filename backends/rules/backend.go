package rules

import (
	"context"
	"fmt"
	"slices"

	"usher/backends"
)

// Backend goes through its rules. Safe for concurrent use.
type Backend struct {
	name    string
	rules   []rule
	closing backends.Decision // if no rule ended the check
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
	b := &Backend{name: name, closing: decisionOf("default", cfg.Default)}
	for i, r := range cfg.Rules {
		made, err := newRule(fmt.Sprintf("rules[%d]", i), r, byName[r.Backend])
		if err != nil {
			return nil, fmt.Errorf("make backend %q: %w", name, err)
		}
		b.rules = append(b.rules, made)
	}
	return b, nil
}

// decisionOf is what a verb of the config decides; undecided for pass.
func decisionOf(key string, v Verb) backends.Decision {
	d := backends.Decision{Source: backends.FromLocal, Reason: key + ": " + v.String()}
	switch v {
	case Allow:
		d.Verdict = backends.Allowed
	case Deny:
		d.Verdict = backends.Denied
	}
	return d
}

// Check goes through the rules until one ends the check.
func (b *Backend) Check(ctx context.Context, r *backends.Request) (backends.Decision, error) {
	skipped := ""
	for i := range b.rules {
		rule := &b.rules[i]
		switch {
		case rule.then == Pass || !rule.applies(r):
			continue
		case rule.member == nil:
			return stopgap(rule.decision, skipped, r), nil
		}
		o := rule.ask(ctx, b.question(i, r))
		if o.ends {
			return o.decision, o.err
		}
		if o.err != nil {
			skipped = rule.member.Name
		}
	}
	return stopgap(b.closing, skipped, r), nil
}

// question is what the backend of a rule is asked. It keeps from the caller that the question went out (Asking) while a
// later rule may ask as well: the caller would take time in that one's queue for a backend that hangs.
func (b *Backend) question(i int, r *backends.Request) *backends.Request {
	if r.OnSent == nil || !b.asksAfter(i, r) {
		return r
	}
	q := *r
	q.OnSent = nil
	return &q
}

// asksAfter reports whether a rule after that one asks somebody, if it comes to that.
func (b *Backend) asksAfter(i int, r *backends.Request) bool {
	for i++; i < len(b.rules); i++ {
		rule := &b.rules[i]
		if rule.then != Pass && rule.applies(r) {
			return rule.member != nil
		}
	}
	return false
}

// stopgap is what a rule's own word is worth once a backend that failed was skipped: as much as the outage policy's. A
// viewer on whom somebody has decided keeps that instead of a yes; what is new is asked about again soon.
func stopgap(d backends.Decision, skipped string, r *backends.Request) backends.Decision {
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
