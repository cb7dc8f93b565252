package soak

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// kind is a kind of fault.
type kind string

// The kinds.
const (
	slowLink     kind = "latency"
	lossyLink    kind = "loss"
	cutLink      kind = "partition"
	gone         kind = "gone"
	killed       kind = "kill -9"
	stopped      kind = "stop"
	middleware   kind = "middleware"
	fullDisk     kind = "disk full"
	clockForward kind = "clock +1h"
	clockBack    kind = "clock -1h"
)

func kinds(hasClock bool) []kind {
	all := []kind{slowLink, lossyLink, cutLink, gone, killed, stopped, middleware, fullDisk}
	if hasClock {
		all = append(all, clockForward, clockBack)
	}
	return all
}

// fault is a fault at its place in a run.
type fault struct {
	kind kind
	// a is the host or the node that it breaks, and b the other end of a link.
	a, b string
	// mode is how a middleware behaves.
	mode string
	// delay and loss are those of a link.
	delay      time.Duration
	loss       float64
	at, length time.Duration
}

// String returns the fault as reports name it.
func (f *fault) String() string {
	switch f.kind {
	case slowLink:
		return fmt.Sprintf("latency %s between %s and %s", f.delay, f.a, f.b)
	case lossyLink:
		return fmt.Sprintf("loss of %.0f%% between %s and %s", 100*f.loss, f.a, f.b)
	case cutLink:
		return fmt.Sprintf("partition of %s and %s", f.a, f.b)
	case gone:
		return f.a + " gone"
	case middleware:
		return f.a + " " + f.mode
	case fullDisk:
		return "disk full of " + f.a + ", which reaches no collector"
	}
	return string(f.kind) + " of " + f.a
}

// target is what the fault breaks. Two faults of one target are never in force at once.
func (f *fault) target() string {
	switch f.kind {
	case slowLink, lossyLink, cutLink:
		return f.a + "-" + f.b
	case fullDisk:
		return f.a + " disk"
	case clockForward, clockBack:
		return f.a + " clock"
	}
	return f.a
}

const nodeCount = 3

func nodeName(number int) string { return "node" + strconv.Itoa(number%nodeCount+1) }

// The quiet times of a run, as shares of it: faults end before one begins, and what they left behind has the first half of it to go.
const (
	warmShare            = 0.08
	middleFrom           = 0.45
	middleTo             = 0.55
	endFrom              = 0.9
	longestFault         = 14 * time.Second
	shortestFault        = 2 * time.Second
	longestPause         = 5 * time.Second
	shortestPause        = time.Second
	longestFaultOfRun    = 0.08
	measuredShareOfQuiet = 0.5
)

// plan draws the faults of a run of that length.
func plan(length time.Duration, hasClock bool, chance *rand.Rand) []fault {
	share := func(s float64) time.Duration { return time.Duration(s * float64(length)) }
	longest := min(longestFault, share(longestFaultOfRun))
	var all []fault
	var deck []kind
	free := map[string]time.Duration{} // from when a target may be broken again
	at := share(warmShare)
	for at < share(endFrom) {
		if len(deck) == 0 {
			deck = kinds(hasClock)
			chance.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := draw(deck[0], chance)
		f.at, f.length = at, between(chance, min(shortestFault, longest/2), longest)
		switch end := f.at + f.length; {
		case f.at < share(middleTo) && end > share(middleFrom):
			at = share(middleTo)
			continue
		case end > share(endFrom):
			return all
		case f.at >= free[f.target()]:
			const rest = 2 * time.Second
			deck, free[f.target()] = deck[1:], end+rest
			all = append(all, f)
		}
		at += between(chance, shortestPause, min(longestPause, share(longestFaultOfRun)))
	}
	return all
}

func between(chance *rand.Rand, from, to time.Duration) time.Duration {
	return (from + time.Duration(chance.Int64N(int64(max(to-from, 1))))).Round(time.Millisecond)
}

// draw draws what a fault of that kind breaks, and how.
func draw(k kind, chance *rand.Rand) fault {
	one := func(of ...string) string { return of[chance.IntN(len(of))] }
	f := fault{kind: k, a: nodeName(chance.IntN(nodeCount))}
	switch k {
	case slowLink, lossyLink, cutLink:
		f.b = one("viewers", "redis", "redis", "origin", "portal1", "portal2", "dns", "collector")
		const shortest, longest, least, most = 20 * time.Millisecond, 400 * time.Millisecond, 0.02, 0.4
		f.delay, f.loss = between(chance, shortest, longest), least+chance.Float64()*(most-least)
	case gone:
		f.a = one("dns", "collector", "redis", "origin", "portal1", "portal2")
	case killed:
		f.a = one(f.a, f.a, "redis", "origin")
	case stopped:
		f.a = one(f.a, f.a, "redis", "origin")
	case middleware:
		f.a = one("portal1", "portal2")
		f.mode = one("refuse", "hang", "reset", "status:503", "status:429", "garbage", "slow:1500ms", "flap:1s", "slow-body", "giant-headers")
	}
	return f
}
