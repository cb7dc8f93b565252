package main

import (
	"maps"
	"time"

	"usher/actors"
	"usher/actors/records"
	"usher/backends"
	"usher/gateway/admin"
	"usher/gateway/admin/freerides"
	"usher/gateway/admin/overloadstats"
	"usher/gateway/admin/recordstats"
)

// openRecords opens what keeps the records of sessions.
func (n *node) openRecords() (err error) {
	s := n.current.Load().settings
	n.records, err = records.Open(records.Options{
		Config: s.Records, Retention: s.Retention, Node: n.cluster.Name(), IsShared: n.cluster.Shared(), Logger: n.logger,
	})
	return err
}

// recordSessions has what becomes of sessions recorded.
func (n *node) recordSessions(o actors.Options) actors.Options {
	o.OnClosed = n.records.Closed
	if n.records.KeepsOpen() {
		o.OnOpen = n.records.KeepOpen
	}
	if n.current.Load().settings.Records.OpenEvents {
		o.Observer = openingObserver{o.Observer, n.records}
	}
	return o
}

// openingObserver records sessions that open.
type openingObserver struct {
	actors.Observer

	records *records.Delivery
}

// Decided records that the viewer may watch from now on.
func (o openingObserver) Decided(r *backends.Request, before, after *backends.Decision) {
	if after != nil && after.Verdict == backends.Allowed && (before == nil || before.Verdict != backends.Allowed) {
		o.records.Opened(r, after)
	}
	o.Observer.Decided(r, before, after)
}

// recordStats returns the numbers of the webhook for the metrics.
func (n *node) recordStats() recordstats.Stats {
	s := n.records.Stats()
	return recordstats.Stats{
		Waiting: s.Waiting, WaitingBytes: s.WaitingBytes, Open: s.Open, Delivered: s.Delivered, Dropped: s.Dropped, FailedRequests: s.Failed,
	}
}

// overloadStats returns what the node does so as not to grow beyond its memory.
func (n *node) overloadStats() overloadstats.Stats {
	reached := n.registry.BoundsReached()
	maps.Copy(reached, n.cluster.BoundsReached())
	maps.Copy(reached, n.current.Load().gateway.BoundsReached())
	return overloadstats.Stats{Memory: n.memory.Stats(), Reached: reached}
}

// observer counts what sessions do, and follows those without an answer. One of these that moves to another backend stays in the
// outage in which it became unverified.
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
		Node: n.cluster.Name(), Backends: func() []string { return n.current.Load().settings.backendNames() }, Store: n.cluster, Ask: n.cluster.Ask,
		IsDown: func(backend string) bool {
			c := n.current.Load().chains[backend]
			return c != nil && c.IsDown()
		},
		Session: func(id backends.SessionID) (bytes int64, opened time.Time) {
			if s := n.registry.Find(id); s != nil {
				return s.Bytes(), s.Ticket().Opened
			}
			return 0, time.Time{}
		},
		TokenLife: func(backend string) time.Duration {
			if n.current.Load().settings.Backends[backend] == nil {
				return 0
			}
			return n.current.Load().settings.tokenTTL(backend)
		},
		Retention: n.current.Load().settings.Retention, Logger: n.logger,
	})
}
