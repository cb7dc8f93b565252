package admin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"usher/actors/session"
	"usher/backends"
)

var (
	// errNotFound means that the session or ban does not exist.
	errNotFound = errors.New("not found")
	// errInvalid means that the request is not possible; the error's text says why.
	errInvalid = errors.New("invalid")
	// errPending means that the change is in force on this node, and reaches the others when Redis has recovered.
	errPending = errors.New("redis unavailable: in force on this node, on the others once redis has recovered")
)

// Cluster is the store of sessions and all nodes that share it. All methods are safe for concurrent use. An error that is
// [backends.ErrStoreUnavailable] or the end of ctx's time means that a change is in force on this node, and reaches the
// others when Redis has recovered.
type Cluster interface {
	// Name returns the name of this node.
	Name() string
	// Ask sends a request to all nodes, which reply by [AnswerSessionQuery]. It returns the replies by the nodes' names,
	// and the names of the nodes that did not reply.
	Ask(ctx context.Context, request []byte) (replies map[string][]byte, silent []string)
	// AcquireLease reads a session.
	AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error)
	// Credentials returns keyed hashes of what a viewer presented, or "" if that is nothing.
	Credentials(r *backends.Request) string
	// Kick ends the session on all nodes, whenever it was opened if opened is zero, and denies the viewers of the ban. If a
	// user is banned, what presented holds is banned too; it may be nil. Kick assigns the ban's id.
	Kick(
		ctx context.Context, id backends.SessionID, opened time.Time, b session.Ban, presented *backends.Request,
	) (session.Ban, error)
	// Ban denies the viewers of the ban on all nodes until the ban ends, and assigns its id.
	Ban(ctx context.Context, b session.Ban) (session.Ban, error)
	// Unban ends a ban and the bans that follow from it. It reports whether a ban has the id.
	Unban(ctx context.Context, id string) (found bool, err error)
	// Bans lists the active bans from memory.
	Bans() []session.Ban
	// ForceBreaker applies an order on a breaker to this node, stores it for the others, and assigns its version.
	ForceBreaker(ctx context.Context, order backends.ForcedBreaker) (backends.ForcedBreaker, error)
	// Nodes lists the live nodes and those that were live a moment ago. With an error they are as this node saw them last.
	Nodes(ctx context.Context) ([]session.NodeInfo, error)
	// Live counts the live nodes from memory; at least 1.
	Live() int
	// RedisDown reports whether Redis is unavailable.
	RedisDown() bool
	// RoundTrips counts the waits for Redis since the start.
	RoundTrips() uint64
}

// Ban is a ban in the API. It has exactly one subject: User, Session, Address, Credentials, CredentialsOf or Viewers.
type Ban struct {
	ID string `json:"id"`
	// User is the user's name or id.
	User    string `json:"user,omitempty"`
	Session string `json:"session,omitempty"`
	// Address is a prefix.
	Address string `json:"address,omitempty"`
	// Credentials are keyed hashes of the viewer's credentials.
	Credentials string `json:"credentials,omitempty"`
	// CredentialsOf is the id of a session with these credentials. A requested ban has it instead of Credentials.
	CredentialsOf string `json:"credentials_of,omitempty"`
	// Viewers is how many sessions one kick ended, whose viewers it refuses.
	Viewers int `json:"viewers,omitempty"`
	// Backend and Channel limit the ban to viewers of that backend or channel; empty: they do not.
	Backend string    `json:"backend,omitempty"`
	Channel string    `json:"channel,omitempty"`
	Until   time.Time `json:"until"`
	Reason  string    `json:"reason,omitempty"`
	// IsKick reports that the ban follows from a kick.
	IsKick bool `json:"kick,omitempty"`
	// Cause is the id of the ban that this one follows from: a banned user's credentials are banned, too.
	Cause string `json:"cause,omitempty"`
}

// Subject describes the viewers that the ban denies.
func (b Ban) Subject() string {
	subject := "credentials"
	switch {
	case b.User != "":
		subject = "user " + b.User
	case b.Session != "":
		subject = "session " + b.Session
	case b.Address != "":
		subject = "address " + b.Address
	case b.CredentialsOf != "":
		subject = "the credentials of session " + b.CredentialsOf
	case b.Viewers > 0:
		subject = "the viewers of " + count(b.Viewers, "session", "sessions")
	}
	if b.Channel != "" {
		subject += " on channel " + b.Channel
	}
	return subject
}

func banOf(b session.Ban) Ban {
	shown := Ban{
		ID: b.ID, User: b.User, Credentials: b.Credentials, Backend: b.Backend, Channel: b.Channel,
		Until: b.Until.UTC().Truncate(time.Second), Reason: b.Reason, IsKick: b.IsKick, Cause: b.Cause,
	}
	if !b.Session.IsZero() {
		shown.Session = b.Session.String()
	}
	if b.Prefix.IsValid() {
		shown.Address = b.Prefix.String()
	}
	return shown
}

// queryTimeout bounds the wait for the replies of all nodes.
const queryTimeout = 2 * time.Second

// findSessions lists the matching live sessions of all nodes, at most limit.
func (h *handler) findSessions(ctx context.Context, f Filter, limit int) SessionList {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	replies, silent := h.Cluster.Ask(ctx, encodeQuery(listQueryKind, f, limit))
	return mergeSessionLists(f, limit, replies, silent)
}

// asPending marks an error of a [Cluster] that has made a change on this node, and could not tell the others, with errPending.
func asPending(err error) error {
	if errors.Is(err, backends.ErrStoreUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", errPending, err)
	}
	return err
}

// sessionBan returns the requested ban as the cluster takes it.
func (h *handler) sessionBan(ctx context.Context, b Ban) (wanted session.Ban, err error) {
	wanted = session.Ban{User: b.User, Until: b.Until, Reason: b.Reason}
	if b.Session != "" {
		if wanted.Session, err = backends.ParseSessionID(b.Session); err != nil {
			return session.Ban{}, fmt.Errorf("%w: session: %w", errInvalid, err)
		}
	}
	if b.Address != "" {
		if wanted.Prefix, err = netip.ParsePrefix(b.Address); err != nil {
			return session.Ban{}, fmt.Errorf("%w: address: %w", errInvalid, err)
		}
	}
	if b.CredentialsOf != "" {
		if wanted.Credentials, err = h.credentialsOf(ctx, b.CredentialsOf); err != nil {
			return session.Ban{}, err
		}
	}
	return wanted, nil
}

// placeBan denies the viewers of the ban on all nodes. With errPending the returned ban is valid.
func (h *handler) placeBan(ctx context.Context, wanted session.Ban) (Ban, error) {
	got, err := h.Cluster.Ban(ctx, wanted)
	if err = asPending(err); err != nil && !errors.Is(err, errPending) {
		return Ban{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return banOf(got), err
}

// credentialsOf returns the hashes of the credentials that the session's viewer presented.
func (h *handler) credentialsOf(ctx context.Context, name string) (string, error) {
	id, err := backends.ParseSessionID(name)
	if err != nil {
		return "", fmt.Errorf("%w: credentials_of: %w", errInvalid, err)
	}
	r, err := presentedTo(ctx, h.Sessions, h.Cluster, id)
	if err != nil {
		return "", err
	}
	if r == nil {
		return "", fmt.Errorf("credentials_of: session %s: %w, or its viewer presented only a ticket", id, errNotFound)
	}
	return h.Cluster.Credentials(r), nil
}

// sessionStore is the part of [Cluster] that reads a session.
type sessionStore interface {
	AcquireLease(ctx context.Context, r session.LeaseRequest) (session.LeaseResult, error)
}

// presentedTo returns a request with the credentials of the session's viewer, from this node or from the store; nil: they are
// unknown.
func presentedTo(ctx context.Context, here Sessions, store sessionStore, id backends.SessionID) (*backends.Request, error) {
	if s := here.Find(id); s != nil && !s.Request().Credentials().IsEmpty() {
		return s.Request(), nil
	}
	found, err := store.AcquireLease(ctx, session.LeaseRequest{ID: id, KnownRevision: anyRevision})
	if r := found.Record.Request; r != nil && !r.Credentials().IsEmpty() {
		return r, nil
	}
	return nil, err
}

// anyRevision reads a session without a sign of its viewer.
const anyRevision = 1
