package origin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// What a caller may branch on with errors.Is.
var (
	// ErrTooLarge: the origin's body is larger than a setting allows; the message names the setting.
	ErrTooLarge = errors.New("body too large")
	// ErrPath: the path asked for is not one that may be sent to an origin. No origin was asked.
	ErrPath = errors.New("path must be absolute, escaped and without dot segments")
	// ErrTooSlow: a reader of a large body held back the others for too long and was cut off.
	ErrTooSlow = errors.New("reader too slow")
	// ErrClosed: the origin was closed while or before it fetched.
	ErrClosed = errors.New("origin closed")

	errAbandoned = errors.New("fetch abandoned: nobody waits for it any more")
	errRedirect  = errors.New("redirect refused")
	errMalformed = errors.New("malformed answer")
)

// StatusError is an answer of the origin that carries no body for the viewer: 404, 403, 500, …
type StatusError struct {
	// Origin is the origin's name in the config.
	Origin string
	// Status is what the origin answered.
	Status int
}

// Error names the origin and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("fetch from origin %q: status %d", e.Origin, e.Status)
}

// Missing reports whether the origin said that there is no such object.
func (e *StatusError) Missing() bool {
	return e.Status == http.StatusNotFound || e.Status == http.StatusGone
}

// UnreachableError says that no address of the origin gave a usable answer: refused, timed out, broken off, malformed.
type UnreachableError struct {
	// Origin is the origin's name in the config.
	Origin string
	// Err is what the address that was asked last did; a timeout names its setting.
	Err error
}

// Error names the origin and the cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("fetch from origin %q: %v", e.Origin, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// timeoutError is a bound of ours on an origin's time.
type timeoutError struct {
	setting string
	value   time.Duration
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("no answer within %s=%v", e.setting, e.value)
}

// Timeout makes it a timeout in the sense of net.Error.
func (e *timeoutError) Timeout() bool { return true }

// bareError drops the address from an HTTP client's error: its query may carry a token of the operator's.
func bareError(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// maskable reports whether a stale copy is a better answer than err. What the origin decided (404, 403) is not masked.
func maskable(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Status >= http.StatusInternalServerError
	}
	return !errors.Is(err, ErrPath)
}
