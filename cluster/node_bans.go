package cluster

import (
	"context"
	"errors"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/events"
)

// unbannedTTL is for how long an unbanned id is remembered, unless its ban would have ended before: a node that was
// disconnected for less does not bring the ban back.
const unbannedTTL = 30 * 24 * time.Hour

// Credentials returns a keyed hash of what a viewer presented, the same on all nodes. It is empty if the viewer presented
// nothing.
func (n *Node) Credentials(r *backends.Request) string {
	if r.Credentials().IsEmpty() {
		return ""
	}
	return n.cipher.Hash("credentials", string(r.Credentials().AppendCanonical(nil)))
}

// Banned returns the ban of a viewer. The decision may be nil if there is none yet. It takes no round trip, and unless
// credentials are banned it does not allocate. The viewer is refused everywhere from then on, also where only the session is
// known: a ban of a user or of credentials leaves a tombstone of it.
func (n *Node) Banned(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
	if n.bans.IsEmpty() {
		return session.Ban{}, false
	}
	ban, isBanned := n.bans.Match(r, d, func() []string {
		if r.Credentials().IsEmpty() {
			return nil
		}
		return n.cipher.Hashes("credentials", string(r.Credentials().AppendCanonical(nil)))
	})
	if isBanned && ban.Session.IsZero() && !ban.Prefix.IsValid() && !r.Session.IsZero() {
		n.addTombstone(ban, r.Session)
	}
	return ban, isBanned
}

// addTombstone has a ban refuse a session by its id. A ticket that no record knows admits nobody after ReviveFor, and
// neither is the tombstone needed then.
func (n *Node) addTombstone(of session.Ban, id backends.SessionID) {
	now := time.Now()
	t := events.Tombstone(of, id, now.Add(n.o.ReviveFor))
	if len(n.bans.Add(now, t)) > 0 && n.broker != nil {
		n.broker.AddTombstone(t)
	}
}

// AwaitBans waits until this node knows what all live nodes know of bans. It does not after Redis lost its data, until each
// of them has written its part again, within a second. The error is ErrStoreUnavailable, when nothing can be known, or that
// of ctx.
func (n *Node) AwaitBans(ctx context.Context) error {
	if n.broker == nil {
		return nil
	}
	return n.broker.AwaitBans(ctx)
}

// Bans returns the active bans, those that end last first.
func (n *Node) Bans() []session.Ban { return n.bans.List(time.Now()) }

// Ban denies a viewer on all nodes until the ban ends, and returns the ban with its id. With ErrStoreUnavailable, or ctx's
// error, the ban is valid and this node has applied it; the others do when Redis has recovered. Other errors say what is
// wrong with the ban.
func (n *Node) Ban(ctx context.Context, b session.Ban) (session.Ban, error) {
	b, err := n.bans.Validate(b, time.Now())
	if err != nil {
		return session.Ban{}, err
	}
	n.revoked(session.Revocation{Kind: session.RevokedBanned, Ban: b})
	if n.broker == nil {
		return b, nil
	}
	return b, n.broker.StoreBan(ctx, b)
}

// BanCredentials bans the credentials that a banned user's viewer presented, so that the viewer stays out when the
// middleware cannot name the user. It returns no error while Redis is unavailable: this node has applied it, and the
// others do when Redis has recovered.
func (n *Node) BanCredentials(ctx context.Context, cause session.Ban, presented *backends.Request) error {
	credentials := n.Credentials(presented)
	if credentials == "" {
		return nil
	}
	_, err := n.Ban(ctx, session.Ban{Credentials: credentials, Until: cause.Until, Reason: cause.Reason, Cause: cause.ID})
	if errors.Is(err, backends.ErrStoreUnavailable) {
		return nil
	}
	return err
}

// Unban removes a ban and those that it caused. It reports whether a ban has the id. With an error this node has applied
// it, and the others do when Redis has recovered.
func (n *Node) Unban(ctx context.Context, id string) (found bool, err error) {
	now := time.Now()
	b, found := n.bans.Find(id, now)
	if !found {
		return false, nil
	}
	until := b.Until
	if latest := now.Add(unbannedTTL); until.After(latest) {
		until = latest
	}
	unbanned := map[string]time.Time{id: until}
	for _, other := range n.bans.List(now) {
		if other.Cause == id {
			unbanned[other.ID] = until
		}
	}
	tombstones := n.bans.Tombstones(id)
	for each := range unbanned {
		n.revoked(session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: each, Until: until}})
	}
	if n.broker == nil {
		return true, nil
	}
	for _, t := range tombstones {
		unbanned[t.ID] = time.Time{} // its ban is remembered
	}
	return true, n.broker.RemoveBans(ctx, unbanned)
}
