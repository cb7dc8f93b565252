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

// Answer is what to send. It is meant to be used again: Reset makes it empty. At most one of Body and Stream is set.
type Answer struct {
	Status int
	// Body is all of the body; it is shared and must not be written to. For HEAD it is not sent.
	Body []byte
	// Stream, if not nil, gives the body as it arrives; who sends the answer closes it.
	Stream *origin.Stream

	fields [maxFields]Field
	n      int

	session Session       // whose bytes are counted
	stream  origin.Stream // what Stream points to
	visit   visit         // here because the answer is used again, and a visit is too big to make for each request
}

// Reset makes the answer empty.
func (resp *Answer) Reset() { *resp = Answer{} }

// Fields are the header fields. Those of one name, which only Set-Cookie has several of, stand in a row.
func (resp *Answer) Fields() []Field { return resp.fields[:resp.n] }

// Sent notes how many bytes of the body reached the viewer.
func (resp *Answer) Sent(n int64) {
	if resp.session != nil {
		resp.session.Sent(n)
	}
}

// set adds a header field. An empty value adds none.
func (resp *Answer) set(name, value string) {
	if value == "" || resp.n == maxFields {
		return
	}
	resp.fields[resp.n] = Field{name, value}
	resp.n++
}

// Set adds a header field: set, for those who word an answer elsewhere.
func (resp *Answer) Set(name, value string) { resp.set(name, value) }

// keepOnly drops all header fields but those of that name.
func (resp *Answer) keepOnly(name string) {
	kept := 0
	for _, f := range resp.Fields() {
		if f.Name == name {
			resp.fields[kept] = f
			kept++
		}
	}
	resp.n = kept
}

// refuse answers in one line of text that says why: for the operator who tries it with curl, not for players.
func (resp *Answer) refuse(status int, why string) {
	resp.Status = status
	resp.Body = []byte(why + "\n")
	resp.set("Content-Type", "text/plain; charset=utf-8")
	resp.set("Content-Length", strconv.Itoa(len(resp.Body)))
	resp.set("Cache-Control", "no-store")
}

// retryLater asks the viewer to try again: what is wrong will pass, and a 4xx would end his playback.
func (resp *Answer) comeBack(after time.Duration, why string) {
	resp.set("Retry-After", strconv.Itoa(max(1, int(after/time.Second))))
	resp.refuse(http.StatusServiceUnavailable, why)
}

// decided answers by the decision, and reports whether the viewer may have what he asked for. This is the one place where
// a decision becomes a status.
func (resp *Answer) decided(d *backends.Decision, isPlaylist bool, retryAfter time.Duration) bool {
	switch {
	case d.Verdict == backends.Allowed:
		return true
	case d.Verdict == backends.Denied && d.Redirect != "" && isPlaylist:
		resp.set("Location", d.Redirect)
		resp.refuse(http.StatusFound, "sent elsewhere by the backend")
	case d.Verdict == backends.Denied:
		resp.refuse(http.StatusForbidden, "refused by "+d.Source.String())
	default:
		resp.comeBack(retryAfter, "nobody can say now whether you may watch")
	}
	return false
}
