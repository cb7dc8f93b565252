package admin

import (
	"context"
	"errors"
	"time"

	"usher/backends"
)

// The errors of a [Cluster] that callers distinguish. Any other error means that the action failed.
var (
	// ErrNotFound means that the session or ban does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid means that the request is not possible; the error's text says why.
	ErrInvalid = errors.New("invalid")
	// ErrPending means that the change is in force on this node, and reaches the others when Redis has recovered.
	ErrPending = errors.New("redis unavailable: in force on this node, on the others once redis has recovered")
)

// errStandalone is the error of an action that requires a cluster.
var errStandalone = errors.New("this node was started without a cluster")

// Cluster lists and changes the sessions of all nodes. All methods are safe for concurrent use.
type Cluster interface {
	// FindSessions lists the matching live sessions of all nodes, at most limit. See [EncodeSessionQuery] and
	// [MergeSessionLists].
	FindSessions(ctx context.Context, f Filter, limit int) (SessionList, error)
	// Kick ends the session on all nodes and denies it for d; zero means the configured duration.
	Kick(ctx context.Context, id backends.SessionID, d time.Duration, reason string) error
	// Ban denies the viewers of the ban on all nodes until the ban ends, and assigns its id. It returns ErrNotFound if no
	// node knows the session of CredentialsOf. With ErrPending the returned ban is valid.
	Ban(ctx context.Context, b Ban) (Ban, error)
	// Unban ends a ban and the bans that follow from it.
	Unban(ctx context.Context, id string) error
	// Bans lists the active bans from memory.
	Bans() []Ban
	// Nodes lists the live nodes and those that were live a moment ago.
	Nodes(ctx context.Context) ([]NodeStatus, error)
	// Live counts the live nodes from memory; at least 1.
	Live() int
	// RedisDown reports whether Redis is unavailable.
	RedisDown() bool
	// RoundTrips counts the waits for Redis since the start.
	RoundTrips() uint64
}

// Ban is a ban in the API. It has exactly one subject: User, Session, Address, Credentials or CredentialsOf.
type Ban struct {
	ID string `json:"id"`
	// User is the user's name or id.
	User    string `json:"user,omitempty"`
	Session string `json:"session,omitempty"`
	// Address is a prefix.
	Address string `json:"address,omitempty"`
	// Credentials is a keyed hash of the viewer's credentials.
	Credentials string `json:"credentials,omitempty"`
	// CredentialsOf is the id of a session with these credentials. A requested ban has it instead of Credentials.
	CredentialsOf string    `json:"credentials_of,omitempty"`
	Until         time.Time `json:"until"`
	Reason        string    `json:"reason,omitempty"`
	// Cause is the id of the ban that this one follows from: a banned user's credentials are banned, too.
	Cause string `json:"cause,omitempty"`
}

// Subject describes the viewers that the ban denies.
func (b Ban) Subject() string {
	switch {
	case b.User != "":
		return "user " + b.User
	case b.Session != "":
		return "session " + b.Session
	case b.Address != "":
		return "address " + b.Address
	case b.CredentialsOf != "":
		return "the credentials of session " + b.CredentialsOf
	default:
		return "credentials"
	}
}

// NodeStatus is a node in the API.
type NodeStatus struct {
	ID string `json:"id"`
	// Name is the node's name in the settings.
	Name string `json:"name"`
	// Address is the address of its listener for viewers.
	Address  string    `json:"address,omitempty"`
	Version  string    `json:"version,omitempty"`
	Started  time.Time `json:"started"`
	LastSeen time.Time `json:"last_seen"`
	Sessions int       `json:"sessions"`
	Draining bool      `json:"draining"`
	// Alive reports that the node sent a heartbeat lately.
	Alive bool `json:"alive"`
	// Self reports that it is the node that responds.
	Self bool `json:"self"`
}

// standalone is the Cluster of a node without one. It lists the node's sessions and does nothing else.
type standalone struct{ node LocalNode }

func (a standalone) FindSessions(ctx context.Context, f Filter, limit int) (SessionList, error) {
	answers := map[string][]byte{}
	if f.Node == "" {
		answers[""] = AnswerSessionQuery(ctx, a.node, EncodeSessionQuery(f, limit))
	}
	return MergeSessionLists(f, limit, answers, nil), ctx.Err()
}

func (a standalone) Kick(context.Context, backends.SessionID, time.Duration, string) error {
	return errStandalone
}

func (a standalone) Ban(context.Context, Ban) (Ban, error) { return Ban{}, errStandalone }

func (a standalone) Unban(context.Context, string) error         { return errStandalone }
func (a standalone) Bans() []Ban                                 { return nil }
func (a standalone) Nodes(context.Context) ([]NodeStatus, error) { return nil, errStandalone }
func (a standalone) Live() int                                   { return 1 }
func (a standalone) RedisDown() bool                             { return false }
func (a standalone) RoundTrips() uint64                          { return 0 }
