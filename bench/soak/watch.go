package soak

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// watchInterval is how often a node is asked what it knows.
const watchInterval = 250 * time.Millisecond

// watched is what is known of a node from outside. Safe for concurrent use.
type watched struct {
	mu sync.Mutex
	// reaches is since when the node is known to reach Redis without a break; zero: it is not known to.
	reaches time.Time
	// broken counts the faults between the node and Redis that are in force.
	broken int
	// heard is since when the node lists a ban, by the ban's id.
	heard map[string]hearing
	// distrusted is when the node's disk was last no proof of a ban: it was full, or the clock by which it has the ends of bans was
	// set. isDistrusted says that it is.
	distrusted   time.Time
	isDistrusted bool
	// samples are in the order of their times.
	samples []sample
}

// hearing is when a process of a node was seen to list a ban.
type hearing struct {
	at      time.Time
	process int
}

// sample is what a node's process used.
type sample struct {
	at                         time.Time
	goroutines, resident, heap float64
	cpu                        float64 // seconds since its start
}

// breakRedis notes a fault between the node and Redis, until it is called again.
func (w *watched) breakRedis(isBroken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reaches = time.Time{}
	if isBroken {
		w.broken++
	} else {
		w.broken--
	}
}

func (w *watched) distrust(isDistrusted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.distrusted, w.isDistrusted = time.Now(), isDistrusted
}

// wasDistrustedSince reports whether the disk was distrusted at a time or later.
func (w *watched) wasDistrustedSince(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isDistrusted || w.distrusted.After(at)
}

// reachesSince returns since when the node reaches Redis.
func (w *watched) reachesSince() (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reaches, !w.reaches.IsZero() && w.broken == 0
}

func (w *watched) hearing(ban string) (hearing, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, ok := w.heard[ban]
	return h, ok
}

// watch asks a node again and again until ctx ends.
func (n *node) watch(ctx context.Context, w *watched) {
	for ctx.Err() == nil {
		n.look(ctx, w)
		select {
		case <-ctx.Done():
		case <-time.After(watchInterval):
		}
	}
}

func (n *node) look(ctx context.Context, w *watched) {
	const timeout = time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	number, asked := n.number(), time.Now()
	status, page, err := fetch(ctx, n.client, adminURL+"/metrics", nil)
	values := map[string]float64{}
	if err == nil && status == http.StatusOK {
		values = parseMetrics(page)
	}
	var listed struct {
		Bans []struct {
			ID string `json:"id"`
		} `json:"bans"`
	}
	_, bansErr := n.api(ctx, http.MethodGet, "bans", nil, &listed)
	isSame := n.number() == number // else the answers may be of two processes
	w.mu.Lock()
	defer w.mu.Unlock()
	switch isUp := values["usher_redis_up"] == 1; {
	case !isUp || w.broken > 0 || !isSame:
		w.reaches = time.Time{}
	case w.reaches.IsZero():
		w.reaches = asked
	}
	w.addSample(asked, values)
	if bansErr != nil || !isSame {
		return
	}
	for _, b := range listed.Bans {
		if h, isKnown := w.heard[b.ID]; !isKnown || h.process != number {
			w.heard[b.ID] = hearing{time.Now(), number}
		}
	}
}

// addSample keeps what a process used. The caller holds mu.
func (w *watched) addSample(at time.Time, values map[string]float64) {
	if values["process_resident_memory_bytes"] == 0 {
		return // the node did not answer
	}
	const ofHeap = 2 // the next collection is at twice what lived at the last one
	w.samples = append(w.samples, sample{
		at: at, goroutines: values["go_goroutines"], resident: values["process_resident_memory_bytes"],
		heap: values["go_memstats_next_gc_bytes"] / ofHeap, cpu: values["process_cpu_seconds_total"],
	})
}

// parseMetrics returns the values of the series without labels.
func parseMetrics(page []byte) map[string]float64 {
	values := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		name, text, ok := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); ok && err == nil {
			values[name] = value
		}
	}
	return values
}
