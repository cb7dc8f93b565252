// Package gcpace sets how often the garbage collector runs, by the size of what lives.
//
// The runtime's own rule, GOGC=100, waits until garbage weighs as much as what lives. For a node with few sessions that is a
// cycle each few megabytes, so many a second, and with a million of them a gigabyte of garbage. This package gives garbage as much
// room as what lives, within 64 and 200 MB, and never less than a quarter of it:
//
//	live heap    room      GOGC
//	   16 MB     64 MB      400
//	   64 MB     64 MB      100
//	  128 MB    128 MB      100
//	  400 MB    200 MB       50
//	  800 MB    200 MB       25
//	 1200 MB    300 MB       25
//
// Decided: 200 MB with a million, because a cycle over a million sessions takes a second of CPU time, and an opening allocates 8 kB, a
// playlist some hundred bytes. The same requests among a million sessions came at 0.97 of the rate without them with room for 192 MB, and
// at 0.77 with 160 MB, where a cycle fell into most rounds of usher-bench table. A quarter beyond that: a million sessions with Redis and
// stream limits are 1.1 GB, and re-checked every three minutes they allocate 50 MB a second. GOGC in the environment wins.
//
// Decided: as much as what lives up to 200 MB, because openings allocate the most. With 64 MB a node of some hundred thousand
// sessions took an eighth of its CPU time to collect while viewers arrived, at 12 kB an opening. Refused: more room with few sessions.
// With GOGC=500 openings took 15 % more CPU time, because new memory costs more than memory that is used again.
//
// Decided: the room is set again when it is a tenth off, since that stops the program for some microseconds. GOMEMLIMIT holds beside it.
package gcpace

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// minRoom is for how much garbage there is room with few sessions, and fullRoom with many, until share is more.
	minRoom, fullRoom = 64 << 20, 200 << 20
	// share is the part of what lives for which there is room beyond that.
	share = 4
	// most bounds GOGC, as the runtime counts stacks and globals too.
	most = 400
	// interval is how often the live heap is looked at. A node gains some tens of megabytes in it at most.
	interval = time.Second
)

// percent returns GOGC for a live heap of so many bytes.
func percent(live uint64) int {
	room := max(minRoom, min(live, fullRoom))
	return int(min(most, max(100*room/max(live, 1), 100/share)))
}

// isOff reports whether a setting is a tenth away from what is wanted, or more.
func isOff(current, wanted int) bool { return 10*max(current-wanted, wanted-current) >= wanted }

// Run paces the collector of this process until ctx ends. If the environment sets GOGC it does nothing.
func Run(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for current := 100; ; { // the runtime's default
		metrics.Read(live)
		if wanted := percent(live[0].Value.Uint64()); isOff(current, wanted) {
			debug.SetGCPercent(wanted)
			current = wanted
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
