package edge

import (
	"net/http"
	"strconv"
	"time"

	"usher/backends"
)

// CheckResult is what is to be told to an edge.
type CheckResult struct {
	// Status is what a viewer would be told who asks for media: 200, 302, 403, 503, or another error.
	Status int
	// Location is where a 302 leads.
	Location string
	// RetryAfter is when to come back after a 503, in seconds as the field has it.
	RetryAfter string
	// Decision is what the status rests on, and Left how long it holds; nil if nobody has decided.
	Decision *backends.Decision
	ValidFor time.Duration
}

// FieldSetter takes header fields for an answer; an empty value sets none.
type FieldSetter interface{ Set(name, value string) }

// Encode writes the answer's fields and returns its status.
func (d Dialect) Encode(r CheckResult, to FieldSetter) int {
	status := d.encodeStatus(r.Status)
	switch d {
	case Flussonic:
		encodeFlussonic(r, status, to)
	case Nginx, ForwardAuth, Envoy:
		encodeProxy(r, status, to)
	default:
		if status == http.StatusOK && r.Decision != nil {
			to.Set("X-Session-Name", sessionName(r.Decision))
		}
	}
	switch {
	case status == http.StatusFound:
		to.Set("Location", r.Location)
	case r.Status == http.StatusFound && (d == Astra || d == Alta || d == Nginx):
		to.Set("X-Location", r.Location)
	case status == http.StatusServiceUnavailable:
		to.Set("Retry-After", r.RetryAfter)
	}
	return status
}

// encodeStatus is the media status in the dialect's words: see the table of the package.
func (d Dialect) encodeStatus(media int) int {
	switch {
	case media == http.StatusOK:
		return media
	case d == ForwardAuth || d == Envoy:
		return media
	case d == Flussonic && media >= http.StatusInternalServerError:
		return http.StatusInternalServerError
	default:
		return http.StatusForbidden
	}
}

// sessionName is what the edge shows for the session.
func sessionName(d *backends.Decision) string {
	if d.User != "" {
		return d.User
	}
	return d.UserID
}

const (
	// renewalDelay is how long after a decision's end an edge is sent to ask again: by then it has been renewed behind its back.
	renewalDelay = 2 * time.Second
	// minAuthDuration is when an edge is sent to ask again at the earliest, so that a renewal that is late causes no storm.
	minAuthDuration = 10 * time.Second
	// maxAuthDuration bounds what the edge is told, beyond all that a backend may say.
	maxAuthDuration = 366 * 24 * time.Hour
)

// encodeFlussonic says for how long the answer holds, a No too, and what the user may have.
func encodeFlussonic(r CheckResult, status int, to FieldSetter) {
	if r.Decision == nil || status >= http.StatusInternalServerError {
		return
	}
	holds := max(min(r.ValidFor, maxAuthDuration)+renewalDelay, minAuthDuration)
	to.Set("X-Authduration", strconv.FormatInt(int64((holds+time.Second-1)/time.Second), 10))
	if status != http.StatusOK {
		return
	}
	to.Set("X-Userid", r.Decision.UserID)
	if r.Decision.MaxSessions > 0 {
		to.Set("X-Max-Sessions", strconv.Itoa(r.Decision.MaxSessions))
	}
	if r.Decision.Unique {
		to.Set("X-Unique", "true")
	}
}

// encodeProxy says what an operator may want in his edge's log, or at his origin. A refusal reaches the viewer as it is, so
// nobody is named in it: he may have somebody else's token.
func encodeProxy(r CheckResult, status int, to FieldSetter) {
	if r.Decision == nil {
		return
	}
	if status == http.StatusOK {
		to.Set("X-Session-Name", r.Decision.User)
		to.Set("X-Userid", r.Decision.UserID)
	}
	to.Set("X-Usher-Source", r.Decision.Source.String())
}
