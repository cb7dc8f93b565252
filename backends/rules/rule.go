package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"usher/backends"
	"usher/backends/setting"
)

// rule is a compiled [Rule].
type rule struct {
	Rule
	key      string // the rule's position in the config, such as rules[0]
	networks []netip.Prefix

	decision backends.Decision // of a rule without a member

	member                 *backends.Member // of backend; nil: none
	onYes, onNo, onFailure Action           // of a rule with a member
}

func newRule(key string, r Rule, member *backends.Member) (rule, error) {
	compiled := rule{
		Rule: r, key: key,
		decision: decisionFor(key, r.Action),
		member:   member, onYes: r.OnAllow.orDefault(Allow), onNo: r.OnDeny.orDefault(Deny), onFailure: r.OnFailure.orDefault(Fail),
	}
	compiled.Hosts, compiled.Referers = asciiPatterns(r.Hosts), asciiPatterns(r.Referers)
	for _, s := range r.Addresses {
		network, err := parsePrefix(s)
		if err != nil {
			return rule{}, fmt.Errorf("%s.addresses: %w", key, err)
		}
		compiled.networks = append(compiled.networks, network)
	}
	return compiled, nil
}

// matches reports whether the request meets every condition.
func (r *rule) matches(request *backends.Request) bool {
	return (len(r.networks) == 0 || containsAddress(r.networks, request.Address)) &&
		(len(r.Channels) == 0 || setting.MatchesChannel(r.Channels, request.Channel)) &&
		(len(r.UserAgents) == 0 || matchesUserAgent(r.UserAgents, request.UserAgent)) &&
		(len(r.Hosts) == 0 || matchesHost(r.Hosts, hostWithoutPort(request.Host))) &&
		(len(r.Referers) == 0 || matchesHost(r.Referers, refererHost(request.Referer))) &&
		(len(r.Tokens) == 0 || hasListedToken(r.Tokens, request.Query))
}

func matchesUserAgent(patterns []string, userAgent string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return setting.MatchesWildcardFold(pattern, userAgent) })
}

// outcome is the result of a rule's check with its member.
type outcome struct {
	// decision holds if isFinal; otherwise only its challenge does.
	decision backends.Decision
	err      error
	// isFinal ends the whole check. Otherwise the next rule follows, after a failure if err is set.
	isFinal bool
}

// check checks the viewer with the rule's member.
func (r *rule) check(ctx context.Context, request *backends.Request) outcome {
	d, err := r.member.Backend.Check(ctx, request)
	if err != nil {
		return r.handleFailure(r.normalizeError(ctx, err))
	}
	return r.handleAnswer(d)
}

// mayAnswer reports whether the member is asked over a network and not known to be down, so that an answer may come.
func (r *rule) mayAnswer(request *backends.Request) bool {
	_, isDecided := r.ownDecision(request)
	return !isDecided && r.member.State != nil && r.member.State() == backends.BreakerClosed
}

func (r *rule) ownDecision(request *backends.Request) (d backends.Decision, isDecided bool) {
	if r.member.DecideWithoutCall == nil {
		return backends.Decision{}, false
	}
	return r.member.DecideWithoutCall(request)
}

// withoutCall returns the outcome of the rule, if that is known, while its member does not answer. isPassed: a later rule has been
// reached, so that a member in this process has passed the viewer on.
func (r *rule) withoutCall(request *backends.Request, isPassed bool) (o outcome, isKnown bool) {
	d, isDecided := r.ownDecision(request)
	switch {
	case isDecided:
		return r.handleAnswer(d), true
	case r.member.State == nil:
		return outcome{}, isPassed
	}
	kind := backends.FailureTimeout
	if r.member.State() != backends.BreakerClosed {
		kind = backends.FailureBreakerOpen
	}
	return r.handleFailure(&backends.Failure{Kind: kind, Backend: r.member.Name}), true
}

// handleAnswer applies on_allow and on_deny. Without an opinion the viewer is passed on.
func (r *rule) handleAnswer(d backends.Decision) outcome {
	action := Pass
	switch d.Verdict {
	case backends.Allowed:
		action = r.onYes
	case backends.Denied:
		action = r.onNo
	}
	if action == Pass {
		return outcome{decision: backends.Decision{Challenge: d.Challenge}}
	}
	return outcome{decision: r.memberDecision(d), isFinal: true}
}

// handleFailure applies on_failure. A canceled check and an overload are no failures, so they end the check: if an
// overload were passed on, a flood would lead past this rule. So would viewer input that the backend answers with an error.
func (r *rule) handleFailure(err error) outcome {
	failure := backends.AsFailure(err)
	switch {
	case failure == nil:
		return outcome{err: err, isFinal: true}
	case r.onFailure == Deny:
		return outcome{isFinal: true, decision: backends.Decision{
			Verdict: backends.Denied, Source: backends.FromFailOpen,
			Reason: r.key + ".on_failure=deny; " + r.member.Name + " did not answer: " + failure.Kind.String(),
		}}
	case r.onFailure == Pass && (failure.IsTransport() || failure.Kind == backends.FailureBreakerOpen):
		return outcome{err: err}
	default:
		return outcome{err: err, isFinal: true}
	}
}

// normalizeError turns any error of the member into a failure, an overload or a cancellation.
func (r *rule) normalizeError(ctx context.Context, err error) error {
	switch {
	case backends.IsOverload(err):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("check backend %q: %w", r.member.Name, context.Canceled)
	case backends.AsFailure(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &backends.Failure{Kind: backends.FailureTimeout, Backend: r.member.Name, Err: err}
	case errors.Is(err, context.Canceled):
		return &backends.Failure{
			Kind: backends.FailureMalformed, Backend: r.member.Name, Err: errors.New("canceled by the backend itself"),
		}
	default:
		return &backends.Failure{Kind: backends.FailureMalformed, Backend: r.member.Name, Err: err}
	}
}

// memberDecision returns the member's decision with the member's name and validity. A fallback has no validity of its
// own, so it gets none.
func (r *rule) memberDecision(d backends.Decision) backends.Decision {
	if d.Verdict == backends.Allowed && d.ValidFor == 0 && d.Source.IsAuthoritative() {
		d.ValidFor = r.member.Validity
	}
	if d.Reason == "" {
		d.Reason = d.Verdict.String()
	}
	d.Reason = r.member.Name + ": " + d.Reason
	return d
}
