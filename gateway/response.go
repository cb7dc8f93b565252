package gateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/origin"
)

// maxFields bounds a response's header fields.
const maxFields = 16

// Field is one header field, its name in canonical form.
type Field struct{ Name, Value string }

// Response is what to send. It is reusable: Reset empties it. At most one of Body and Stream is set.
type Response struct {
	Status int
	// Body is the whole body. It is shared and must not be written to. For HEAD it is not sent.
	Body []byte
	// Stream, if not nil, gives the body as it arrives. The sender closes it.
	Stream *origin.Stream

	fields    [maxFields]Field
	numFields int

	session session.Handle // whose request is answered; counts the bytes sent
	stream  origin.Stream  // what Stream points to
	scratch requestContext // lives here because it is too big to allocate for each request
}

// begin notes that the session's request is being answered, until Reset.
func (resp *Response) begin(s session.Handle) {
	resp.session = s
	s.Begin()
}

// Reset empties the response, which has been sent.
func (resp *Response) Reset() {
	if resp.session != nil {
		resp.session.End(time.Now())
	}
	*resp = Response{}
}

// Fields returns the header fields. Fields of one name are adjacent; only Set-Cookie and WWW-Authenticate occur more than
// once.
func (resp *Response) Fields() []Field { return resp.fields[:resp.numFields] }

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
	resp.Set("Content-Length", strconv.Itoa(len(resp.Body)))
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
