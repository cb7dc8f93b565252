package freerides

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"slices"

	"usher/backends"
)

// The figures of a report. Times are milliseconds.
const (
	sessionsFigure = iota
	failOpenFigure
	cachedFigure
	ticketFigure
	unverifiedTimeFigure
	verifiedFigure
	freeRidesFigure
	freeRideTimeFigure
	freeRideBytesFigure
	refusedFigure
	unknownFigure
	openFigure
	// expiredFigure counts sessions of the two before that nobody can ask any more.
	expiredFigure
	numFigures
)

// figures are the numbers of a report.
type figures [numFigures]int64

// GobEncode encodes the figures in their order, so that later versions may add some.
func (f figures) GobEncode() ([]byte, error) {
	var b []byte
	for _, n := range f {
		b = binary.AppendVarint(b, n)
	}
	return b, nil
}

// GobDecode decodes the figures that this version knows.
func (f *figures) GobDecode(b []byte) error {
	for i := 0; len(b) > 0; i++ {
		n, size := binary.Varint(b)
		if size <= 0 {
			return errors.New("a figure is incomplete")
		}
		if b = b[size:]; i < len(f) {
			f[i] = n
		}
	}
	return nil
}

// outcome is what became of an unverified session. Of what several nodes say of one session, the greatest outcome counts: a
// session that one node has left may be open on another, and may have been answered on a third.
type outcome uint8

const (
	// outcomeUnknown: the session closed without an answer, so nobody knows whether it was a free ride.
	outcomeUnknown outcome = iota
	outcomeOpen
	outcomeVerified
	// outcomeRefused: a limit, a ban or an operator denied the viewer, which says nothing about the backend's answer.
	outcomeRefused
	outcomeFreeRide
	numOutcomes
)

// outcomeOf returns what an authoritative decision makes of an unverified session.
func outcomeOf(d *backends.Decision) outcome {
	switch {
	case d.Verdict == backends.Allowed:
		return outcomeVerified
	case d.Source == backends.FromBackend, d.Source == backends.FromLocal:
		return outcomeFreeRide
	default:
		return outcomeRefused
	}
}

// figure returns the figure that counts the sessions of an outcome.
func (o outcome) figure() int {
	return [numOutcomes]int{unknownFigure, openFigure, verifiedFigure, refusedFigure, freeRidesFigure}[o]
}

// sourceFigure returns the figure that counts the sessions of a source.
func sourceFigure(s backends.Source) int {
	switch s {
	case backends.FromCached:
		return cachedFigure
	case backends.FromTicket:
		return ticketFigure
	default:
		return failOpenFigure
	}
}

// entry is one unverified session on one node. Times are Unix milliseconds.
type entry struct {
	ID backends.SessionID
	// First and Last are when the session was first and last unverified.
	First, Last int64
	// Unverified is for how long it was, in milliseconds, and Bytes is what the viewer was sent meanwhile.
	Unverified, Bytes int64
	// Figure counts the session by its first source.
	Figure  int
	Outcome outcome
	// IsExpired reports that the session cannot be asked any more, because the life of its token is over.
	IsExpired bool
	// User is who rode free; empty: nobody knows.
	User string
}

// addTo adds the session to the figures.
func (e *entry) addTo(f *figures) {
	f[sessionsFigure]++
	f[e.Figure]++
	f[unverifiedTimeFigure] += e.Unverified
	f[e.Outcome.figure()]++
	if e.isUnaskable() {
		f[expiredFigure]++
	}
	if e.Outcome == outcomeFreeRide {
		f[freeRideTimeFigure] += e.Unverified
		f[freeRideBytesFigure] += e.Bytes
	}
}

// isUnaskable reports whether nobody asked about the session, and nobody can.
func (e *entry) isUnaskable() bool {
	return e.IsExpired && (e.Outcome == outcomeUnknown || e.Outcome == outcomeOpen)
}

// join merges what another node says of the same session. The nodes' times overlap while the viewer's requests reach both.
func (e entry) join(other entry) entry {
	if other.First < e.First {
		e.First, e.Figure = other.First, other.Figure
	}
	e.Last = max(e.Last, other.Last)
	e.Unverified = min(e.Unverified+other.Unverified, e.Last-e.First)
	e.Bytes += other.Bytes
	e.IsExpired = e.IsExpired || other.IsExpired
	e.Outcome, e.User = max(e.Outcome, other.Outcome), cmp.Or(e.User, other.User)
	return e
}

// label returns the name under which a free ride is listed: the user or, where no decision names one, the session.
func (e *entry) label() (user, session string) {
	if e.User != "" {
		return e.User, ""
	}
	return "", e.ID.String()
}

// cost is what one user's free rides cost on one node.
type cost struct {
	// User or Session names the user.
	User, Session string
	// Time is in milliseconds.
	Sessions, Time, Bytes int64
}

// part is what one process of a node saw of an outage. Times are Unix milliseconds.
type part struct {
	Backend, Node string
	// Process is the same for all parts of one process.
	Process string
	Started int64
	// Until is until when sessions belonged to the outage: when the backend recovered, or the last one came.
	Until int64
	// IsDown reports that the backend does not answer.
	IsDown bool
	// Ended is when the last session was no longer unverified; zero: some are, or the backend is down.
	Ended int64
	// Written is when the node wrote the part. IsLeft reports that the process ended in order.
	Written int64
	IsLeft  bool
	// Figures count all sessions.
	Figures figures
	// Sample are the sessions with the smallest ids. IsSampled reports that there were others; then Users are the free riders
	// with the longest time.
	Sample    []entry
	IsSampled bool
	Users     []cost
}

// encode returns the part as the store keeps it.
func (p *part) encode() []byte {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(p); err != nil {
		panic("BUG: " + err.Error()) // it holds only numbers and strings
	}
	return b.Bytes()
}

// decodePart reads a part. The error says that another version wrote it.
func decodePart(body []byte) (*part, error) {
	p := new(part)
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(p); err != nil {
		return nil, fmt.Errorf("decode a part of a report: %w", err)
	}
	isValid := func(e entry) bool {
		return e.Outcome < numOutcomes && (e.Figure == failOpenFigure || e.Figure == cachedFigure || e.Figure == ticketFigure)
	}
	if i := slices.IndexFunc(p.Sample, func(e entry) bool { return !isValid(e) }); i >= 0 {
		return nil, fmt.Errorf("decode a part of a report: session %d is invalid", i)
	}
	return p, nil
}

// isRunning reports whether the outage goes on for the part's process.
func (p *part) isRunning() bool { return p.Ended == 0 }

// close ends the part of a process that is gone: what became of its sessions is unknown, unless another node knows.
func (p *part) close() {
	p.Ended = p.Written
	p.Figures[unknownFigure] += p.Figures[openFigure]
	p.Figures[openFigure] = 0
	for i := range p.Sample {
		if p.Sample[i].Outcome == outcomeOpen {
			p.Sample[i].Outcome = outcomeUnknown
		}
	}
}
