package actors

import (
	"context"
	"errors"
	"strings"
	"time"
	"unique"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"usher/actors/session"
	"usher/actors/timeline"
	"usher/backends"
)

// sessionTrace records a session's spans: one for its opening, and one for each re-check and each change of its decision that
// viewers or operators feel, linked to the opening. The cached path has none. No attribute holds a token, a query or a path.
type sessionTrace struct {
	opening trace.Span         // until the first decision
	link    *trace.SpanContext // of the opening, here or on another node, if it was recorded
}

// parent returns the opening's span as a W3C traceparent, for nodes that re-check the session. It is empty if none was
// recorded.
func (st *sessionTrace) parent() string {
	if st.link == nil {
		return ""
	}
	return "00-" + st.link.TraceID().String() + "-" + st.link.SpanID().String() + "-01"
}

// comesFrom links what follows to the opening on another node.
func (st *sessionTrace) comesFrom(traceparent string) {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return
	}
	id, err := trace.TraceIDFromHex(parts[1])
	span, err2 := trace.SpanIDFromHex(parts[2])
	if err != nil || err2 != nil {
		return
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})
	if st.opening != nil {
		st.opening.AddLink(trace.Link{SpanContext: sc})
	}
	st.link = &sc
}

func startSpan(ctx context.Context, t trace.Tracer, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t == nil {
		return ctx, noop.Span{}
	}
	return t.Start(ctx, name, o...)
}

// open starts the opening's span, as a child of the request that caused it.
func (st *sessionTrace) open(t trace.Tracer, s *Session, parent trace.SpanContext) {
	if t == nil {
		return
	}
	ctx := trace.ContextWithSpanContext(context.Background(), parent)
	f := s.Request()
	_, st.opening = t.Start(ctx, "session.open", trace.WithAttributes(
		attribute.String("session.id", s.id.String()), attribute.String("usher.route", f.Route),
		attribute.String("usher.channel", f.Channel), attribute.String("usher.backend", s.backend.Load().name)))
	if sc := st.opening.SpanContext(); st.opening.IsRecording() { // whether it is sent is known at its end
		st.link = &sc
	}
}

// context returns ctx with the opening's span, while that lasts.
func (st *sessionTrace) context(ctx context.Context) context.Context {
	if st.opening == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, st.opening)
}

// check returns the context of a check, and a function to call with its outcome. The opening's check has no span of its own.
func (st *sessionTrace) check(
	ctx context.Context, t trace.Tracer, s *Session, number int,
) (context.Context, func(*backends.Decision, error)) {
	if t == nil || st.opening != nil {
		return st.context(ctx), func(*backends.Decision, error) {}
	}
	ctx, span := t.Start(ctx, "session.recheck", st.linked(s, attribute.Int("usher.check", number))...)
	return ctx, func(d *backends.Decision, err error) {
		describe(span, d, err)
		span.End()
	}
}

// linked returns the options of a span that begins a trace of its own, linked to the opening.
func (st *sessionTrace) linked(s *Session, more ...attribute.KeyValue) []trace.SpanStartOption {
	options := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithAttributes(append(more,
		attribute.String("session.id", s.id.String()), attribute.String("usher.channel", s.request.Channel()),
		attribute.String("usher.backend", s.backend.Load().name))...)}
	if st.link != nil {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: *st.link}))
	}
	return options
}

// decided ends the opening's span with the first decision. A later one that changes what the viewer gets, or who answers for
// it, makes a span without a duration: its cause may be a kick, a ban, a limit or an outage, which no check shows.
func (st *sessionTrace) decided(t trace.Tracer, s *Session, before, d *backends.Decision) {
	if st.opening != nil {
		describe(st.opening, d, nil)
		st.end()
		return
	}
	if t == nil || before == nil || before.Verdict == d.Verdict && before.Source.IsAuthoritative() == d.Source.IsAuthoritative() {
		return
	}
	_, span := t.Start(context.Background(), "session.change", st.linked(s,
		attribute.String("usher.verdict.before", before.Verdict.String()), attribute.String("usher.source.before", before.Source.String()))...)
	describe(span, d, nil)
	span.End()
}

func (st *sessionTrace) end() {
	if st.opening != nil {
		st.opening.End()
		st.opening = nil
	}
}

// describe adds an outcome to a span. A failure's text may quote a network library, so only its kind is shown.
func describe(span trace.Span, d *backends.Decision, err error) {
	var f *backends.Failure
	switch {
	case errors.As(err, &f):
		span.SetStatus(codes.Error, f.Kind.String())
	case err != nil:
		span.SetStatus(codes.Error, "not asked")
	default:
		span.SetAttributes(attribute.String("usher.verdict", d.Verdict.String()),
			attribute.String("usher.source", d.Source.String()))
		for key, value := range map[attribute.Key]string{"user.id": d.UserID, "user.name": d.User, "usher.reason": d.Reason} {
			if value != "" {
				span.SetAttributes(key.String(value))
			}
		}
	}
}

// noted is a session before an event, for its timeline.
type noted struct {
	event    session.Event
	decision backends.Decision
	revision uint64
	// wasOpening: there was no decision yet. isAnswer: the event is the answer to the newest check.
	wasOpening, isAnswer bool
}

func (a *sessionActor) beforeEvent(event session.Event) noted {
	answer, isAnswer := event.(*session.BackendAnswered)
	return noted{
		event: event, decision: a.state.Decision, revision: a.state.Revision, wasOpening: a.state.IsOpening(),
		isAnswer: isAnswer && answer.Number == int(a.state.CheckNumber) && a.check != nil && !a.session.flags.has(flagClosed),
	}
}

// note adds what the event has decided to the session's timeline, before viewers see it.
func (a *sessionActor) note(n *noted, isPublished bool, now time.Time) {
	s, d := a.session, a.state.Decision
	if n.isAnswer {
		p, answer := a.check, n.event.(*session.BackendAnswered)
		a.check = nil
		if !isPublished {
			d = answer.Decision // it changed nothing
		}
		isNews := n.wasOpening || p.failure == nil || p.failure.Kind != backends.FailureBreakerOpen || p.trigger != timeline.Opening
		if isNews { // otherwise the fallback of the open breaker is an entry already
			s.timeline.Add(timeline.Answered(p.trigger, s.backend.Load().name, p.took, &d, p.failure), now)
		}
		return
	}
	c := timeline.Change{
		Event: n.event, WasOpening: n.wasOpening, Before: &n.decision, After: &d,
		RevisedBefore: n.revision, RevisedAfter: a.state.Revision, IsPublished: isPublished, Failure: a.failure,
	}
	if opening := s.opening.Load(); opening != nil {
		c.Waited = now.Sub(opening.began)
	}
	if e, isEntry := c.Entry(s.backend.Load().name); isEntry {
		s.timeline.Add(e, now)
	}
}

// countUnverified adds up for how long the session was allowed without an answer. d is its decision from now on.
func (a *sessionActor) countUnverified(d backends.Decision, now time.Time) {
	at := now.Sub(a.session.policy().Start)
	if a.isUnverified {
		unverified := at - a.unverifiedSince
		a.session.addUnverified(unverified)
		a.isUnverified, a.unverifiedFor = false, a.unverifiedFor+unverified
	}
	if a.unverifiedFor > 0 && d.Source.IsAuthoritative() {
		verified := d // so that it escapes here alone
		a.registry.options.Observer.Verified(a.session.Request(), &verified, a.unverifiedFor)
		a.unverifiedFor = 0
	}
	if d.Verdict == backends.Allowed && !d.Source.IsAuthoritative() {
		a.isUnverified, a.unverifiedSince = true, at
	}
}

// countExpired has the observer count the session while it is allowed without an answer and its token has expired, so that no check
// can verify it.
func (a *sessionActor) countExpired(now time.Time) {
	var at unique.Handle[string]
	if life := a.session.policy().TokenLife; a.isUnverified && life > 0 && now.Sub(a.tokenIssued()) > life {
		at = unique.Make(a.session.request.Backend())
	}
	if before := a.expiredAt; before != at {
		a.expiredAt = at
		a.observeExpired(before, -1)
		a.observeExpired(at, 1)
	}
}

func (a *sessionActor) observeExpired(backend unique.Handle[string], sessions int) {
	if backend != (unique.Handle[string]{}) {
		a.registry.options.Observer.TokenExpired(backend.Value(), sessions)
	}
}

// tokenIssued returns when the viewer's token was new: when the session was opened, or the root of a sibling.
func (a *sessionActor) tokenIssued() time.Time {
	if root := a.session.rootOpened(); !root.IsZero() {
		return root
	}
	return a.state.Opened()
}
