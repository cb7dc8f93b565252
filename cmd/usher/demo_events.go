package main

import (
	"slices"
	"sync"
	"time"

	"usher/bench/stage"
)

// maxEvents is how many events the page shows.
const maxEvents = 40

// eventLog holds the latest events, newest first. It is safe for concurrent use.
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
