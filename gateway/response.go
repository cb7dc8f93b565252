package gateway

import (
	"net/http"
	"strconv"
	"time"

	"usher/backends"
	"usher/gateway/origin"
)

// maxFields is how many header fields an answer has at most.
const maxFields = 16

// Field is one header field, its name in canonical form.
type Field struct{ Name, Value string }

// Response is what to send. It is meant to be used again: Reset makes it empty. At most one of Body and Stream is set.
type Response struct {
	Status int
	// Body is all of the body; it is shared and must not be written to. For HEAD it is not sent.
	Body []byte
	// Stream, if not nil, gives the body as it arrives; who sends the answer closes it.
	Stream *origin.Stream

	fields    [maxFields]Field
	numFields int

	session Session        // whose bytes are counted
	stream  origin.Stream  // what Stream points to
	scratch requestContext // here because the answer is used again, and a visit is too big to make for each request
}

// Reset makes the answer empty.
func (resp *Response) Reset() { *resp = Response{} }

// Fields are the header fields. Those of one name, which only Set-Cookie has several of, stand in a row.
func (resp *Response) Fields() []Field { return resp.fields[:resp.numFields] }

// Sent notes how many bytes of the body reached the viewer.
func (resp *Response) Sent(n int64) {
	if resp.session != nil {
		resp.session.Sent(n)
	}
}

// set adds a header field. An empty value adds none.
func (resp *Response) set(name, value string) {
	if value == "" || resp.numFields == maxFields {
		return
	}
	resp.fields[resp.numFields] = Field{name, value}
	resp.numFields++
}

// Set adds a header field: set, for those who word an answer elsewhere.
func (resp *Response) Set(name, value string) { resp.set(name, value) }

// keepFields drops all header fields but those of that name.
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

// refuse answers in one line of text that says why: for the operator who tries it with curl, not for players.
func (resp *Response) refuse(status int, why string) {
	resp.Status = status
	resp.Body = []byte(why + "\n")
	resp.set("Content-Type", "text/plain; charset=utf-8")
	resp.set("Content-Length", strconv.Itoa(len(resp.Body)))
	resp.set("Cache-Control", "no-store")
}

// retryLater asks the viewer to try again: what is wrong will pass, and a 4xx would end his playback.
func (resp *Response) retryLater(after time.Duration, why string) {
	resp.set("Retry-After", strconv.Itoa(max(1, int(after/time.Second))))
	resp.refuse(http.StatusServiceUnavailable, why)
}

// applyDecision answers by the decision, and reports whether the viewer may have what he asked for. This is the one place where
// a decision becomes a status.
func (resp *Response) applyDecision(d *backends.Decision, isPlaylist bool, retryAfter time.Duration) bool {
	switch {
	case d.Verdict == backends.Allowed:
		return true
	case d.Verdict == backends.Denied && d.Redirect != "" && isPlaylist:
		resp.set("Location", d.Redirect)
		resp.refuse(http.StatusFound, "sent elsewhere by the backend")
	case d.Verdict == backends.Denied:
		resp.refuse(http.StatusForbidden, "refused by "+d.Source.String())
	default:
		resp.retryLater(retryAfter, "nobody can say now whether you may watch")
	}
	return false
}
