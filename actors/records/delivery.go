package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"usher/actors/session"
	"usher/backends"
)

const (
	// maxBatch bounds the records of one request, about 150 KB.
	maxBatch = 250
	// firstPause and longestPause bound the time between two attempts. It doubles with each failure.
	firstPause   = 250 * time.Millisecond
	longestPause = time.Minute
)

// Delivery delivers records. It is safe for concurrent use.
type Delivery struct {
	node    string
	log     *slog.Logger
	file    *lumberjack.Logger // nil: none
	hook    *webhook           // nil: none
	spool   *spool             // nil: none
	arrived chan struct{}      // holds one token when a record waits
	pause   time.Duration      // the first one

	isDropping, isFileBroken   atomic.Bool // since it was logged
	delivered, failed, dropped atomic.Uint64
}

// Stats are numbers of the webhook. All but Waiting count since the start.
type Stats struct {
	// Waiting is how many records are in the spool.
	Waiting int
	// Delivered were taken by the receiver.
	Delivered uint64
	// Dropped were lost, because too many waited or the spool could not be written.
	Dropped uint64
	// Failed is how many requests failed.
	Failed uint64
}

// Open opens the file and the spool. The config must be valid.
func Open(c Config, node string, log *slog.Logger) (*Delivery, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	d := &Delivery{node: node, log: backends.LoggerOrDiscard(log), arrived: make(chan struct{}, 1), pause: firstPause}
	if c.File != "" {
		d.file = &lumberjack.Logger{Filename: c.File, MaxSize: int(c.MaxFileSize >> 20), MaxBackups: c.MaxFiles}
	}
	if c.Webhook.URL == "" {
		return d, nil
	}
	var err error
	if d.spool, err = openSpool(c.Webhook.Spool, c.Webhook.MaxWaiting); err != nil {
		return nil, fmt.Errorf("records.webhook.spool: %w", err)
	}
	if d.hook, err = newWebhook(c.Webhook); err != nil {
		return nil, errors.Join(fmt.Errorf("records.webhook.secret: %w", err), d.spool.close())
	}
	return d, nil
}

// Closed takes the records of sessions that have closed. When it returns they are in the file and in the spool. What could not
// be written is logged.
func (d *Delivery) Closed(all []session.ClosingRecord) {
	if len(all) == 0 || d.file == nil && d.spool == nil {
		return
	}
	var lines [][]byte
	for i := range all {
		line, err := json.Marshal(newRecord(d.node, &all[i]))
		if err != nil {
			d.log.Error("BUG: record of a session not encoded", slog.Any("error", err))
			continue
		}
		lines = append(lines, line)
	}
	if d.file != nil {
		d.write(lines)
	}
	if d.spool != nil {
		d.enqueue(lines)
	}
}

// write appends records to the file.
func (d *Delivery) write(lines [][]byte) {
	lost, failure := 0, error(nil)
	for _, line := range lines {
		if _, err := d.file.Write(append(line[:len(line):len(line)], '\n')); err != nil {
			lost, failure = lost+1, err
		}
	}
	if failure != nil && !d.isFileBroken.Swap(true) {
		d.log.Error("records not written, sessions miss in the file; check records.file", slog.String("file", d.file.Filename),
			slog.Int("records", lost), slog.Any("error", failure))
	}
	if failure == nil && d.isFileBroken.Swap(false) {
		d.log.Info("records are written again", slog.String("file", d.file.Filename))
	}
}

// enqueue stores records until they are delivered.
func (d *Delivery) enqueue(lines [][]byte) {
	dropped, err := d.spool.add(lines)
	if err != nil {
		dropped = len(lines)
	}
	d.dropped.Add(uint64(dropped))
	if dropped > 0 && !d.isDropping.Swap(true) {
		if err != nil {
			d.log.Error("records lost, the spool cannot be written; check records.webhook.spool", slog.Any("error", err))
		} else {
			d.log.Warn("oldest records lost, too many wait; check records.webhook.url, or raise records.webhook.max_waiting",
				slog.Int("max_waiting", d.spool.max))
		}
	}
	select {
	case d.arrived <- struct{}{}:
	default:
	}
}

// Run delivers what waits until ctx ends.
func (d *Delivery) Run(ctx context.Context) error {
	if d.hook == nil {
		return nil
	}
	failures := 0
	for ctx.Err() == nil {
		sent, err := d.deliver(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if failures == 0 {
				d.log.Warn("webhook failed, records wait; check records.webhook.url", slog.Int("waiting", d.spool.waiting()),
					slog.Any("error", err))
			}
			d.failed.Add(1)
			await(ctx, d.pauseAfter(failures))
			failures++
		case sent == 0:
			await(ctx, d.arrived)
		default:
			if failures > 0 {
				d.log.Info("webhook recovered", slog.Int("waiting", d.spool.waiting()))
			}
			failures = 0
			d.isDropping.Store(false)
		}
	}
	return nil
}

// pauseAfter returns a channel that tells when to try again after so many failures and one. Its jitter keeps nodes apart.
func (d *Delivery) pauseAfter(failures int) <-chan time.Time {
	pause := min(longestPause, d.pause<<min(failures, 20))
	return time.After(pause/2 + rand.N(pause))
}

// await waits for a value or the end of ctx.
func await[T any](ctx context.Context, c <-chan T) {
	select {
	case <-ctx.Done():
	case <-c:
	}
}

// deliver sends the oldest records, and returns how many.
func (d *Delivery) deliver(ctx context.Context) (sent int, err error) {
	records, last, err := d.spool.oldest(maxBatch)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	if err := d.hook.send(ctx, records, time.Now()); err != nil {
		return 0, err
	}
	d.delivered.Add(uint64(len(records)))
	return len(records), d.spool.remove(last)
}

// Stats returns the numbers.
func (d *Delivery) Stats() Stats {
	s := Stats{Delivered: d.delivered.Load(), Dropped: d.dropped.Load(), Failed: d.failed.Load()}
	if d.spool != nil {
		s.Waiting = d.spool.waiting()
	}
	return s
}

// Close closes the files, once Run has returned.
func (d *Delivery) Close() {
	if d.file != nil {
		_ = d.file.Close() // each write went to the system
	}
	if d.spool != nil {
		d.hook.client.CloseIdleConnections()
		_ = d.spool.close() // each write is on the disk
	}
}
