package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// The errors that callers distinguish with errors.Is.
var (
	// ErrTooLarge means that the origin's body is larger than a setting allows. The message names the setting.
	ErrTooLarge = errors.New("body too large")
	// ErrPath means that the requested path must not be sent to an origin. No request was sent.
	ErrPath = errors.New("path must be absolute, escaped and without dot segments")
	// ErrTooSlow means that a reader of a large body held back the others for too long and was dropped.
	ErrTooSlow = errors.New("reader too slow")
	// ErrPlaylist means that what was requested as media is a playlist.
	ErrPlaylist = errors.New("media is a playlist")
	// ErrMedia means that what was requested as a playlist is media. It is an [ErrInvalidPlaylist].
	ErrMedia = fmt.Errorf("%w: it is media", ErrInvalidPlaylist)
	// ErrClosed means that the origin was closed before or during the fetch.
	ErrClosed = errors.New("origin closed")

	// errNoConn ends a body that turned out to be large when too many such hold connections of media.
	errNoConn    = errors.New("too many large bodies")
	errAbandoned = errors.New("fetch abandoned: no reader is left")
	errRedirect  = errors.New("redirect refused")
	errMalformed = errors.New("malformed response")
)

// StatusError is a response of the origin without a body for the viewer: 404, 403, 500, …
type StatusError struct {
	// Origin is the origin's name in the config.
	Origin string
	// Status is the status code of the response.
	Status int
	// URL is the URL that gave it, after redirects, without credentials and query.
	URL string
}

// Error returns the origin and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("fetch from origin %q: status %d", e.Origin, e.Status)
}

// IsNotFound reports whether the origin has no such object: 404 or 410.
func (e *StatusError) IsNotFound() bool {
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

// UnreachableError means that no address of the origin gave a usable response: it was refused, timed out, broken off or
// malformed.
type UnreachableError struct {
	// Origin is the origin's name in the config.
	Origin string
	// Err is the error of the last address. A timeout names its setting.
	Err error
	// URL is the URL that failed, after redirects, without credentials and query.
	URL string

	isUnconnected bool // the request had no connection
}

// Error returns the origin and the cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("fetch from origin %q: %v", e.Origin, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// HostError means that an origin named a host that its settings do not allow. No request was sent to it.
type HostError struct {
	// Origin is the origin's name in the config.
	Origin string
	// Host is the host, with its port if it is not the scheme's own.
	Host string
	// Address is the address of the host, if its name is allowed and its address is not.
	Address netip.Addr
}

// Error names the host and the setting that would allow it.
func (e *HostError) Error() string {
	if e.Address.IsValid() {
		return fmt.Sprintf("host %q has the address %s, which is in no network of origins.%s.allowed_networks", e.Host, e.Address, e.Origin)
	}
	return fmt.Sprintf("host %q is not in origins.%s.redirect_hosts", e.Host, e.Origin)
}

// timeoutError reports that a timeout of the gateway ended a fetch.
type timeoutError struct {
	setting string
	value   time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("no response within %s=%v", e.setting, e.value)
}

// Timeout implements net.Error.
func (e *timeoutError) Timeout() bool { return true }

// bareError removes the URL from an HTTP client's error, because its query may hold a token of the operator. So may the
// Location that the client quotes if it is none.
func bareError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if strings.HasPrefix(err.Error(), "failed to parse Location header") {
		return fmt.Errorf("%w: the Location is no URL", errRedirect)
	}
	return err
}

// allowsStale reports whether a stale copy may be served instead of err. A decision of the origin (403, 410) is not hidden.
// A playlist that is missing for seconds is one that a packager writes anew, which is none.
func allowsStale(err error, k cacheKey) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status >= http.StatusInternalServerError || status.Status == http.StatusNotFound && !k.media
	}
	return !errors.Is(err, ErrPath) && !errors.Is(err, ErrPlaylist) && !errors.Is(err, ErrMedia)
}

// isMissing reports whether err is a 404 of the origin, which may be for a moment, as a 410 is not.
func isMissing(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	return ok && status.Status == http.StatusNotFound
}

// refusesDirectives reports whether err may be for the directives of a reload alone: a packager whose numbers began anew refuses those of
// what it sent before. A decision about the playlist (401, 403, 404, 410) is none, and neither is one about all requests (429).
func refusesDirectives(err error, k cacheKey) bool {
	status, ok := errors.AsType[*StatusError](err)
	if !ok || k.class() != classBlocking {
		return false
	}
	switch status.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusTooManyRequests:
		return false
	default:
		return status.Status >= http.StatusBadRequest && status.Status < http.StatusInternalServerError
	}
}
