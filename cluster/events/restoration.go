package events

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"usher/backends"
)

const (
	// restoreTime is within what time after Redis lost its data each live node has written its part again.
	restoreTime = time.Second
	// maxRestoreTime is after what time a node that has not is no longer waited for.
	maxRestoreTime = 5 * time.Second
)

// restoration tells whether this node knows all that live nodes know of bans. It does not after Redis lost its data, until
// each of them has written its part again. It is safe for concurrent use.
type restoration struct {
	mu sync.Mutex
	// epoch is that of the last heartbeat. isComplete: all nodes have written their part in it.
	epoch      string
	isComplete bool
	// others are the ids of the other nodes that lived at the last heartbeat, missing of those that lived when the epoch
	// began and have not written their part. isFirst: this node has just started and does not know which others lived.
	others, missing []string
	isFirst         bool
	// begun and ended count heartbeats. One that failed has ended too.
	begun, ended uint64
	// isRestored is what the last heartbeat found.
	isRestored bool
	// changed is closed when a heartbeat has ended.
	changed chan struct{}
}

func newRestoration() *restoration { return &restoration{changed: make(chan struct{})} }

// begin notes that a heartbeat begins.
func (r *restoration) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun++
}

// end notes that the heartbeat has ended, and what it found.
func (r *restoration) end(isRestored bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.isRestored = r.begun, isRestored
	close(r.changed)
	r.changed = make(chan struct{})
}

// onEpoch takes the epoch of a heartbeat. It reports whether all nodes are known to have written their part in it.
func (r *restoration) onEpoch(epoch string) (isComplete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch != r.epoch {
		r.isFirst = r.epoch == ""
		r.epoch, r.missing, r.isComplete = epoch, r.others, false
	}
	return r.isComplete
}

// onList takes the nodes of a list, and how old the epoch is. It reports whether all nodes have written their part in it.
func (r *restoration) onList(nodes []listedNode, age time.Duration) (isComplete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	hasUnwritten := false
	for _, n := range nodes {
		switch {
		case n.epoch == r.epoch:
			r.missing = slices.DeleteFunc(slices.Clone(r.missing), func(id string) bool { return id == n.ID })
		case n.IsAlive && !n.IsSelf:
			hasUnwritten = true
		}
	}
	isKnown := !r.isFirst && len(r.missing) == 0
	r.isComplete = age >= maxRestoreTime || !hasUnwritten && (isKnown || age >= restoreTime)
	return r.isComplete
}

// setOthers takes the ids of the other nodes that live.
func (r *restoration) setOthers(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others = ids
}

// await waits until a heartbeat that begins from now on finds everything restored. isDown reports whether Redis is
// unavailable. The error is ErrStoreUnavailable or that of ctx.
func (r *restoration) await(ctx context.Context, requestHeartbeat func(), isDown func() bool) error {
	r.mu.Lock()
	first := r.begun + 1
	r.mu.Unlock()
	requestHeartbeat()
	for {
		r.mu.Lock()
		isRestored, changed := r.isRestored && r.ended >= first, r.changed
		r.mu.Unlock()
		switch {
		case isRestored:
			return nil
		case isDown():
			return backends.ErrStoreUnavailable
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("bans are being restored: %w", ctx.Err())
		}
	}
}
