package backends

import (
	"context"
	"net/netip"
	"time"
)

// Backend is somebody who can say whether a viewer may watch: a middleware behind an adapter, a local rule, or a
// decorator around one.
//
// Check returns a Decision, Allowed or Denied, when the question was answered. It returns an error when it was not:
// a *Failure (nobody answered within the contract), an *Overload (a bound of our own), or ctx's error. The error of a
// cancelled ctx satisfies errors.Is(err, context.Canceled) and is never a Failure. Implementations are safe for
// concurrent use and keep no reference to the request after they return.
type Backend interface {
	Check(ctx context.Context, r *Request) (Decision, error)
}

// BackendFunc makes a function a Backend.
type BackendFunc func(ctx context.Context, r *Request) (Decision, error)

// Check calls f.
func (f BackendFunc) Check(ctx context.Context, r *Request) (Decision, error) { return f(ctx, r) }

// Request is one question about one viewer: the facts of the request that opened the session, and where the session
// stands. It is not changed after it was made, so it may be shared.
type Request struct {
	Session SessionID
	// Number counts the checks of a session; 0 is the opening.
	Number int

	Route   string
	Channel string
	// Backend is the name, in the config, of the backend that is asked.
	Backend string

	// Query is the viewer's credentials as a raw query, byte for byte as he sent them, without '?' and without what
	// is never a credential (the ticket, _HLS_*, CMCD, the route's ignore_query). Credentials that stood in the path
	// follow as parameters named as in the route's pattern.
	Query string
	// Headers are the viewer's headers that the route names as credentials, in the route's order; usually none.
	Headers []Header

	// Device is what the route tells a user's devices apart by, as the viewer showed it; usually nothing.
	Device string

	// Path is the path that the viewer asked for, escaped as he sent it, without ticket and query.
	Path string
	// Scheme is "http" or "https", as the viewer used it.
	Scheme    string
	Host      string
	UserAgent string
	Referer   string
	// Address is the viewer's own address: a trusted proxy's word for it where one stands in between.
	Address netip.Addr

	// Opened is when the session began; Bytes is what it was sent so far.
	Opened time.Time
	Bytes  int64

	// Current is the decision that holds at present. Its verdict is Undecided for a viewer on whom nobody has
	// decided yet.
	Current Decision

	// OnSent, if not nil, is called once when the question really goes out, after any wait for a free slot. So the
	// caller can tell a backend that hangs from a queue of our own.
	OnSent func()
}

// Header is one header field, its name in canonical form.
type Header struct{ Name, Value string }

// IsUnknown reports whether nobody has decided on the viewer yet.
func (r *Request) IsUnknown() bool { return r.Current.Verdict == Pending }
