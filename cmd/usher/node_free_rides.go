package main

import (
	"time"

	"usher/backends"
	"usher/gateway/admin"
	"usher/gateway/admin/freerides"
)

// observer counts what sessions do, and follows those without an answer.
type observer struct {
	*admin.Recorder
	freeRides *freerides.Tracker
}

// Decided tells both of a session's new decision.
func (o observer) Decided(r *backends.Request, before, after *backends.Decision) {
	o.Recorder.Decided(r, before, after)
	o.freeRides.Decided(r, before, after)
}

// newFreeRides returns what follows the sessions of the node that no backend has verified.
func (n *node) newFreeRides() *freerides.Tracker {
	return freerides.New(freerides.Options{
		Node: n.cluster.Name(), Backends: n.settings.backendNames, Store: n.cluster, Ask: n.cluster.Ask,
		IsDown: func(backend string) bool {
			c := n.chains[backend]
			return c != nil && c.IsDown()
		},
		Session: func(id backends.SessionID) (bytes int64, opened time.Time) {
			if s := n.registry.Find(id); s != nil {
				return s.Bytes(), s.Ticket().Opened
			}
			return 0, time.Time{}
		},
		TokenLife: func(backend string) time.Duration {
			if n.settings.Backends[backend] == nil {
				return 0
			}
			return n.settings.tokenTTL(backend)
		},
		Retention: n.settings.Retention, Logger: n.logger,
	})
}
