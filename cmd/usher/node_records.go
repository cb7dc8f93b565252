package main

import (
	"usher/actors"
	"usher/actors/records"
	"usher/backends"
	"usher/gateway/admin/recordstats"
)

// openRecords opens what keeps the records of sessions.
func (n *node) openRecords() (err error) {
	n.records, err = records.Open(records.Options{
		Config: n.settings.Records, Retention: n.settings.Retention, Node: n.cluster.Name(), IsShared: n.cluster.Shared(), Logger: n.logger,
	})
	return err
}

// recordSessions has what becomes of sessions recorded.
func (n *node) recordSessions(o actors.Options) actors.Options {
	o.OnClosed = n.records.Closed
	if n.records.KeepsOpen() {
		o.OnOpen = n.records.KeepOpen
	}
	if n.settings.Records.OpenEvents {
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
