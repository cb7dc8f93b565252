package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/cluster"
	"usher/gateway/admin"
)

// This file is the node as one of many.

func (n *node) joinCluster() (err error) {
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

// hear does what the other nodes, and the operator by any of them, want of this one's sessions, until ctx ends.
func (n *node) hear(ctx context.Context) {
	n.cluster.Run(ctx, cluster.Handlers{
		OnRevocation: n.registry.OnRevocation, RecheckAll: n.registry.RecheckAll, OnRedisRecovered: n.registry.OnRedisRecovered,
		OnLimitExceeded: n.registry.OnLimitExceeded,
		Answer: func(ctx context.Context, question []byte) []byte {
			return admin.AnswerSessionQuery(ctx, (*adminNode)(n), question)
		},
	})
}

// adminCluster is the cluster in the admin listener's words.
type adminCluster node

// askFor bounds how long a node that does not answer holds up the operator.
const askFor = 2 * time.Second

// FindSessions lists the live sessions of all nodes that match.
func (a *adminCluster) FindSessions(ctx context.Context, f admin.Filter, limit int) (admin.SessionList, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	answers, silent := a.cluster.Ask(ctx, admin.EncodeSessionQuery(f, limit))
	byNode := make(map[string][]byte, len(answers))
	for _, answer := range answers {
		name := answer.Node
		for _, taken := byNode[name]; taken; _, taken = byNode[name] {
			name += "'" // two nodes that the settings call the same
		}
		byNode[name] = answer.Body
	}
	return admin.MergeSessionLists(f, limit, byNode, silent), nil
}

// Kick ends the session on all nodes, and refuses it for so long.
func (a *adminCluster) Kick(ctx context.Context, id backends.SessionID, d time.Duration, reason string) error {
	known, err := a.knows(ctx, id)
	if err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("session %s: %w", id, admin.ErrNotFound)
	}
	if d == 0 {
		d = a.settings.Sessions.KickDuration
	}
	decision := session.Kicked()
	if reason != "" {
		decision.Reason += ": " + reason
	}
	return pending(a.cluster.Kick(ctx, id, time.Time{}, d, decision))
}

// knows reports whether any node holds the session, or could go on with it.
func (a *adminCluster) knows(ctx context.Context, id backends.SessionID) (bool, error) {
	if a.registry.Find(id) != nil {
		return true, nil
	}
	if found, err := a.cluster.AcquireLease(ctx, session.LeaseRequest{ID: id}); err == nil && found.Found {
		return true, nil
	}
	found, err := a.FindSessions(ctx, admin.Filter{ID: id.String()}, 1)
	return found.Matched > 0, err
}

// pending is an error in the admin listener's words.
func pending(err error) error {
	if errors.Is(err, cluster.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", admin.ErrPending, err)
	}
	return err
}

// Ban refuses somebody on all nodes until the ban ends.
func (a *adminCluster) Ban(ctx context.Context, b admin.Ban) (admin.Ban, error) {
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
	got, err := a.cluster.Ban(ctx, wanted)
	if err = pending(err); err != nil && !errors.Is(err, admin.ErrPending) {
		return admin.Ban{}, fmt.Errorf("%w: %w", admin.ErrInvalid, err)
	}
	shown := shownBan(got)
	shown.CredentialsOf = b.CredentialsOf
	return shown, err
}

// credentialsOf is a hash of what a session's viewer showed.
func (a *adminCluster) credentialsOf(ctx context.Context, name string) (string, error) {
	id, err := backends.ParseSessionID(name)
	if err != nil {
		return "", fmt.Errorf("%w: credentials_of: %w", admin.ErrInvalid, err)
	}
	if s := a.registry.Find(id); s != nil {
		if hash := a.cluster.Credentials(s.Request()); hash != "" {
			return hash, nil
		}
	}
	found, err := a.cluster.AcquireLease(ctx, session.LeaseRequest{ID: id})
	if err != nil {
		return "", err
	}
	if facts := found.Record.Request; facts != nil {
		if hash := a.cluster.Credentials(facts); hash != "" {
			return hash, nil
		}
	}
	return "", fmt.Errorf("credentials_of: session %s: %w, or its viewer showed nothing but a ticket", id, admin.ErrNotFound)
}

// Unban takes a ban back.
func (a *adminCluster) Unban(ctx context.Context, id string) error {
	err := a.cluster.Unban(ctx, id)
	if errors.Is(err, cluster.ErrNoBan) {
		return fmt.Errorf("ban %s: %w", id, admin.ErrNotFound)
	}
	return pending(err)
}

// Bans are those that hold.
func (a *adminCluster) Bans() []admin.Ban {
	bans := a.cluster.Bans()
	shown := make([]admin.Ban, len(bans))
	for i, b := range bans {
		shown[i] = shownBan(b)
	}
	return shown
}

func shownBan(b session.Ban) admin.Ban {
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

// Nodes are all nodes that were live a moment ago.
func (a *adminCluster) Nodes(ctx context.Context) ([]admin.NodeStatus, error) {
	nodes, err := a.cluster.Nodes(ctx)
	if err != nil {
		return nil, pending(err)
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

// Live counts the live nodes.
func (a *adminCluster) Live() int { return a.cluster.Live() }

// RedisDown reports whether what nodes share cannot be reached.
func (a *adminCluster) RedisDown() bool { return a.cluster.RedisDown() }

// RoundTrips is how often what nodes share was waited for since the start.
func (a *adminCluster) RoundTrips() uint64 { return a.cluster.RoundTrips() }
