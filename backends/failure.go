package backends

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// FailureKind is why a check has no answer. The set is closed. It decides what a failure may do: see
// [Failure.IsTransport] and [Failure.IsConnect].
type FailureKind uint8

// The kinds of failure.
const (
	// FailureTransport means that the backend could not be reached (refused, reset, DNS, TLS).
	FailureTransport FailureKind = iota
	// FailureTimeout means that the backend did not answer in time, reached or not.
	FailureTimeout
	// FailureStatus means that the backend answered with a status that its preset calls a failure (429, 5xx, a 404), or one that
	// refuses Usher itself (a 401 to its own credentials).
	FailureStatus
	// FailureMalformed means that the answer breaks the backend's contract (not HTTP, giant headers, a redirect to itself).
	FailureMalformed
	// FailureBreakerOpen means that the backend was not called, because it has been failing.
	FailureBreakerOpen
)

// String returns the kind as logs, metrics and traces show it.
func (k FailureKind) String() string {
	return [...]string{"transport", "timeout", "status", "malformed", "breaker-open"}[k]
}

// Failure is the error of a check without an answer within the backend's contract. It is never a denial.
type Failure struct {
	Kind FailureKind
	// Backend is the backend's name in the config.
	Backend string
	// Status is the HTTP status of a FailureStatus; otherwise zero.
	Status int
	// MayBeDenial says, of a FailureStatus, that the backend may have meant this viewer: a 404, or a 401 that asks for other credentials
	// than Usher's own, that no setting explains.
	MayBeDenial bool
	// WasSent says, of a FailureTransport or a FailureTimeout, that the backend was connected and got the request. Then
	// the viewer's own request may have caused the failure.
	WasSent bool
	// Err is the cause; it may be nil.
	Err error
}

// Error names the backend and the cause.
func (f *Failure) Error() string {
	switch {
	case f.Kind == FailureStatus:
		return fmt.Sprintf("check backend %q: status %d", f.Backend, f.Status)
	case f.Err != nil:
		return fmt.Sprintf("check backend %q: %s: %v", f.Backend, f.Kind, f.Err)
	default:
		return fmt.Sprintf("check backend %q: %s", f.Backend, f.Kind)
	}
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// IsTransport reports whether the backend did not answer at all. No other failure admits an unknown viewer while the
// breaker is closed.
func (f *Failure) IsTransport() bool { return f.Kind == FailureTransport || f.Kind == FailureTimeout }

// IsConnect reports whether the backend could not be connected to (refused, DNS, TLS handshake, no connection in time). It
// is the failure that no viewer can cause by their request.
func (f *Failure) IsConnect() bool { return f.IsTransport() && !f.WasSent }

// AsFailure returns the Failure in err, or nil.
func AsFailure(err error) *Failure {
	f, _ := errors.AsType[*Failure](err)
	return f
}

// Overload reports that one of Usher's own bounds is reached. It is neither a denial nor a Failure: the viewer retries.
type Overload struct {
	// Setting is the setting's full name in the config, for example sessions.max.
	Setting string
	// Value is the setting's value as an operator writes it, for example 200000 or 1s.
	Value string
}

// NewOverload returns the Overload of a setting. A duration is written as in the config ("1m", not "1m0s").
func NewOverload(setting string, value any) *Overload {
	text := fmt.Sprint(value)
	if _, isDuration := value.(time.Duration); isDuration && strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
	}
	return &Overload{Setting: setting, Value: text}
}

// Error names the setting and its value, so that the operator knows what to change.
func (o *Overload) Error() string {
	return fmt.Sprintf("overloaded: %s=%s reached", o.Setting, o.Value)
}

// IsOverload reports whether err is an Overload.
func IsOverload(err error) bool {
	_, ok := errors.AsType[*Overload](err)
	return ok
}

// ErrStoreUnavailable reports that Redis cannot be reached, or was not called because it could not be reached before. A
// call to the store of sessions returns it within cluster.redis_timeout.
var ErrStoreUnavailable = errors.New("redis is unavailable")
