package records

import (
	"strconv"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// formVersion is the version of the record's form. Fields may be added to a version.
const formVersion = 1

// Record describes a session that has closed on all nodes.
type Record struct {
	Version int `json:"version"`
	// ID is the same for each delivery of the record, and differs for a session that began again.
	ID string `json:"id"`
	// Node is the one that closed the session.
	Node    string `json:"node,omitempty"`
	Session string `json:"session"`
	Route   string `json:"route,omitempty"`
	Channel string `json:"channel,omitempty"`
	Backend string `json:"backend,omitempty"`
	User    string `json:"user,omitempty"`
	UserID  string `json:"user_id,omitempty"`
	// Address is that of the request that opened the session.
	Address string `json:"address,omitempty"`
	// UserAgent is that of the same request.
	UserAgent string `json:"user_agent,omitempty"`
	// Verdict is that of the last decision.
	Verdict string `json:"verdict"`
	// Source is who took it.
	Source string `json:"source"`
	// Reason is why the session closed.
	Reason string `json:"reason"`
	// Began is when the session began, or began again.
	Began time.Time `json:"began"`
	// LastSeen is when its viewer was last seen.
	LastSeen time.Time `json:"last_seen"`
	// Seconds is the time between the two.
	Seconds float64 `json:"seconds"`
	// UnverifiedSeconds is the time without an answer of the backend.
	UnverifiedSeconds float64 `json:"unverified_seconds"`
	Requests          int64   `json:"requests"`
	Bytes             int64   `json:"bytes"`
	// History lists the decisions, the oldest first: "allowed/backend,allowed/cached".
	History string `json:"history"`
}

// newRecord returns the record of a session that a node closed.
func newRecord(node string, c *session.ClosingRecord) Record {
	r, d := c.Record.Request, &c.Record.Decision
	if r == nil {
		r = new(backends.Request)
	}
	out := Record{
		Version: formVersion, ID: c.Record.ID.String() + "." + strconv.FormatInt(c.Since.UnixMilli(), 36), Node: node,
		Session: c.Record.ID.String(), Route: r.Route, Channel: r.Channel, Backend: r.Backend, User: d.User, UserID: d.UserID,
		UserAgent: r.UserAgent, Verdict: d.Verdict.String(), Source: d.Source.String(), Reason: c.Reason().String(),
		Began: c.Since.UTC(), LastSeen: c.LastSeen.UTC(), Seconds: c.LastSeen.Sub(c.Since).Seconds(),
		UnverifiedSeconds: c.Counters.Unverified.Seconds(), Requests: c.Counters.Requests, Bytes: c.Counters.Bytes,
		History: c.Counters.History,
	}
	if r.Address.IsValid() {
		out.Address = r.Address.String()
	}
	return out
}
