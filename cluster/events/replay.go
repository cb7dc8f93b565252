package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// page is a part of the stream of revocations.
type page struct {
	ms    int64 // Redis' clock
	epoch string
	last  place // where the stream ends
	// oldestPrevious is the place before the oldest revocation that is kept: what came up to it cannot be had any more.
	oldestPrevious place
	revocations    []placed
}

type placed struct {
	at      place
	payload string
}

// replay applies what was missed, up to where the stream ends. What cannot be had any more is told once.
func (r *revocations) replay(ctx context.Context) error {
	r.mu.Lock()
	whole, epoch, assumed := r.at, r.epoch, r.assumed
	r.mu.Unlock()

	from := whole.earlier(replayOverlap)
	p, err := r.read(ctx, from)
	if err != nil {
		return err
	}
	if p.epoch == "" { // all was lost after the last pulse: the next one begins anew
		r.missed()
		return nil
	}
	// What this node knows to have been there last should be there yet, unless it was trimmed, or ended with the stream.
	known := assumed || whole == place{} || whole == p.last || !whole.after(p.oldestPrevious)
	switch {
	case p.epoch != epoch || !assumed && whole.after(p.last):
		known = true
		r.restart(p.epoch)
		if p, err = r.read(ctx, place{}); err != nil {
			return err
		}
	case p.oldestPrevious.after(whole):
		r.log.Warn("revocations were missed for good: all sessions are looked at again")
		r.reread()
	}
	p, found, err := r.applyFrom(ctx, p, from, whole)
	if err != nil {
		return err
	}
	if !known && !found {
		r.restart(p.epoch) // a replica took over that had not heard of it, and others have told it more since
	}
	r.caughtUp(p)
	return nil
}

// applyFrom applies a page of the stream and all that follow, and returns the last one. found: something stood at that place.
func (r *revocations) applyFrom(ctx context.Context, p page, from, sought place) (end page, found bool, err error) {
	applied := 0
	for {
		for _, one := range p.revocations {
			from = one.at.next()
			found = found || one.at == sought
			if r.take(one.at, one.payload) {
				applied++
			}
		}
		if len(p.revocations) < replayPage {
			break
		}
		if p, err = r.read(ctx, from); err != nil {
			return p, found, err
		}
	}
	if applied > 0 {
		r.log.Info("revocations that were missed are applied", slog.Int("applied", applied))
	}
	return p, found, nil
}

// restart begins anew with another stream: Redis was flushed, or a replica took over that had not heard of all. What this
// node issued lately is issued again; so do the others. Who was cut off for longer than they can looks at all sessions.
func (r *revocations) restart(epoch string) {
	r.mu.Lock()
	r.remember() // drops what is too old
	r.held, r.recent = append(r.recent, r.held...), nil
	r.at, r.assumed, r.epoch = place{}, true, epoch
	again, cut := slices.Clone(r.held), time.Since(r.contact) > reissuedFor
	r.mu.Unlock()
	r.lost(again)
	r.log.Info("Redis lost what was shared: this node's part is written again", slog.Int("revocations", len(again)))
	if cut {
		r.reread()
	}
}

// caughtUp notes that everything up to the page's end was applied.
func (r *revocations) caughtUp(p page) {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := p.last
	if n := len(p.revocations); n > 0 && p.revocations[n-1].at.after(end) {
		end = p.revocations[n-1].at
	}
	if end.after(r.at) {
		r.at, r.assumed = end, false
	}
	r.contact = time.Now()
}

func (r *revocations) read(ctx context.Context, from place) (page, error) {
	asked := time.Now()
	reply, err := r.wire.direct(ctx, r.wire.scripts.replay,
		[]string{r.wire.keys.common("revocations"), r.wire.keys.common("state")}, from.String(), replayPage)
	if err != nil {
		return page{}, err
	}
	p, err := readPage(reply)
	if err != nil {
		return page{}, fmt.Errorf("replay revocations: %w", err)
	}
	r.clock.set(p.ms, asked)
	return p, nil
}

// readPage reads the result of replay.lua.
func readPage(reply any) (page, error) {
	fields := list(reply)
	if len(fields) != 5 {
		return page{}, fmt.Errorf("BUG: replay.lua answers with %d fields", len(fields))
	}
	p := page{ms: number(fields[0]), epoch: text(fields[1])}
	p.last, _ = parsePlace(text(fields[2]))
	p.oldestPrevious, _ = parsePlace(text(fields[3]))
	for _, entry := range list(fields[4]) {
		pair := list(entry)
		if len(pair) != 2 {
			continue
		}
		at, ok := parsePlace(text(pair[0]))
		if ok {
			p.revocations = append(p.revocations, placed{at, text(pair[1])})
		}
	}
	return p, nil
}

// list, number and text read what a script answered; what is something else is empty.
func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
