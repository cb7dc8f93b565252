package cluster

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster/events"
)

// unbannedTTL is for how long an unbanned id is remembered, unless its ban would have ended before: a node that was
// disconnected for less does not bring the ban back.
const unbannedTTL = 30 * 24 * time.Hour

// maxBannedParts is how many parts of a viewer's credentials a ban has at most.
const maxBannedParts = 16

// Credentials returns what a ban of the viewer's credentials holds: keyed hashes of their parts, the same on all nodes. It is
// empty if the viewer presented nothing. Of more than maxBannedParts it takes the longest, which tell viewers apart best.
func (n *Node) Credentials(r *backends.Request) string {
	parts := r.Credentials().Parts()
	slices.SortStableFunc(parts, func(a, b string) int { return len(b) - len(a) })
	hashes := parts[:min(len(parts), maxBannedParts)]
	for i, part := range hashes {
		hashes[i] = n.cipher.Hash(credentialsPurpose, part)
	}
	slices.Sort(hashes)
	return strings.Join(hashes, ".")
}

const credentialsPurpose = "credentials"

// credentialHashes returns the hashes, under all keys, of the parts of what a viewer presented.
func (n *Node) credentialHashes(r *backends.Request) []string {
	var hashes []string
	for _, part := range r.Credentials().Parts() {
		hashes = append(hashes, n.cipher.Hashes(credentialsPurpose, part)...)
	}
	return hashes
}

// Banned returns the ban of a viewer. The decision may be nil if there is none yet. It takes no round trip, and unless
// credentials are banned it does not allocate. The viewer is refused everywhere from then on, also where only the session is
// known: a ban of a user or of credentials leaves a tombstone of it.
func (n *Node) Banned(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
	if n.bans.IsEmpty() {
		return session.Ban{}, false
	}
	ban, isBanned := n.bans.Match(r, d, func() []string { return n.credentialHashes(r) })
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
	return b, n.storeBans(ctx, b)
}

// storeBans writes bans that this node has applied, for the others.
func (n *Node) storeBans(ctx context.Context, bans ...session.Ban) error {
	if n.broker == nil {
		return nil
	}
	return n.broker.StoreBans(ctx, bans...)
}

// causedBan returns the ban of the credentials that the viewer of a banned user presented.
func (n *Node) causedBan(cause session.Ban, presented *backends.Request) (caused session.Ban, isCaused bool) {
	if cause.User == "" || presented == nil {
		return session.Ban{}, false
	}
	credentials := n.Credentials(presented)
	if credentials == "" {
		return session.Ban{}, false
	}
	caused, err := n.bans.Validate(session.Ban{
		Credentials: credentials, Backend: cause.Backend, Channel: cause.Channel, Until: cause.Until,
		Reason: cause.Reason, IsKick: cause.IsKick, Cause: cmp.Or(cause.Cause, cause.ID),
	}, time.Now())
	return caused, err == nil
}

// BanCredentials bans the credentials that viewers of banned users presented, so that these stay out when the middleware
// cannot name the user. It returns no error while Redis is unavailable: this node has applied it, and the others do when
// Redis has recovered.
func (n *Node) BanCredentials(ctx context.Context, presented iter.Seq2[session.Ban, *backends.Request]) error {
	var bans []session.Ban
	for cause, request := range presented {
		if caused, isCaused := n.causedBan(cause, request); isCaused {
			bans = append(bans, caused)
		}
	}
	n.addBans(bans...)
	err := n.storeManyBans(ctx, bans)
	if errors.Is(err, backends.ErrStoreUnavailable) {
		return nil
	}
	return err
}

// addBans applies bans to this node.
func (n *Node) addBans(bans ...session.Ban) {
	onRevocation := n.handlers.Load().OnRevocation
	for _, b := range n.bans.Add(time.Now(), bans...) {
		if onRevocation != nil {
			onRevocation(session.Revocation{Kind: session.RevokedBanned, Ban: b})
		}
	}
}

// Kick ends a session that was opened at that time on all nodes, and revokes all its tickets; zero: the time is unknown. The
// ban refuses its viewer for a while. If it is one of a user, the credentials that the session's viewer presented are banned
// too; nil: they are unknown. Kick returns the ban with its id. With ErrStoreUnavailable, or ctx's error, this node has
// applied it, and the others do when Redis has recovered.
func (n *Node) Kick(
	ctx context.Context, id backends.SessionID, opened time.Time, b session.Ban, presented *backends.Request,
) (session.Ban, error) {
	b.IsKick = true
	v := session.Revocation{
		Kind: session.RevokedKicked, Session: id, Opened: opened, Decision: session.Kicked(b.Reason), Until: b.Until,
	}
	var bans []session.Ban
	b, invalid := n.bans.Validate(b, time.Now())
	if invalid == nil {
		bans = append(bans, b)
		if caused, isCaused := n.causedBan(b, presented); isCaused {
			bans = append(bans, caused)
		}
	}
	for _, each := range bans {
		n.revoked(session.Revocation{Kind: session.RevokedBanned, Ban: each})
	}
	var banErr, storeErr error
	var writes sync.WaitGroup // at once, since the kick is to hold soon
	writes.Go(func() { banErr = n.storeBans(ctx, bans...) })
	writes.Go(func() { storeErr = n.revokeTicketsOf(ctx, id, opened) })
	revokeErr := n.Revoke(ctx, v)
	writes.Wait()
	return b, cmp.Or(invalid, banErr, storeErr, revokeErr)
}

// Unban removes a ban and those that it caused. It reports whether a ban has the id. With an error this node has applied
// it, and the others do when Redis has recovered.
func (n *Node) Unban(ctx context.Context, id string) (found bool, err error) {
	now := time.Now()
	ids, until := n.bans.Find(id, now)
	if len(ids) == 0 {
		return false, nil
	}
	if latest := now.Add(unbannedTTL); until.After(latest) {
		until = latest
	}
	unbanned := make(map[string]time.Time)
	for _, each := range ids { // they end with their cause, whose id is remembered
		unbanned[each] = time.Time{}
	}
	for _, t := range n.bans.Tombstones(id) {
		unbanned[t.ID] = time.Time{}
	}
	unbanned[id] = until
	n.revoked(session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: id, Until: until}})
	if n.broker == nil {
		return true, nil
	}
	return true, n.broker.RemoveBans(ctx, unbanned)
}
