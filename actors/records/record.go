package records

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// formVersion is the version of the record's form. Fields may be added to a version.
const formVersion = 1

// The events.
const (
	eventOpened = "opened"
	eventClosed = "closed"
)

// maxUserAgent bounds what a viewer can make a record hold, in bytes.
const maxUserAgent = 256

// Record describes a session that has closed on all nodes or, as an event "opened", one that a node has begun to serve.
type Record struct {
	// Time is when the record was made.
	Time    time.Time `json:"time"`
	Version int       `json:"version"`
	Event   string    `json:"event"`
	// ID is the same for each delivery of the record, and belongs to no other record.
	ID string `json:"id"`
	// Node is the one that made the record.
	Node    string `json:"node,omitempty"`
	Session string `json:"session"`
	Route   string `json:"route,omitempty"`
	Channel string `json:"channel,omitempty"`
	Backend string `json:"backend,omitempty"`
	User    string `json:"user,omitempty"`
	UserID  string `json:"user_id,omitempty"`
	// Address is that of the request that opened the session.
	Address string `json:"address,omitempty"`
	// UserAgent is that of the same request, shortened.
	UserAgent string `json:"user_agent,omitempty"`
	// Verdict is that of the last decision.
	Verdict string `json:"verdict"`
	// Source is who took it.
	Source string `json:"source"`
	// Began is when the session began, or began again.
	Began time.Time `json:"began"`

	*Ending
}

// Ending is what a record tells of a session that has closed.
type Ending struct {
	// Reason is why the session closed.
	Reason string `json:"reason"`
	// LastSeen is when its viewer was last seen.
	LastSeen time.Time `json:"last_seen"`
	// Seconds is the time since the session began.
	Seconds float64 `json:"seconds"`
	// UnverifiedSeconds is the time without an answer of the backend.
	UnverifiedSeconds float64 `json:"unverified_seconds"`
	Requests          int64   `json:"requests"`
	Bytes             int64   `json:"bytes"`
	// History lists the decisions, the oldest first: "allowed/backend,allowed/cached". Several nodes' stand one after the other, and once
	// if they are the same. Of a long one the oldest are missing.
	History string `json:"history"`
	// IsEstimated reports that a node ended without reporting what it had counted last.
	IsEstimated bool `json:"estimated"`
}

// newRecord returns what both events tell of a session. The period is part of the id.
func newRecord(event, node string, r *backends.Request, d *backends.Decision, began time.Time, period uint64) Record {
	if r == nil {
		r = new(backends.Request)
	}
	out := Record{
		Time: time.Now().UTC(), Version: formVersion, Event: event, Node: node, Route: r.Route, Channel: r.Channel, Backend: r.Backend,
		User: d.User, UserID: d.UserID, UserAgent: r.UserAgent[:min(len(r.UserAgent), maxUserAgent)],
		Verdict: d.Verdict.String(), Source: d.Source.String(), Began: began.UTC(),
	}
	out.name(r.Session, period)
	if r.Address.IsValid() {
		out.Address = r.Address.String()
	}
	return out
}

// name sets what names the session and the record.
func (r *Record) name(id backends.SessionID, period uint64) {
	r.Session = id.String()
	r.ID = recordID(r.Session, period)
}

func recordID(session string, period uint64) string {
	return session + "." + strconv.FormatUint(period, 36)
}

// newClosed returns the record of a session that a node closed.
func newClosed(node string, c *session.ClosingRecord) Record {
	out := newRecord(eventClosed, node, c.Record.Request, &c.Record.Decision, c.Since, c.Period)
	out.name(c.Record.ID, c.Period)
	reason := c.Reason()
	last := c.Counters.History[strings.LastIndexByte(c.Counters.History, ',')+1:]
	if verdict, source, _ := strings.Cut(last, "/"); verdict == backends.Denied.String() && reason != session.ClosedIdle {
		out.Verdict, out.Source = verdict, source // the store keeps the yes of a session that a ban or a limit denies
	}
	out.Ending = &Ending{
		Reason: reason.String(), LastSeen: c.LastSeen.UTC(), Seconds: c.LastSeen.Sub(c.Since).Seconds(),
		UnverifiedSeconds: c.Counters.Unverified.Seconds(), Requests: c.Counters.Requests, Bytes: c.Counters.Bytes,
		History: c.Counters.History, IsEstimated: c.IsEstimated,
	}
	return out
}

// add adds to a record what the session did during an earlier or later stay on this node.
func (r *Record) add(other *Record) {
	first, last := other, r
	if r.LastSeen.Before(other.LastSeen) {
		first, last = r, other
	}
	sum := *last
	sum.Began = first.Began
	if last.Began.Before(first.Began) {
		sum.Began = last.Began
	}
	end := *last.Ending
	end.Requests += first.Requests
	end.Bytes += first.Bytes
	end.UnverifiedSeconds += first.UnverifiedSeconds
	if first.History != "" && first.History != last.History {
		end.History = first.History + "," + last.History
	}
	end.Seconds = end.LastSeen.Sub(sum.Began).Seconds()
	sum.Ending = &end
	*r = sum
}

// encode returns the record as a line of JSON.
func (r *Record) encode() []byte {
	line, _ := json.Marshal(r) // strings, numbers and times of this century cannot fail
	return line
}

// logTo writes the record to a log.
func (r *Record) logTo(log *slog.Logger) {
	if !log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	session := []any{
		slog.String("session", r.Session), slog.String("route", r.Route), slog.String("channel", r.Channel),
		slog.String("user", r.User), slog.String("user_id", r.UserID),
		slog.String("verdict", r.Verdict), slog.String("source", r.Source), slog.String("id", r.ID),
	}
	if r.Event == eventOpened {
		log.Info("session opened", session...)
		return
	}
	seconds := func(s float64) time.Duration {
		return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
	}
	log.Info("session closed", append(session,
		slog.String("why", r.Reason), slog.String("history", r.History), slog.Duration("duration", seconds(r.Seconds)),
		slog.Duration("unverified", seconds(r.UnverifiedSeconds)), slog.Int64("requests", r.Requests), slog.Int64("bytes", r.Bytes),
		slog.Bool("estimated", r.IsEstimated))...)
}

// maxCount is more than a session has requests or bytes, so that those of its stays can be added.
const maxCount = 1 << 56

// readOpen reads what would be recorded of a stay of a session.
func readOpen(id backends.SessionID, key, value []byte) (r Record, isReadable bool) {
	if err := json.Unmarshal(value, &r); err != nil || r.Ending == nil || r.Session != id.String() || len(key) != len(id)+8 {
		return Record{}, false
	}
	longest := time.Duration(math.MaxInt64).Seconds()
	isPossible := math.Abs(r.Seconds) <= longest && math.Abs(r.UnverifiedSeconds) <= longest &&
		r.Requests >= 0 && r.Requests < maxCount && r.Bytes >= 0 && r.Bytes < maxCount
	return r, isPossible
}
