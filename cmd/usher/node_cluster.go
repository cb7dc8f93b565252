package main

import (
	"context"

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
		OnStateLost:      n.registry.OnStateLost,
		OnTicketReplaced: n.registry.OnTicketReplaced, OnTicketsMissed: n.registry.OnTicketsMissed,
		OnLimitExceeded: n.registry.OnLimitExceeded,
		Answer: func(ctx context.Context, question []byte) []byte {
			return admin.AnswerSessionQuery(ctx, n.registry, n.cluster, question)
		},
	})
}
