package httpbackend

import (
	"cmp"
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
	// Body is empty unless the call or the config needs it and the status allows.
	Body []byte
	// WasRedirected reports that the answer comes from the target of a redirect.
	WasRedirected bool

	page page // what the beginning of an allowing answer's body looks like, where the decision does not need it
	// isUnexpected: the contract has no body, and this one has more than whole warnings of PHP.
	isUnexpected bool
	traced       *traceRecorder
}

// Classification is what an answer means.
type Classification struct {
	// Decision holds if Failure is nil.
	Decision backends.Decision
	Failure  *backends.Failure
	// Raised holds the alarms that the answer raises.
	Raised AlarmSet
	// Detail names the statuses and headers that raised them, without a value.
	Detail string

	// relayed is the target, without query, of a redirect that would be for the viewer unless most answers have it. Empty: none, or the
	// status denies by itself, or no check can be there.
	relayed string
}

// Classify returns what an answer of the named backend at that address means. It reads the headers that Astra and
// Flussonic define: X-Session-Name, X-UserId, X-AuthDuration, X-Max-Sessions, X-Unique, Location or X-Location, and
// WWW-Authenticate of a 401. A header that cannot be read raises an alarm; it never makes a failure of an answer.
func (t *StatusTable) Classify(backend string, address *url.URL, a Response) Classification {
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
		return c
	case OutcomeAllow:
		c.Decision = c.allowedDecision(a)
	default:
		c.Decision = c.deniedDecision(a)
		c.readChallenge(a)
	}
	t.readRedirect(&c, m.outcome, backend, address, a)
	return c
}

// raise adds an alarm. Detail names everything that raised one.
func (c *Classification) raise(a backends.Alarm, detail string) {
	c.Raised = c.Raised.With(a)
	if c.Detail != "" {
		c.Detail += "; "
	}
	c.Detail += detail
}

// fail makes a failure of the answer. err must not quote it.
func (c *Classification) fail(backend string, a backends.Alarm, err error) {
	c.Decision, c.relayed = backends.Decision{}, ""
	c.Failure = &backends.Failure{Kind: backends.FailureMalformed, Backend: backend, Err: err}
	c.raise(a, err.Error())
}

func (c *Classification) allowedDecision(a Response) backends.Decision {
	d := c.viewerDecision(a)
	d.Verdict = backends.Allowed
	d.MaxSessions = int32(c.number(a.Header, "X-Max-Sessions", 0, maxSessionsBound, "sessions.per_user.max_streams holds"))
	switch unique := strings.TrimSpace(a.Header.Get("X-Unique")); unique {
	case "", "false":
	case "true":
		d.Unique = true
	default:
		c.raise(backends.AlarmBadHeader, "X-Unique is neither true nor false: the user may play several streams")
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
	d := backends.Decision{Source: backends.FromBackend, Reason: answered(a.Status)}
	d.UserID = c.userID(a.Header)
	d.User = c.userName(a.Header, d.UserID)
	seconds := c.number(a.Header, "X-AuthDuration", 1, int64(maxAuthDuration/time.Second), "the decision holds for validity")
	d.ValidFor = time.Duration(seconds) * time.Second
	return d
}

// answered returns the reason of a decision on an answer. Most are of one status: a node that keeps a million decisions keeps one text.
func answered(status int) string {
	if status == http.StatusOK {
		return "backend answered 200"
	}
	return "backend answered " + strconv.Itoa(status)
}

// userName reads the user's name, as [UserName] shows it.
func (c *Classification) userName(h http.Header, id string) string {
	sent := strings.TrimSpace(h.Get("X-Session-Name"))
	name := UserName(sent, id)
	if name != sent {
		assumed := "it is shown in part"
		if id == "" {
			assumed = "it is ignored, and the user's streams are counted by the credentials"
		}
		c.raise(backends.AlarmBadHeader, fmt.Sprintf("X-Session-Name is not printable UTF-8 of at most %d bytes: %s", maxUserLength, assumed))
	}
	return name
}

// userID reads the user's key. An invalid one is dropped as a whole, since two users could share a part.
func (c *Classification) userID(h http.Header) string {
	id := strings.TrimSpace(h.Get("X-UserId"))
	if len(id) > maxUserLength || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		c.raise(backends.AlarmBadHeader, fmt.Sprintf("X-UserId is not printable UTF-8 of at most %d bytes: "+
			"the user's streams are counted by X-Session-Name or the credentials", maxUserLength))
		return ""
	}
	return id
}

// number reads a header that holds a number from least to most; zero if it is absent or cannot be read. assumed says what
// holds then.
func (c *Classification) number(h http.Header, name string, least, most int64, assumed string) int64 {
	text := strings.TrimSpace(h.Get(name))
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		c.raise(backends.AlarmBadHeader, fmt.Sprintf("%s is no number from %d to %d: %s", name, least, most, assumed))
		return 0
	}
	return n
}

// readRedirect reads Location of a redirect, and X-Location beside any other answer.
func (t *StatusTable) readRedirect(c *Classification, outcome Outcome, backend string, address *url.URL, a Response) {
	isRedirect := outcome == OutcomeRedirect
	location := a.Header.Get("X-Location")
	if isRedirect {
		location = cmp.Or(a.Header.Get("Location"), location)
	}
	switch {
	case outcome == OutcomeFollow && a.Header.Get("Location") != "": // it was not followed
		c.fail(backend, backends.AlarmBadHeader, noAddress(a.Status))
	case location == "" && outcome >= OutcomeRedirect:
		c.raise(backends.AlarmUnexpectedStatus, fmt.Sprintf("status %d without a Location to use", a.Status))
	case location != "" && (isRedirect || t.relaysLocation()):
		t.readTarget(c, outcome, backend, newRedirectTarget(address, location), a)
	}
}

// readTarget reads where a redirect leads.
func (t *StatusTable) readTarget(c *Classification, outcome Outcome, backend string, target redirectTarget, a Response) {
	isRedirect, isInvalid := outcome == OutcomeRedirect, target.kind == targetInvalid
	switch {
	case isInvalid && isRedirect && t.redirects == RedirectsFailure:
		c.fail(backend, backends.AlarmBadHeader, noAddress(a.Status))
	case target.url == "" && (isInvalid || !isRedirect || t.isForViewer(target)):
		c.keepFromViewer(isRedirect, target)
	case t.isForViewer(target):
		c.redirectViewer(outcome, a, target)
	case !isRedirect: // the status speaks of the viewer, and stands
		c.raise(backends.AlarmRedirectToItself, fmt.Sprintf("status %d with X-Location to the backend itself", a.Status))
	case target.kind == targetOwnPage:
		c.fail(backend, backends.AlarmRedirectToItself, fmt.Errorf("status %d redirects to a page of the backend's own", a.Status))
	default:
		c.fail(backend, backends.AlarmAddressMoved, movedTo(a.Status, target.address))
	}
}

// keepFromViewer lets the status stand, since its target cannot be sent to a viewer.
func (c *Classification) keepFromViewer(isRedirect bool, target redirectTarget) {
	c.raise(backends.AlarmBadHeader, fmt.Sprintf("Location or X-Location is no http or https address of at most %d bytes in printable "+
		"ASCII, without a user: the viewer is not redirected", maxRedirectLength))
	if isRedirect && target.mayBeCheck {
		c.relayed = target.address
	}
}

// relaysLocation reports whether X-Location is for the viewer.
func (t *StatusTable) relaysLocation() bool {
	return t.redirects == RedirectsViewer || t.redirects != RedirectsFailure && relaysRedirects(t.preset)
}

// isForViewer reports whether the viewer is sent to the target.
func (t *StatusTable) isForViewer(target redirectTarget) bool {
	isRelayed := t.redirects == RedirectsViewer || t.redirects != RedirectsFailure && target.kind == targetViewer
	return isRelayed && !target.repeatsAddress
}

// redirectViewer denies and redirects the viewer, to exactly what the backend named.
func (c *Classification) redirectViewer(outcome Outcome, a Response, target redirectTarget) {
	if outcome == OutcomeAllow {
		c.Decision = c.deniedDecision(a)
	}
	c.Decision.Redirect = target.url
	if outcome != OutcomeDeny && target.mayBeCheck {
		c.relayed = target.address
	}
}

// noAddress returns the error of a redirect that leads nowhere, which says nothing on the viewer.
func noAddress(status int) error {
	return fmt.Errorf("status %d with a Location that is no http or https address", status)
}

// movedTo returns the error of a redirect that is none for the viewer. The address holds no query, and so no token.
func movedTo(status int, address string) error {
	return fmt.Errorf("status %d: the address has moved; set address to %s", status, address)
}

// UserName returns the name to show of the user with that id: without unprintable characters, and cut to maxUserLength bytes. Without
// an id the name identifies the user, and one that would not be shown as a whole is empty, since two users could share a part.
func UserName(name, id string) string {
	name = strings.TrimSpace(name)
	shown := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, name)
	for len(shown) > maxUserLength {
		_, size := utf8.DecodeLastRuneInString(shown)
		shown = shown[:len(shown)-size]
	}
	if shown = strings.TrimSpace(shown); shown != name && id == "" {
		return ""
	}
	return shown
}
