package backends

import (
	"context"
	"net/netip"
	"time"
)

// Backend decides whether a viewer may watch: an adapter to a middleware, a local decision, or a decorator around one.
//
// Check returns a Decision if the check was answered: Allowed or Denied, or Pending from a [Member] without an opinion.
// Otherwise it returns an error: a *Failure (no answer within the contract), an *Overload (one of Usher's bounds is
// reached), or ctx's error. The error of a cancelled ctx satisfies errors.Is(err, context.Canceled) and is never a
// Failure. Implementations are safe for concurrent use and do not keep the request.
type Backend interface {
	Check(ctx context.Context, r *Request) (Decision, error)
}

// BackendFunc makes a function a Backend.
type BackendFunc func(ctx context.Context, r *Request) (Decision, error)

// Check calls f.
func (f BackendFunc) Check(ctx context.Context, r *Request) (Decision, error) { return f(ctx, r) }

// Request is one check of one viewer: the facts of the request that opened the session, and the session's state. It is
// immutable, so it may be shared.
type Request struct {
	Session SessionID
	// Number counts the checks of a session from 0. An opening check has a later one where the session lived before.
	Number int

	Route   string
	Channel string
	// Backend is the name, in the config, of the backend to ask.
	Backend string

	// Query holds the viewer's credentials as a raw query, byte for byte as sent, without '?'. Parameters that are never
	// credentials (the ticket, _HLS_*, CMCD, the route's ignore_query) are left out. Credentials in the path follow as
	// parameters, named as in the route's pattern.
	Query string
	// Headers are the viewer's headers that the route names as credentials, in the route's order; usually none.
	Headers []Header

	// Group is the same for the sessions of these credentials on this channel, whatever their address. Zero: the viewer shows
	// no credentials.
	Group SessionID

	// Device holds what the viewer sent of the fields by which the route tells a user's devices apart; usually empty.
	Device string

	// Path is the requested path, escaped as sent, without ticket and query.
	Path string
	// Scheme is "http" or "https", as the viewer used it.
	Scheme    string
	Host      string
	UserAgent string
	Referer   string
	// Address is the viewer's own address. Behind a trusted proxy it is the one that the proxy reports.
	Address netip.Addr

	// Edge is what an edge with sessions of its own reported; nil: no such edge asks.
	Edge *EdgeReport
	// Opened is when the session was opened.
	Opened time.Time
	// TokenTime is as of when a backend that decides in this process judges whether the token is still valid: when the session was
	// opened or, of one that a ticket opened at another address, when the ticket's own was. Zero: now.
	TokenTime time.Time
	// Bytes is how many bytes the session was sent so far.
	Bytes int64

	// Current is the session's present decision. It is Pending for an unknown viewer.
	Current Decision

	// IsRecheck reports that the session runs, so that no viewer waits for the answer. The zero value is an opening.
	IsRecheck bool
	// IsStranger says of an opening that nothing speaks for the viewer yet: they show no ticket, and what they show was not
	// allowed before. Where there is not room for all, strangers stand behind the others.
	IsStranger bool

	// OnSent, if not nil, is called once when the call goes out, after any wait for a slot, and not at all if none does. It
	// tells a backend that hangs from a queue of Usher's own.
	OnSent func()
	// OnFailure, if not nil, is called once with the error of the check if the outage policy decides in its place. A composite
	// calls it for itself alone, not for its members.
	OnFailure func(*Failure)
}

// Header is one header field, its name in canonical form.
type Header struct{ Name, Value string }

// IsUnknown reports whether the viewer has no decision yet.
func (r *Request) IsUnknown() bool { return r.Current.Verdict == Pending }

// EdgeReport is what an edge with sessions of its own (Astra, Alta, Flussonic) reported of a viewer, where it differs from
// what a player's request would say. What the edge did not report is told to no backend as if it had.
type EdgeReport struct {
	// AstraSession is the X-Session-ID of an edge that speaks Astra's or Alta's contract, and FlussonicSession the
	// session_id of one that speaks Flussonic's. A backend of the same contract gets it unchanged. Both are empty where the
	// id is derived from ours.
	AstraSession, FlussonicSession string
	// HasSession, HasChannel, HasPath and HasHost report which facts there are for a backend of Astra's contract.
	HasSession, HasChannel, HasPath, HasHost bool
	// Origin is the X-Real-Origin; empty: none.
	Origin string
	// Protocol is Flussonic's proto; empty: none.
	Protocol string
	// IsArchive is Flussonic's dvr.
	IsArchive bool
}
