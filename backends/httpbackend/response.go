package httpbackend

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"usher/backends"
)

// Bounds of what a backend may say about a viewer. What is beyond makes no sense, and is ignored with an alarm.
const (
	maxUserLength     = 256
	maxRedirectLength = 2048
	maxSessionsBound  = 1_000_000
	maxAuthDuration   = 366 * 24 * time.Hour
)

// Response is an HTTP answer, read and bounded.
type Response struct {
	Status int
	Header http.Header
	// Body is what was asked for of it; usually nothing.
	Body []byte
	// Followed: it is not the backend's own, but that of where it redirected us.
	Followed bool
}

// Reading is what an answer means.
type Reading struct {
	// Decision holds if Failure is nil.
	Decision backends.Decision
	Failure  *backends.Failure
	// Alarms is what was wrong with the answer, and Detail where, without any value.
	Alarms AlarmSet
	Detail string
}

// Classify reads an answer of the named backend, whose own host (without port) is host. It honours the headers that
// Astra and Flussonic know: X-Session-Name, X-UserId, X-AuthDuration, X-Max-Sessions, X-Unique, and Location or
// X-Location. A header without sense is ignored with an alarm; it never makes a failure of an answer.
func (t *StatusTable) Classify(backend, host string, a Response) Reading {
	var reading Reading
	m := t.meaningOf(a.Status)
	for _, alarm := range m.alarms {
		reading.alarm(alarm, "status "+strconv.Itoa(a.Status))
	}
	switch m.outcome {
	case OutcomeFailure:
		reading.Failure = &backends.Failure{Kind: backends.FailureStatus, Backend: backend, Status: a.Status}
	case OutcomeAllow:
		reading.Decision = reading.allowed(a)
	default:
		reading.Decision = reading.denied(a)
		t.redirect(&reading, m.outcome, backend, host, a)
	}
	return reading
}

func (r *Reading) alarm(a backends.Alarm, detail string) {
	r.Alarms = r.Alarms.With(a)
	if r.Detail == "" {
		r.Detail = detail
	}
}

func (r *Reading) allowed(a Response) backends.Decision {
	d := r.about(a)
	d.Verdict = backends.Allowed
	d.MaxSessions = int(r.number(a.Header, "X-Max-Sessions", 0, maxSessionsBound))
	d.Unique = a.Header.Get("X-Unique") == "true"
	if a.Header.Get("X-Location") != "" {
		r.alarm(backends.AlarmBadHeader, "X-Location beside a yes")
	}
	return d
}

func (r *Reading) denied(a Response) backends.Decision {
	d := r.about(a)
	d.Verdict = backends.Denied
	return d
}

// about reads what is said of the viewer, whatever the verdict.
func (r *Reading) about(a Response) backends.Decision {
	d := backends.Decision{Source: backends.FromBackend, Reason: "backend answered " + strconv.Itoa(a.Status)}
	d.User = displayed(a.Header.Get("X-Session-Name"))
	d.UserID = r.userID(a.Header)
	seconds := r.number(a.Header, "X-AuthDuration", 1, int64(maxAuthDuration/time.Second))
	d.ValidFor = time.Duration(seconds) * time.Second
	return d
}

// userID is a key, so half of one is worse than none: two users could share it.
func (r *Reading) userID(h http.Header) string {
	id := strings.TrimSpace(h.Get("X-UserId"))
	if len(id) > maxUserLength || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		r.alarm(backends.AlarmBadHeader, "X-UserId")
		return ""
	}
	return id
}

// number reads a header that holds one within bounds; zero if it is not there or not one.
func (r *Reading) number(h http.Header, name string, least, most int64) int64 {
	text := strings.TrimSpace(h.Get(name))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		r.alarm(backends.AlarmBadHeader, name)
		return 0
	}
	return n
}

// redirect completes a No with the place to send the viewer to, if the answer names one and the preset relays it.
func (t *StatusTable) redirect(r *Reading, outcome Outcome, backend, host string, a Response) {
	redirects := outcome == OutcomeRedirect
	place := a.Header.Get("X-Location")
	if redirects && a.Header.Get("Location") != "" {
		place = a.Header.Get("Location")
	}
	switch {
	case place == "" && outcome >= OutcomeRedirect:
		r.alarm(backends.AlarmUnexpectedStatus, fmt.Sprintf("status %d without a Location to use", a.Status))
		return
	case place == "" || !redirects && !relays(t.preset):
		return
	}
	err := checkRedirect(place, host)
	switch {
	case err == nil:
		r.Decision.Redirect = place
	case errors.Is(err, errOwnHost):
		r.alarm(backends.AlarmRedirectToItself, fmt.Sprintf("status %d", a.Status))
		if redirects { // its status says nothing about the viewer; a 403 beside an X-Location does
			r.Decision = backends.Decision{}
			r.Failure = &backends.Failure{Kind: backends.FailureMalformed, Backend: backend, Err: err}
		}
	default:
		r.alarm(backends.AlarmBadHeader, "Location or X-Location")
	}
}

var (
	errOwnHost     = errors.New("redirect to the backend's own host")
	errBadRedirect = errors.New("redirect to no http or https address")
)

// checkRedirect reports why a viewer cannot be sent to place. One without a host would be on the backend's own.
func checkRedirect(place, ownHost string) error {
	u, err := url.Parse(place)
	switch {
	case err != nil, len(place) > maxRedirectLength, !isPrintableASCII(place):
		return errBadRedirect
	case u.Host == "" && u.Scheme == "":
		return errOwnHost
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "", u.Hostname() == "", u.User != nil:
		return errBadRedirect
	case strings.EqualFold(strings.TrimSuffix(u.Hostname(), "."), strings.TrimSuffix(ownHost, ".")):
		return errOwnHost
	}
	return nil
}

func isPrintableASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' })
}

// displayed is a name made fit to be shown: printable, and not longer than names are.
func displayed(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, name)
	for len(name) > maxUserLength {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return strings.TrimSpace(name)
}
