package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"usher/actors"
	"usher/actors/session"
	"usher/backends"
	"usher/cluster"
	"usher/gateway/admin"
)

func (n *node) openCluster() (err error) {
	s := n.settings
	n.cluster, err = cluster.Open(cluster.Options{
		Config: s.Cluster, ReviveFor: s.Gateway.Tickets.ReviveFor, Limits: s.Sessions.LimitRules(),
		Version: version(), Address: s.Gateway.Listen,
		Sessions: func() int { return n.registry.Len() },
		Draining: func() bool { return !n.server.Ready() },
		Logger:   n.logger,
	})
	return err
}

// runCluster applies the events of the cluster to the sessions of this node until ctx ends.
func (n *node) runCluster(ctx context.Context) {
	n.cluster.Run(ctx, cluster.Handlers{
		OnRevocation: n.registry.OnRevocation, RecheckAll: n.registry.RecheckAll, OnRedisRecovered: n.registry.OnRedisRecovered,
		OnLimitExceeded: n.registry.OnLimitExceeded,
		Answer: func(ctx context.Context, question []byte) []byte {
			return admin.AnswerSessionQuery(ctx, n.adminNode(), question)
		},
	})
}

// adminCluster implements admin.Cluster: Live, RedisDown and RoundTrips of the cluster's node, and the rest here.
type adminCluster struct {
	*cluster.Node
	registry     *actors.Registry
	kickDuration time.Duration
}

func (n *node) adminCluster() adminCluster {
	return adminCluster{Node: n.cluster, registry: n.registry, kickDuration: n.settings.Sessions.KickDuration}
}

// queryTimeout bounds the wait for the answers of all nodes.
const queryTimeout = 2 * time.Second

// FindSessions returns the sessions of all nodes that match the filter.
func (a adminCluster) FindSessions(ctx context.Context, f admin.Filter, limit int) (admin.SessionList, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answers, silent := a.Node.Ask(ctx, admin.EncodeSessionQuery(f, limit))
	byNode := make(map[string][]byte, len(answers))
	for _, answer := range answers {
		name := answer.Node
		for _, taken := byNode[name]; taken; _, taken = byNode[name] {
			name += "'" // two nodes have the same node_name
		}
		byNode[name] = answer.Body
	}
	return admin.MergeSessionLists(f, limit, byNode, silent), nil
}

// Kick ends the session on all nodes, and refuses it for d.
func (a adminCluster) Kick(ctx context.Context, id backends.SessionID, d time.Duration, reason string) error {
	known, err := a.sessionExists(ctx, id)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("session %s: %w", id, admin.ErrNotFound)
	}
	if d == 0 {
		d = a.kickDuration
	}
	decision := session.Kicked()
	if reason != "" {
		decision.Reason += ": " + reason
	}
	return asPending(a.Node.Kick(ctx, id, time.Time{}, d, decision))
}

// sessionExists reports whether a node holds the session, or the store remembers it.
func (a adminCluster) sessionExists(ctx context.Context, id backends.SessionID) (bool, error) {
	if a.registry.Find(id) != nil {
		return true, nil
	}
	if found, err := a.Node.AcquireLease(ctx, session.LeaseRequest{ID: id}); err == nil && found.Found {
		return true, nil
	}
	found, err := a.FindSessions(ctx, admin.Filter{ID: id.String()}, 1)
	return found.Matched > 0, err
}

// asPending marks an error of an unavailable store with admin.ErrPending.
func asPending(err error) error {
	if errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", admin.ErrPending, err)
	}
	return err
}

// Ban refuses a user, session, address or credentials on all nodes until the ban ends.
func (a adminCluster) Ban(ctx context.Context, b admin.Ban) (admin.Ban, error) {
	wanted := session.Ban{User: b.User, Credentials: b.Credentials, Until: b.Until, Reason: b.Reason}
	var err error
	if b.Session != "" {
		if wanted.Session, err = backends.ParseSessionID(b.Session); err != nil {
			return admin.Ban{}, fmt.Errorf("%w: session: %w", admin.ErrInvalid, err)
		}
	}
	if b.Address != "" {
		if wanted.Prefix, err = netip.ParsePrefix(b.Address); err != nil {
			return admin.Ban{}, fmt.Errorf("%w: address: %w", admin.ErrInvalid, err)
		}
	}
	if b.CredentialsOf != "" {
		if wanted.Credentials, err = a.credentialsOf(ctx, b.CredentialsOf); err != nil {
			return admin.Ban{}, err
		}
	}
	got, err := a.Node.Ban(ctx, wanted)
	if err = asPending(err); err != nil && !errors.Is(err, admin.ErrPending) {
		return admin.Ban{}, fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	shown := banView(got)
	shown.CredentialsOf = b.CredentialsOf
	return shown, err
}

// credentialsOf returns the hash of the credentials that the session's viewer presented.
func (a adminCluster) credentialsOf(ctx context.Context, name string) (string, error) {
	id, err := backends.ParseSessionID(name)
	if err != nil {
		return "", fmt.Errorf("%w: credentials_of: %w", admin.ErrInvalid, err)
	}
	if s := a.registry.Find(id); s != nil {
		if hash := a.Node.Credentials(s.Request()); hash != "" {
			return hash, nil
		}
	}
	found, err := a.Node.AcquireLease(ctx, session.LeaseRequest{ID: id})
	if err != nil {
		return "", err
	}
	if facts := found.Record.Request; facts != nil {
		if hash := a.Node.Credentials(facts); hash != "" {
			return hash, nil
		}
	}
	return "", fmt.Errorf("credentials_of: session %s: %w, or its viewer presented only a ticket", id, admin.ErrNotFound)
}

// Unban removes a ban.
func (a adminCluster) Unban(ctx context.Context, id string) error {
	err := a.Node.Unban(ctx, id)
	if errors.Is(err, cluster.ErrNoBan) {
		return fmt.Errorf("ban %s: %w", id, admin.ErrNotFound)
	}
	return asPending(err)
}

// Bans returns the bans in force.
func (a adminCluster) Bans() []admin.Ban {
	bans := a.Node.Bans()
	shown := make([]admin.Ban, len(bans))
	for i, b := range bans {
		shown[i] = banView(b)
	}
	return shown
}

func banView(b session.Ban) admin.Ban {
	shown := admin.Ban{
		ID: b.ID, User: b.User, Credentials: b.Credentials, Until: b.Until.UTC().Truncate(time.Second), Reason: b.Reason,
		Cause: b.Cause,
	}
	if !b.Session.IsZero() {
		shown.Session = b.Session.String()
	}
	if b.Prefix.IsValid() {
		shown.Address = b.Prefix.String()
	}
	return shown
}

// Nodes returns all nodes that were alive within the last minute.
func (a adminCluster) Nodes(ctx context.Context) ([]admin.NodeStatus, error) {
	nodes, err := a.Node.Nodes(ctx)
	if err != nil {
		return nil, asPending(err)
	}
	now := time.Now().UTC()
	shown := make([]admin.NodeStatus, len(nodes))
	for i, n := range nodes {
		shown[i] = admin.NodeStatus{
			ID: n.ID, Name: n.Name, Address: n.Address, Version: n.Version, Started: n.Started.UTC().Truncate(time.Second),
			LastSeen: now.Add(-n.SinceHeartbeat), Sessions: n.Sessions, Draining: n.IsDraining, Alive: n.IsAlive, Self: n.IsSelf,
		}
	}
	return shown, nil
}
