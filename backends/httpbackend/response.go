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

// Bounds of what a backend may say about a viewer. A value beyond them is ignored with an alarm.
const (
	maxUserLength     = 256
	maxRedirectLength = 2048
	maxSessionsBound  = 1_000_000
	maxAuthDuration   = 366 * 24 * time.Hour
)

// Response is a bounded HTTP answer.
type Response struct {
	Status int
	Header http.Header
	// Body is empty unless the call or the config needs it.
	Body []byte
	// WasRedirected reports that the answer comes from the target of a redirect.
	WasRedirected bool
}

// Classification is what an answer means.
type Classification struct {
	// Decision holds if Failure is nil.
	Decision backends.Decision
	Failure  *backends.Failure
	// Raised holds the alarms that the answer raises.
	Raised AlarmSet
	// Detail names the status or header that raised the first alarm, without a value.
	Detail string
}

// Classify returns what an answer of the named backend means. host is the backend's own, without port. It reads the
// headers that Astra and Flussonic define: X-Session-Name, X-UserId, X-AuthDuration, X-Max-Sessions, X-Unique,
// Location or X-Location, and WWW-Authenticate of a 401. An invalid header is ignored with an alarm; it never makes a failure of an answer.
func (t *StatusTable) Classify(backend, host string, a Response) Classification {
	var c Classification
	m := t.meaningOf(a.Status)
	for _, alarm := range m.alarms {
		c.raise(alarm, "status "+strconv.Itoa(a.Status))
	}
	switch m.outcome {
	case OutcomeFailure:
		c.Failure = &backends.Failure{
			Kind: backends.FailureStatus, Backend: backend, Status: a.Status, MayBeDenial: c.Raised.Has(backends.AlarmWrongAddress),
		}
	case OutcomeAllow:
		c.Decision = c.allowedDecision(a)
	default:
		c.Decision = c.deniedDecision(a)
		c.readChallenge(a)
		t.addRedirect(&c, m.outcome, backend, host, a)
	}
	return c
}

func (c *Classification) raise(a backends.Alarm, detail string) {
	c.Raised = c.Raised.With(a)
	if c.Detail == "" {
		c.Detail = detail
	}
}

func (c *Classification) allowedDecision(a Response) backends.Decision {
	d := c.viewerDecision(a)
	d.Verdict = backends.Allowed
	d.MaxSessions = int32(c.number(a.Header, "X-Max-Sessions", 0, maxSessionsBound))
	d.Unique = a.Header.Get("X-Unique") == "true"
	if a.Header.Get("X-Location") != "" {
		c.raise(backends.AlarmBadHeader, "X-Location in an allowing answer")
	}
	return d
}

func (c *Classification) deniedDecision(a Response) backends.Decision {
	d := c.viewerDecision(a)
	d.Verdict = backends.Denied
	return d
}

// viewerDecision reads what the answer says of the viewer, whatever the verdict.
func (c *Classification) viewerDecision(a Response) backends.Decision {
	d := backends.Decision{Source: backends.FromBackend, Reason: "backend answered " + strconv.Itoa(a.Status)}
	d.User = PrintableName(a.Header.Get("X-Session-Name"))
	d.UserID = c.userID(a.Header)
	seconds := c.number(a.Header, "X-AuthDuration", 1, int64(maxAuthDuration/time.Second))
	d.ValidFor = time.Duration(seconds) * time.Second
	return d
}

// userID reads the user's key. An invalid one is dropped as a whole, since two users could share a part.
func (c *Classification) userID(h http.Header) string {
	id := strings.TrimSpace(h.Get("X-UserId"))
	if len(id) > maxUserLength || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		c.raise(backends.AlarmBadHeader, "X-UserId")
		return ""
	}
	return id
}

// number reads a header that holds a number from least to most; zero if it is absent or invalid.
func (c *Classification) number(h http.Header, name string, least, most int64) int64 {
	text := strings.TrimSpace(h.Get(name))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		c.raise(backends.AlarmBadHeader, name)
		return 0
	}
	return n
}

// addRedirect adds the redirect to a denial, if the answer has a target and the preset relays it.
func (t *StatusTable) addRedirect(c *Classification, outcome Outcome, backend, host string, a Response) {
	redirects := outcome == OutcomeRedirect
	target := a.Header.Get("X-Location")
	if redirects && a.Header.Get("Location") != "" {
		target = a.Header.Get("Location")
	}
	switch {
	case target == "" && outcome >= OutcomeRedirect:
		c.raise(backends.AlarmUnexpectedStatus, fmt.Sprintf("status %d without a Location to use", a.Status))
		return
	case target == "" || !redirects && !relaysRedirects(t.preset):
		return
	}
	err := validateRedirect(target, host)
	switch {
	case err == nil:
		c.Decision.Redirect = target
	case errors.Is(err, errOwnHost):
		c.raise(backends.AlarmRedirectToItself, fmt.Sprintf("status %d", a.Status))
		if redirects { // a redirect says nothing about the viewer; a 403 with an X-Location does
			c.Decision = backends.Decision{}
			c.Failure = &backends.Failure{Kind: backends.FailureMalformed, Backend: backend, Err: err}
		}
	default:
		c.raise(backends.AlarmBadHeader, "Location or X-Location")
	}
}

var (
	errOwnHost     = errors.New("redirect to the backend's own host")
	errBadRedirect = errors.New("redirect to no http or https address")
)

// validateRedirect returns why a viewer cannot be redirected to target. A target without a host is on the backend's own.
func validateRedirect(target, ownHost string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil, len(target) > maxRedirectLength, !isPrintableASCII(target):
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

// PrintableName returns the name without unprintable characters, cut to maxUserLength bytes.
func PrintableName(name string) string {
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
