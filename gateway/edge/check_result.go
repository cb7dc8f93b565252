package edge

import (
	"net/http"
	"strconv"
	"time"

	"usher/backends"
)

// CheckResult is the answer to an edge, before it is encoded in a dialect.
type CheckResult struct {
	// Status is the one that a viewer who asks for media would get: 200, 302, 401, 403, 503, or another error.
	Status int
	// Location is the target of a 302.
	Location string
	// Challenges are the values of WWW-Authenticate for a 401.
	Challenges []string
	// RetryAfter is the value of Retry-After for a 503.
	RetryAfter string
	// Decision is what the status rests on; nil if there is none.
	Decision *backends.Decision
	// ValidFor is how long the decision holds.
	ValidFor time.Duration
}

// FieldSetter sets header fields of a response. An empty value sets none.
type FieldSetter interface{ Set(name, value string) }

// Encode sets the response's fields and returns its status.
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
	d.encodeHints(r, status, to)
	return status
}

// encodeHints sets what the viewer can do about a refusal.
func (d Dialect) encodeHints(r CheckResult, status int, to FieldSetter) {
	switch {
	case status == http.StatusUnauthorized:
		for _, challenge := range r.Challenges {
			to.Set("Www-Authenticate", challenge)
		}
	case status == http.StatusFound:
		to.Set("Location", r.Location)
	case r.Status == http.StatusFound && (d == Astra || d == Alta || d == Nginx):
		to.Set("X-Location", r.Location)
	case status == http.StatusServiceUnavailable:
		to.Set("Retry-After", r.RetryAfter)
	}
}

// encodeStatus returns the dialect's status for a media status: see the package's table.
func (d Dialect) encodeStatus(media int) int {
	switch {
	case media == http.StatusOK:
		return media
	case d == ForwardAuth || d == Envoy || d == Nginx && media == http.StatusUnauthorized:
		return media
	case d == Flussonic && media >= http.StatusInternalServerError:
		return http.StatusInternalServerError
	default:
		return http.StatusForbidden
	}
}

// sessionName returns the name under which the edge shows the session.
func sessionName(d *backends.Decision) string {
	if d.User != "" {
		return d.User
	}
	return d.UserID
}

const (
	// renewalDelay is how long after a decision's end the edge asks again. By then the decision has been renewed.
	renewalDelay = 2 * time.Second
	// minAuthDuration is the shortest X-AuthDuration, so that a late renewal does not cause a storm of checks.
	minAuthDuration = 10 * time.Second
	// maxAuthDuration is the longest X-AuthDuration, longer than any backend may give.
	maxAuthDuration = 366 * 24 * time.Hour
)

// encodeFlussonic sets how long the answer holds, denied or not, and the user's limits.
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
		to.Set("X-Max-Sessions", strconv.Itoa(int(r.Decision.MaxSessions)))
	}
	if r.Decision.Unique {
		to.Set("X-Unique", "true")
	}
}

// encodeProxy sets what an operator may want in the edge's log or at the origin. A refusal reaches the viewer unchanged, so
// it does not name the user, whose token the viewer may have stolen.
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
