package cluster

import (
	"context"
	"errors"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// Credentials is a keyed hash of what a viewer shows, the same on all nodes; empty if he shows nothing.
func (n *Node) Credentials(r *backends.Request) string {
	if r.Credentials().IsEmpty() {
		return ""
	}
	return n.seal.hash("credentials", string(r.Credentials().AppendCanonical(nil)))
}

// Banned says whether a viewer is under a ban. The decision may be nil if nobody has decided yet. It takes no time, and
// while nobody is banned it does not allocate.
func (n *Node) Banned(r *backends.Request, d *backends.Decision) (session.Ban, bool) {
	set := n.bans.set.Load()
	if set == nil {
		return session.Ban{}, false
	}
	return set.match(r, d, func() []string {
		if r.Credentials().IsEmpty() {
			return nil
		}
		return n.seal.hashes("credentials", string(r.Credentials().AppendCanonical(nil)))
	}, time.Now())
}

// Bans are those that hold, the ones that end last first.
func (n *Node) Bans() []session.Ban { return n.bans.list(time.Now()) }

// Ban refuses somebody on all nodes until the ban ends, and returns it with its id. With ErrAway, or ctx's error, this node
// obeys already and the ban is valid; the others obey when Redis is back. Other errors say what is wrong with it.
func (n *Node) Ban(ctx context.Context, b session.Ban) (session.Ban, error) {
	b, err := n.bans.check(b, time.Now())
	if err != nil {
		return session.Ban{}, err
	}
	n.apply(session.Revocation{Kind: session.RevokedBanned, Ban: b})
	if n.bus == nil {
		return b, nil
	}
	if err = n.bus.bans.write(ctx, n.bus.wire.call, []session.Ban{b}); err != nil {
		n.bans.writeLater()
	}
	return b, err
}

// BanCredentials bans the credentials that a banned user's viewer presented, so that the viewer stays out when the
// middleware cannot name the user. It reports no error while Redis is unavailable: this node obeys already, and the others
// do when Redis is back.
func (n *Node) BanCredentials(ctx context.Context, of session.Ban, presented *backends.Request) error {
	credentials := n.Credentials(presented)
	if credentials == "" {
		return nil
	}
	_, err := n.Ban(ctx, session.Ban{Credentials: credentials, Until: of.Until, Reason: of.Reason, Cause: of.ID})
	if errors.Is(err, ErrAway) {
		return nil
	}
	return err
}

// Unban takes a ban back, and those that follow from it. ErrNoBan: there is none. With another error this node obeys
// already, and the others do when Redis is back.
func (n *Node) Unban(ctx context.Context, id string) error {
	now := time.Now()
	b, found := n.bans.find(id, now)
	if !found {
		return ErrNoBan
	}
	until := b.Until
	if latest := now.Add(liftedFor); until.After(latest) {
		until = latest
	}
	lifted := map[string]time.Time{id: until}
	for _, other := range n.bans.list(now) {
		if other.Cause == id {
			lifted[other.ID] = until
		}
	}
	for each := range lifted {
		n.apply(session.Revocation{Kind: session.RevokedUnbanned, Ban: session.Ban{ID: each, Until: until}})
	}
	if n.bus == nil {
		return nil
	}
	err := n.bus.bans.lift(ctx, n.bus.wire.call, lifted)
	if err != nil {
		n.bans.writeLater()
	}
	return err
}

// writeLater has the next pulse write what Redis lacks.
func (b *bans) writeLater() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unwritten = true
}
