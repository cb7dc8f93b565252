package gateway

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/enforcement"
	"usher/gateway/origin"
	"usher/gateway/reference"
	"usher/gateway/ticket"
)

// maxFields bounds a response's header fields.
const maxFields = 16

// Field is one header field, its name in canonical form.
type Field struct{ Name, Value string }

// Response is what to send. It is reusable: Reset empties it. At most one of Body and Stream is set.
type Response struct {
	Status int
	// Body is the whole body. It is shared and must not be written to, and is valid until Reset. For HEAD it is not sent. The sender
	// states its length, unless a field does: a text of it would be an allocation for each response.
	Body []byte
	// Stream, if not nil, gives the body as it arrives. The sender closes it.
	Stream *origin.Stream

	fields    [maxFields]Field
	numFields int

	serving *atomic.Int64    // counts the request; nil: it is not counted
	session session.Handle   // whose request is answered; counts the bytes sent
	stream  origin.Stream    // what Stream points to
	buffer  reference.Buffer // of the request's reference; survives Reset
	text    []byte           // what a body is written into; survives Reset
	scratch requestContext   // lives here because it is too big to allocate for each request
}

// begin notes that the session's request is being answered, until Reset.
func (resp *Response) begin(s session.Handle) {
	resp.session = s
	s.Begin()
}

// Reset empties the response, which has been sent.
func (resp *Response) Reset() {
	if resp.serving != nil {
		resp.serving.Add(-1)
	}
	resp.serving = nil
	resp.clear()
}

// clear empties the response to a request that is still served.
func (resp *Response) clear() {
	if resp.session != nil {
		resp.session.End(time.Now())
	}
	resp.Status, resp.Body, resp.Stream, resp.session = 0, nil, nil, nil
	resp.fields, resp.numFields = [maxFields]Field{}, 0
	resp.stream, resp.scratch = origin.Stream{}, requestContext{}
}

// maxKeptText is the longest body whose memory the next response gets. Live playlists have some 2 kB.
const maxKeptText = 8 << 10

// makeText returns an empty text with room for n bytes, which is valid until Reset.
func (resp *Response) makeText(n int) []byte {
	if n > maxKeptText {
		return make([]byte, 0, n)
	}
	if cap(resp.text) < n {
		resp.text = make([]byte, 0, n)
	}
	return resp.text[:0]
}

// Fields returns the header fields. Fields of one name are adjacent; only Set-Cookie and WWW-Authenticate occur more than
// once.
func (resp *Response) Fields() []Field { return resp.fields[:resp.numFields] }

// StatesLength reports whether the sender states the length of Body where no field does: not to HEAD where there is no body at hand,
// whose length is unknown then.
func (resp *Response) StatesLength(method string) bool {
	return resp.Stream == nil && resp.HasBody() && (method != http.MethodHead || len(resp.Body) > 0)
}

// HasBody reports whether a response of that status has a body, even if it is empty.
func (resp *Response) HasBody() bool {
	return resp.Status >= http.StatusOK && resp.Status != http.StatusNoContent && resp.Status != http.StatusNotModified
}

// Sent counts bytes of the body that were written to the viewer.
func (resp *Response) Sent(n int64) {
	if resp.session != nil {
		resp.session.Sent(n)
	}
}

// Set adds a header field. An empty value adds none.
func (resp *Response) Set(name, value string) {
	if value == "" || resp.numFields == maxFields {
		return
	}
	resp.fields[resp.numFields] = Field{name, value}
	resp.numFields++
}

// keepFields drops all header fields except those of that name.
func (resp *Response) keepFields(name string) {
	kept := 0
	for _, f := range resp.Fields() {
		if f.Name == name {
			resp.fields[kept] = f
			kept++
		}
	}
	resp.numFields = kept
}

// refuse answers with one line of text that says why. It is written for an operator with curl; players ignore it.
func (resp *Response) refuse(status int, why string) {
	resp.Status = status
	resp.Body = []byte(why + "\n")
	resp.Set("Content-Type", "text/plain; charset=utf-8")
	resp.Set("Cache-Control", "no-store")
}

// retryLater answers 503 with Retry-After. It is for faults that pass: a 4xx would end playback.
func (resp *Response) retryLater(after time.Duration, why string) {
	resp.Set("Retry-After", strconv.Itoa(max(1, int(after/time.Second))))
	resp.refuse(http.StatusServiceUnavailable, why)
}

// challenge asks the viewer for credentials. Each challenge has a field of its own, because players read no list.
func (resp *Response) challenge(challenges, why string) {
	for one := range strings.SplitSeq(challenges, "\n") {
		resp.Set("Www-Authenticate", one)
	}
	resp.refuse(http.StatusUnauthorized, why)
}

// waiveRefusal turns a refusal into none if the viewer's route does not enforce it. It drops the fields that came with the
// refusal. A publisher is refused as ever.
func (g *Gateway) waiveRefusal(rc *requestContext, resp *Response, fieldsBefore int) {
	r := rc.target.route
	if resp.Status == 0 || r.config.Enforce == enforcement.Enforced || rc.request.isPublish {
		return
	}
	if rc.id.IsZero() {
		if !rc.target.mapping.viewer.isDeep {
			rc.target.bind(0) // one viewer for all folders, none of which they opened
		}
		g.useCredentials(rc)
	}
	if !rc.isRefused { // else the playlist with the ticket was recorded
		g.recordRefusal(rc, resp)
	}
	if !rc.hasTicket {
		rc.claims = g.claimsOfRefused(rc, resp.Status)
	}
	rc.session, rc.isRefused = nil, true
	resp.Status, resp.Body, resp.numFields = 0, nil, fieldsBefore
}

// claimsOfRefused returns what the ticket of a viewer says who is served although they were refused: nothing that outlives
// the waiver, unless they could not be asked about and may well be good.
func (g *Gateway) claimsOfRefused(rc *requestContext, status int) ticket.Claims {
	if status != http.StatusServiceUnavailable {
		return ticket.Nobody(rc.id)
	}
	return ticket.Claims{ID: rc.id, Ticket: session.Ticket{Opened: rc.now, KeyID: g.SigningKey()}, Tag: g.sessionTag(rc)}
}

// countRefusal tells of a refusal, if that is the response.
func (g *Gateway) countRefusal(rc *requestContext, resp *Response) {
	if resp.Status != 0 {
		g.tellRefusal(rc.target.route, g.refusalReason(rc, resp.Status, rc.decision()))
	}
}

// tellRefusal tells of a response that refuses a viewer of the route.
func (g *Gateway) tellRefusal(r *route, reason enforcement.Reason) {
	if g.options.OnRefusal != nil {
		g.options.OnRefusal(r.name, string(reason))
	}
}

// decision returns the decision on the viewer; pending without a session.
func (rc *requestContext) decision() backends.Decision {
	if rc.session == nil || rc.session.Decision() == nil {
		return backends.Decision{}
	}
	return *rc.session.Decision()
}

// recordRefusal logs and counts a refusal that is not carried out.
func (g *Gateway) recordRefusal(rc *requestContext, resp *Response) {
	d := rc.decision()
	g.unenforced.Record(enforcement.Refusal{
		Route: rc.target.route.name, Session: rc.id, Reason: g.refusalReason(rc, resp.Status, d),
		Facts: []slog.Attr{
			slog.String("channel", rc.target.channel), slog.String("user", cmp.Or(d.User, d.UserID)),
			slog.String("source", d.Source.String()), slog.String("address", rc.viewer.address.String()),
			slog.String("why", cmp.Or(d.Reason, strings.TrimSpace(string(resp.Body)))),
		},
	})
}

// refusalReason returns why a viewer was refused, and tells a ticket of an unknown key from one that is altered.
func (g *Gateway) refusalReason(rc *requestContext, status int, d backends.Decision) enforcement.Reason {
	reason := rc.refusalReason(status, d)
	if reason == enforcement.BadTicket && g.signer.HasUnknownKey(rc.badTicket) {
		return enforcement.UnknownKey
	}
	return reason
}

// refusalReason returns why a viewer was refused.
func (rc *requestContext) refusalReason(status int, d backends.Decision) enforcement.Reason {
	switch r := rc.target.route; {
	case d.Verdict == backends.Denied:
		return enforcement.DeniedBy(d.Source)
	case d.Verdict == backends.Allowed:
		return enforcement.Addresses
	case status == http.StatusServiceUnavailable:
		return enforcement.Unchecked
	case rc.isTicketInPath && !rc.hasTicket, rc.badTicket != "":
		return enforcement.BadTicket
	case rc.hasTicket:
		return enforcement.Addresses
	case rc.canOpenSession() && r.missing(&rc.credentials) != "":
		return enforcement.MissingCredential
	default:
		return enforcement.NoTicket
	}
}

// Routes returns the names of the routes, in their order.
func (g *Gateway) Routes() []string {
	var names []string
	for _, r := range g.routes {
		names = append(names, r.name)
	}
	return names
}

// UnenforcedRefusals returns how many sessions each route with enforce: false would have refused, by reason.
func (g *Gateway) UnenforcedRefusals() map[string]map[enforcement.Reason]uint64 {
	return g.unenforced.Counts()
}

// applyDecision reports whether the decision allows the viewer. If it does not, it writes the refusal. A decision becomes
// a status here and nowhere else. A challenge is for a request whose credentials would open a session.
func (resp *Response) applyDecision(d *backends.Decision, rc *requestContext, retryAfter time.Duration) bool {
	switch {
	case d.Verdict == backends.Allowed:
		return true
	case d.Verdict == backends.Denied && d.Redirect != "" && rc.isPlaylist:
		resp.Set("Location", d.Redirect)
		resp.refuse(http.StatusFound, "redirected by the backend")
	case d.Verdict == backends.Denied && d.Challenge != "" && rc.canOpenSession():
		resp.challenge(d.Challenge, "denied by "+d.Source.String())
	case d.Verdict == backends.Denied && d.Reason == backends.ReasonNewAddress:
		resp.refuse(http.StatusForbidden, d.Reason)
	case d.Verdict == backends.Denied:
		resp.refuse(http.StatusForbidden, "denied by "+d.Source.String())
	default:
		why := "access cannot be checked now; try again"
		if d.Reason != "" {
			why += " (" + d.Reason + ")"
		}
		resp.retryLater(retryAfter, why)
	}
	return false
}

// shed asks a viewer to come back, and tells of the bound that turned them away.
func (g *Gateway) shed(err error, resp *Response, after time.Duration) {
	if over, ok := errors.AsType[*backends.Overload](err); ok {
		g.countOverload(over)
	}
	resp.retryLater(after, err.Error())
}

func (g *Gateway) countOverload(over *backends.Overload) {
	if g.options.OnOverload != nil {
		g.options.OnOverload(over.Setting)
	}
}

// parseOverload returns the Overload with that message, or nil. A decision that an Overload left pending has its message as the
// reason.
func parseOverload(message string) *backends.Overload {
	rest, isOverload := strings.CutPrefix(message, "overloaded: ")
	rest, isWhole := strings.CutSuffix(rest, " reached")
	name, value, isSetting := strings.Cut(rest, "=")
	if !isOverload || !isWhole || !isSetting {
		return nil
	}
	return &backends.Overload{Setting: name, Value: value}
}
