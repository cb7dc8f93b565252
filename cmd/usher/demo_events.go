package main

import (
	"slices"
	"sync"
	"time"

	"usher/bench/stage"
)

// maxEvents is how much of the demo's story the page shows.
const maxEvents = 40

// eventLog is what happened lately, the newest first.
type eventLog struct {
	mu     sync.Mutex
	events []stage.Event
}

func (l *eventLog) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.Insert(l.events, 0, stage.Event{At: time.Now(), Text: text})
	l.events = l.events[:min(len(l.events), maxEvents)]
}

func (l *eventLog) list() []stage.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}
