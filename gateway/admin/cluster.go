package admin

import (
	"context"
	"errors"
	"time"

	"usher/backends"
)

// The errors of a [Cluster] that its callers tell apart; others mean that it could not be done.
var (
	// ErrNotFound says that there is no such session or ban.
	ErrNotFound = errors.New("unknown")
	// ErrInvalid says that what was asked for cannot be, as its text says.
	ErrInvalid = errors.New("refused")
	// ErrPending says that it was done on this node, and that the others hear of it when what nodes share is back.
	ErrPending = errors.New("the cluster's store is away: this node obeys already, the others will when it is back")
)

// errAlone is the answer to what only a cluster does.
var errAlone = errors.New("this node was started without that")

// Cluster is what the listener shows of all nodes and does to their sessions. All methods are safe for concurrent use.
type Cluster interface {
	// FindSessions lists the live sessions of all nodes that match, at most so many. See [EncodeSessionQuery] and [MergeSessionLists].
	FindSessions(ctx context.Context, f Filter, limit int) (SessionList, error)
	// Kick ends the session on all nodes, and refuses it for so long; zero: as long as the settings say.
	Kick(ctx context.Context, id backends.SessionID, d time.Duration, reason string) error
	// Ban refuses somebody on all nodes until the ban ends, and gives it its id. ErrNotFound: nobody knows the session
	// whose credentials it names. With ErrPending the ban is valid.
	Ban(ctx context.Context, b Ban) (Ban, error)
	// Unban takes a ban back, and those that follow from it.
	Unban(ctx context.Context, id string) error
	// Bans are those that hold, from memory.
	Bans() []Ban
	// Nodes are all nodes that were live a moment ago.
	Nodes(ctx context.Context) ([]NodeStatus, error)
	// Live counts the live nodes, from memory; at least 1.
	Live() int
	// RedisDown reports whether what nodes share cannot be reached.
	RedisDown() bool
	// RoundTrips is how often what nodes share was waited for since the start.
	RoundTrips() uint64
}

// Ban is a ban as the API shows it. Exactly one of User, Session, Address and Credentials or CredentialsOf says whom it
// refuses.
type Ban struct {
	ID string `json:"id"`
	// User is the user's name or id.
	User    string `json:"user,omitempty"`
	Session string `json:"session,omitempty"`
	// Address is a prefix.
	Address string `json:"address,omitempty"`
	// Credentials is a keyed hash of what the viewer shows. A ban that is asked for has CredentialsOf instead, the id of
	// a session whose viewer shows them; it may be kept, to say where they came from.
	Credentials   string    `json:"credentials,omitempty"`
	CredentialsOf string    `json:"credentials_of,omitempty"`
	Until         time.Time `json:"until"`
	Reason        string    `json:"reason,omitempty"`
	// Cause is the id of the ban that this one follows from: the credentials that a banned user was seen with.
	Cause string `json:"cause,omitempty"`
}

// Subject says in words whom the ban refuses.
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

// NodeStatus is a node as the API shows it.
type NodeStatus struct {
	ID string `json:"id"`
	// Name is what the settings call it.
	Name string `json:"name"`
	// Address is where viewers reach it.
	Address  string    `json:"address,omitempty"`
	Version  string    `json:"version,omitempty"`
	Started  time.Time `json:"started"`
	LastSeen time.Time `json:"last_seen"`
	Sessions int       `json:"sessions"`
	Draining bool      `json:"draining"`
	// Alive: it was heard of lately.
	Alive bool `json:"alive"`
	// Self: it is the node that answers.
	Self bool `json:"self"`
}

// standalone is the Cluster of a node that was given none: it lists its sessions, and that is all.
type standalone struct{ node LocalNode }

func (a standalone) FindSessions(ctx context.Context, f Filter, limit int) (SessionList, error) {
	answers := map[string][]byte{}
	if f.Node == "" {
		answers[""] = AnswerSessionQuery(ctx, a.node, EncodeSessionQuery(f, limit))
	}
	return MergeSessionLists(f, limit, answers, nil), ctx.Err()
}

func (a standalone) Kick(context.Context, backends.SessionID, time.Duration, string) error {
	return errAlone
}

func (a standalone) Ban(context.Context, Ban) (Ban, error) { return Ban{}, errAlone }

func (a standalone) Unban(context.Context, string) error         { return errAlone }
func (a standalone) Bans() []Ban                                 { return nil }
func (a standalone) Nodes(context.Context) ([]NodeStatus, error) { return nil, errAlone }
func (a standalone) Live() int                                   { return 1 }
func (a standalone) RedisDown() bool                             { return false }
func (a standalone) RoundTrips() uint64                          { return 0 }
