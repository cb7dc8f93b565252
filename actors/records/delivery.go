package records

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxBatch bounds the records of one request, about 150 KB.
	maxBatch = 250
	// firstPause and longestPause bound the time between two attempts. It doubles with each failure.
	firstPause   = 250 * time.Millisecond
	longestPause = time.Minute
	// lastDelivery bounds the delivery of what waits when the node stops.
	lastDelivery = 5 * time.Second
	// maxOpened is how many events "opened" wait for their write, and openedInterval how long.
	maxOpened      = 20_000
	openedInterval = 100 * time.Millisecond
)

// Options are what a [Delivery] is made of.
type Options struct {
	Config Config
	// Retention is how long records are kept that hold addresses and names of users.
	Retention time.Duration
	// Node is the name of this node.
	Node string
	// IsShared: the store returns sessions again whose records were not kept.
	IsShared bool
	// Logger may be nil.
	Logger *slog.Logger
}

// Delivery delivers records. It is safe for concurrent use.
type Delivery struct {
	Options
	log     *slog.Logger
	file    *file         // nil: none
	hook    *webhook      // nil: none
	spool   *spool        // nil: none
	arrived chan struct{} // holds one token when a record waits
	opened  chan Record   // nil: no events "opened"
	pause   time.Duration // the first one

	// since it was logged
	isDropping, isSpoolBroken      atomic.Bool
	isJournalFull, isJournalBroken atomic.Bool

	delivered, failed, dropped atomic.Uint64
}

// Stats are numbers of the delivery.
type Stats struct {
	// Waiting is how many records wait in the spool, and WaitingBytes their size.
	Waiting, WaitingBytes int64
	// Open is how many sessions are noted as open.
	Open int64
	// Delivered were taken by the receiver since the start.
	Delivered uint64
	// Dropped were lost, because too many waited or the spool could not be written.
	Dropped uint64
	// Failed is how many requests failed.
	Failed uint64
}

// Open opens the file and the spool, and records the sessions that were open when an earlier process ended without closing
// them. The config must be valid.
func Open(o Options) (*Delivery, error) {
	c := o.Config
	if err := c.Check(); err != nil {
		return nil, err
	}
	d := &Delivery{Options: o, log: backends.LoggerOrDiscard(o.Logger), arrived: make(chan struct{}, 1), pause: firstPause}
	if c.OpenEvents {
		d.opened = make(chan Record, maxOpened)
	}
	if c.File.Path != "" {
		d.file = openFile(c.File, o.Retention, d.log)
	}
	if c.Spool.Path == "" {
		return d, nil
	}
	var err error
	if d.spool, err = openSpool(c.Spool.Path, int64(c.Spool.MaxSize)); err != nil {
		return nil, fmt.Errorf("records.spool.path: %w", err)
	}
	if c.Webhook.URL != "" {
		if d.hook, err = newWebhook(c.Webhook); err != nil {
			return nil, errors.Join(fmt.Errorf("records.webhook.secret: %w", err), d.spool.close())
		}
	}
	if err := d.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("records.spool.path: %w", err), d.spool.close())
	}
	return d, nil
}

// recover records the sessions of an earlier process.
func (d *Delivery) recover() error {
	unreadable := 0
	for isLast := false; !isLast; {
		found, err := d.spool.recover(func(found []Record) (waiting [][]byte) {
			for i := range found {
				r := &found[i]
				r.Time = time.Now().UTC()
				r.ID = recordID(r.Session, uint64(r.Time.UnixMilli()))
			}
			return d.waiting(found)
		})
		if err != nil {
			return err
		}
		d.countDropped(found.dropped, nil)
		if len(found.records) > 0 {
			d.write(found.records)
		}
		unreadable, isLast = unreadable+found.unreadable, found.isLast
	}
	d.countUnreadable(unreadable)
	return nil
}

// countUnreadable counts records that are lost because they cannot be read.
func (d *Delivery) countUnreadable(n int) {
	if d.dropped.Add(uint64(n)); n > 0 {
		d.log.Warn("session records lost: they cannot be read; look for damage at records.spool.path",
			slog.Int("records", n), slog.String("path", d.Config.Spool.Path))
	}
}

// waiting returns what waits for the webhook of records: none without a webhook.
func (d *Delivery) waiting(all []Record) (lines [][]byte) {
	if d.hook == nil {
		return nil
	}
	for i := range all {
		lines = append(lines, all[i].encode())
	}
	return lines
}

// Closed takes the records of sessions that have closed on all nodes. When it returns they are in the spool, in the file and in
// the log. With an error they are nowhere, and counted as dropped unless the store returns them again.
func (d *Delivery) Closed(all []session.ClosingRecord) error {
	if len(all) == 0 {
		return nil
	}
	records, ids := make([]Record, len(all)), make([]backends.SessionID, len(all))
	for i := range all {
		records[i], ids[i] = newClosed(d.Node, &all[i]), all[i].Record.ID
	}
	return d.keep(records, ids)
}

// keep stores records, and then writes them.
func (d *Delivery) keep(records []Record, closed []backends.SessionID) error {
	if d.spool != nil {
		dropped, err := d.spool.add(d.waiting(records), closed)
		if err != nil && (!d.IsShared || len(closed) == 0) {
			dropped = len(records)
		}
		d.countDropped(dropped, err)
		if err != nil {
			return err
		}
		select {
		case d.arrived <- struct{}{}:
		default:
		}
	}
	d.write(records)
	return nil
}

// write writes records to the file and to the log.
func (d *Delivery) write(records []Record) {
	if d.file != nil {
		lines := make([][]byte, len(records))
		for i := range records {
			lines[i] = records[i].encode()
		}
		d.file.write(lines)
	}
	if d.Config.Log {
		for i := range records {
			records[i].logTo(d.log)
		}
	}
}

// countDropped counts records that are lost in a write to the spool, and logs the first of them. The error is why the spool could
// not be written; nil: there was no room. The one is over with the next write, the other once there is room again.
func (d *Delivery) countDropped(n int, err error) {
	d.dropped.Add(uint64(n))
	wasBroken := d.isSpoolBroken.Swap(err != nil)
	switch {
	case err != nil && !wasBroken:
		d.log.Error("records not kept, the spool cannot be written; check records.spool.path", slog.Int("lost", n), slog.Any("error", err))
	case err == nil && wasBroken:
		d.log.Info("records are kept again", slog.String("spool", d.Config.Spool.Path))
	}
	if err == nil && n > 0 && !d.isDropping.Swap(true) {
		d.log.Warn("oldest records lost, too many wait; check records.webhook.url, or raise records.spool.max_size",
			slog.String("max_size", d.Config.Spool.MaxSize.String()))
	}
}

// Opened takes the event that a session has opened on this node. It does not block.
func (d *Delivery) Opened(r *backends.Request, decision *backends.Decision) {
	if d.opened == nil {
		return
	}
	now := time.Now()
	select {
	case d.opened <- newRecord(eventOpened, d.Node, r, decision, now, uint64(now.UnixMilli())):
	default:
		d.dropped.Add(1)
	}
}

// KeepsOpen reports whether [Delivery.KeepOpen] keeps anything.
func (d *Delivery) KeepsOpen() bool { return d.spool != nil }

// KeepOpen keeps what would be recorded of open sessions if the process were killed now. It changes the list.
func (d *Delivery) KeepOpen(open []session.ClosingRecord) {
	all := make([]openSession, len(open))
	for i := range open {
		open[i].IsNodeStopped, open[i].IsEstimated = true, true
		r := newClosed(d.Node, &open[i])
		all[i] = openSession{open[i].Record.ID, open[i].Sequence, r.encode()}
	}
	dropped, err := d.spool.keepOpen(all)
	wasBroken := d.isJournalBroken.Swap(err != nil)
	if err != nil {
		if !wasBroken {
			d.log.Error("open sessions not kept, a kill would lose their records; check records.spool.path", slog.Any("error", err))
		}
		return
	}
	if wasFull := d.isJournalFull.Swap(dropped > 0); dropped > 0 && !wasFull {
		d.log.Warn("open sessions not kept, a kill would lose their records; raise records.spool.max_size",
			slog.Int("sessions", dropped), slog.String("max_size", d.Config.Spool.MaxSize.String()))
	}
}

// Run delivers what waits until ctx ends.
func (d *Delivery) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	if d.file != nil {
		tasks.Go(func() { d.file.run(ctx) })
	}
	if d.opened != nil {
		tasks.Go(func() { d.runOpened(ctx) })
	}
	switch {
	case d.hook != nil:
		tasks.Go(func() { d.runWebhook(ctx) })
	case d.spool != nil:
		tasks.Go(func() { d.runExpiry(ctx) })
	}
}

// runExpiry drops what waits for a webhook that is no longer set, until ctx ends, at once and every hour.
func (d *Delivery) runExpiry(ctx context.Context) {
	if n := d.Stats().Waiting; n > 0 {
		d.log.Warn("records wait and are not sent, records.webhook.url is empty; set it before retention ends, which deletes them",
			slog.Int64("waiting", n), slog.Duration("retention", d.Retention))
	}
	ticker := time.NewTicker(expiryInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		d.dropExpired(time.Now())
		await(ctx, ticker.C)
	}
}

// runOpened keeps the events "opened", a batch at a time.
func (d *Delivery) runOpened(ctx context.Context) {
	ticker := time.NewTicker(openedInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		await(ctx, ticker.C)
		d.keepOpened() //nolint:contextcheck // what it keeps outlives the context
	}
}

// keepOpened keeps the events "opened" that wait.
func (d *Delivery) keepOpened() {
	for {
		var batch []Record
		for len(batch) < maxBatch && len(d.opened) > 0 {
			batch = append(batch, <-d.opened)
		}
		if len(batch) == 0 {
			return
		}
		_ = d.keep(batch, nil) // counted and logged
	}
}

// dropExpired drops records that have waited for too long.
func (d *Delivery) dropExpired(now time.Time) {
	dropped, err := d.spool.removeBefore(now.Add(-d.Retention))
	if err != nil {
		d.log.Error("old records not deleted; check records.spool.path", slog.Any("error", err))
	}
	if d.dropped.Add(uint64(dropped)); dropped > 0 {
		d.log.Warn("records lost, they have waited longer than retention; check records.webhook.url", slog.Int("records", dropped))
	}
}

// await waits for a value or the end of ctx.
func await[T any](ctx context.Context, c <-chan T) {
	select {
	case <-ctx.Done():
	case <-c:
	}
}

// Stats returns the numbers.
func (d *Delivery) Stats() Stats {
	s := Stats{Delivered: d.delivered.Load(), Dropped: d.dropped.Load(), Failed: d.failed.Load()}
	if d.spool != nil {
		s.Waiting, s.WaitingBytes, s.Open = d.spool.sizes()
	}
	return s
}

// Close delivers what waits, if the receiver takes it at once, and closes the files. Run must have returned.
func (d *Delivery) Close() {
	if d.opened != nil {
		d.keepOpened()
	}
	if d.hook != nil {
		ctx, cancel := context.WithTimeout(context.Background(), lastDelivery)
		defer cancel()
		for sent, err := d.deliver(ctx); sent > 0 && err == nil; sent, err = d.deliver(ctx) {
		}
		d.hook.client.CloseIdleConnections()
	}
	if d.file != nil {
		d.file.close()
	}
	if d.spool != nil {
		_ = d.spool.close() // each write is on the disk
	}
}
