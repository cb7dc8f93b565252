package redistest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Log is a log that can be read while it is written. Its zero value is ready to use.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Count returns how often a text is in the log.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// String returns the whole log.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Logger returns a logger that writes to the log.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Timeout is longer than anything takes that a test waits for.
const Timeout = 20 * time.Second

// patience is how long Eventually waits: a condition that takes long to look at is slow to hold on a busy machine.
const patience = 3 * Timeout

// Eventually waits until the condition holds. The name says what is waited for.
func Eventually(t testing.TB, name string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", name, patience)
		}
	}
}
