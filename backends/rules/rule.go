package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"

	"usher/backends"
)

// rule is a [Rule], made ready.
type rule struct {
	Rule
	key      string // as in the config
	networks []netip.Prefix

	then     Verb
	decision backends.Decision // of a rule that asks nobody

	member                 *backends.Member // nil: it asks nobody
	onYes, onNo, onFailure Verb
}

func newRule(key string, r Rule, member *backends.Member) (rule, error) {
	made := rule{
		Rule: r, key: key,
		then: r.Action, decision: decisionOf(key, r.Action),
		member: member, onYes: r.OnAllow.or(Allow), onNo: r.OnDeny.or(Deny), onFailure: r.OnFailure.or(Fail),
	}
	for _, s := range r.Addresses {
		network, err := parsePrefix(s)
		if err != nil {
			return rule{}, fmt.Errorf("%s.addresses: %w", key, err)
		}
		made.networks = append(made.networks, network)
	}
	return made, nil
}

// applies reports whether every condition is met.
func (r *rule) applies(q *backends.Request) bool {
	return (len(r.networks) == 0 || inAny(r.networks, q.Address)) &&
		(len(r.Channels) == 0 || isChannel(r.Channels, q.Channel)) &&
		(len(r.UserAgents) == 0 || matchesAny(r.UserAgents, q.UserAgent)) &&
		(len(r.Hosts) == 0 || isHost(r.Hosts, hostOf(q.Host))) &&
		(len(r.Referers) == 0 || isHost(r.Referers, refererHost(q.Referer))) &&
		(len(r.Tokens) == 0 || holdsToken(r.Tokens, q.Query))
}

func isChannel(patterns []string, channel string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, channel); ok { // the pattern is valid
			return true
		}
	}
	return false
}

// outcome is what came of a rule's asking.
type outcome struct {
	decision backends.Decision
	err      error
	ends     bool // the check; else the next rule follows, after a failure if err is set
}

// ask asks the rule's backend.
func (r *rule) ask(ctx context.Context, q *backends.Request) outcome {
	d, err := r.member.Backend.Check(ctx, q)
	if err != nil {
		return r.unanswered(r.sorted(ctx, err))
	}
	verb := Pass // without an opinion
	switch d.Verdict {
	case backends.Allowed:
		verb = r.onYes
	case backends.Denied:
		verb = r.onNo
	}
	if verb == Pass {
		return outcome{}
	}
	return outcome{decision: r.named(d), ends: true}
}

// unanswered is what follows from a failure. A viewer who left and an overload are none, so they end the check: if an
// overload were passed on, a flood would lead past this rule. So would a viewer's own words that make the backend fail.
func (r *rule) unanswered(err error) outcome {
	failure := backends.AsFailure(err)
	switch {
	case failure == nil:
		return outcome{err: err, ends: true}
	case r.onFailure == Deny:
		return outcome{ends: true, decision: backends.Decision{
			Verdict: backends.Denied, Source: backends.FromFailOpen,
			Reason: r.key + ".on_failure=deny; " + r.member.Name + " did not answer: " + failure.Kind.String(),
		}}
	case r.onFailure == Pass && (failure.IsTransport() || failure.Kind == backends.FailureBreakerOpen):
		return outcome{err: err}
	default:
		return outcome{err: err, ends: true}
	}
}

// sorted makes an error of the vocabulary of whatever the member gave.
func (r *rule) sorted(ctx context.Context, err error) error {
	switch {
	case backends.IsOverload(err):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("ask backend %q: %w", r.member.Name, context.Canceled)
	case backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: r.member.Name, Err: err}
	case errors.Is(err, context.Canceled):
		return &backends.Failure{
			Kind: backends.FailureMalformed, Backend: r.member.Name, Err: errors.New("gave up by itself"),
		}
	default:
		return &backends.Failure{Kind: backends.FailureMalformed, Backend: r.member.Name, Err: err}
	}
}

// named is the backend's own decision, which says whose it is and how long it holds. A stopgap's time is nobody's to
// give.
func (r *rule) named(d backends.Decision) backends.Decision {
	if d.Verdict == backends.Allowed && d.ValidFor == 0 && d.Source.IsAuthoritative() {
		d.ValidFor = r.member.Validity
	}
	if d.Reason == "" {
		d.Reason = d.Verdict.String()
	}
	d.Reason = r.member.Name + ": " + d.Reason
	return d
}
