package freerides

import (
	"cmp"
	"crypto/rand"
	"math"
	"slices"
	"strings"
	"time"

	"usher/backends"
)

// worstUsers is how many users a report lists.
const worstUsers = 20

// List is the response of GET /api/v1/free-rides.
type List struct {
	// Reports are the outages, the newest first.
	Reports []Report `json:"reports"`
	// UnreachableNodes are the nodes that did not respond: of outages that run, what they saw in the last seconds is missing.
	UnreachableNodes []string `json:"unreachable_nodes,omitempty"`
	// IsIncomplete reports that Redis is unavailable, so that only what this node saw is in the reports.
	IsIncomplete bool `json:"incomplete,omitempty"`
}

// Report says what one outage of a backend cost on all nodes.
type Report struct {
	ID      string `json:"id"`
	Backend string `json:"backend"`
	// Started is when the first session became unverified. Recovered is when the breaker closed again, nil while it is open, or
	// when the last session became unverified, if that was later. Ended is when the last session was verified, denied or closed,
	// nil while the outage runs.
	Started   time.Time  `json:"started"`
	Recovered *time.Time `json:"recovered,omitempty"`
	Ended     *time.Time `json:"ended,omitempty"`
	IsRunning bool       `json:"running"`
	Figures
	// IsApproximate reports that the sessions that several nodes saw are estimated from a sample.
	IsApproximate bool `json:"approximate,omitempty"`
	// Nodes are the nodes that saw the outage. A session that several of them saw counts on each.
	Nodes []NodeReport `json:"nodes"`
	// Users are those who rode free for the longest time.
	Users []User `json:"users"`
}

// Figures are what an outage cost.
type Figures struct {
	// Sessions are those that were unverified, by what admitted or kept them first: FailOpen, Cached or Ticket.
	Sessions int64 `json:"sessions"`
	FailOpen int64 `json:"fail_open"`
	Cached   int64 `json:"cached"`
	Ticket   int64 `json:"ticket"`
	// UnverifiedSeconds is for how long all of them were, together.
	UnverifiedSeconds float64 `json:"unverified_seconds"`
	// Verified are the sessions that the backend then allowed.
	Verified int64 `json:"verified"`
	// FreeRides are the sessions that the backend then denied, with the time and the bytes until then.
	FreeRides       int64   `json:"free_rides"`
	FreeRideSeconds float64 `json:"free_ride_seconds"`
	Bytes           int64   `json:"bytes"`
	// Refused are the sessions that a limit, a ban or an operator ended before the backend answered.
	Refused int64 `json:"refused"`
	// Unknown are the sessions that closed before the backend answered: nobody knows what they cost.
	Unknown int64 `json:"unknown"`
	// Unverified are the sessions that still wait for an answer.
	Unverified int64 `json:"unverified"`
	// ExpiredTokens are those of Unknown and Unverified that cannot be asked any more: the life of their token is over.
	ExpiredTokens int64 `json:"expired_tokens"`
}

// NodeReport is what one node saw of an outage.
type NodeReport struct {
	Node string `json:"node"`
	Figures
}

// User is a user who rode free. A user whom no decision names is shown by the session.
type User struct {
	User    string  `json:"user,omitempty"`
	Session string  `json:"session,omitempty"`
	Count   int64   `json:"sessions"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"`
}

// newProcessID returns an id that no other process has.
func newProcessID() string { return strings.ToLower(rand.Text()[:12]) }

// shown returns the figures as the API shows them.
func (f figures) shown() Figures {
	return Figures{
		Sessions: f[sessionsFigure], FailOpen: f[failOpenFigure], Cached: f[cachedFigure], Ticket: f[ticketFigure],
		UnverifiedSeconds: seconds(f[unverifiedTimeFigure]), Verified: f[verifiedFigure],
		FreeRides: f[freeRidesFigure], FreeRideSeconds: seconds(f[freeRideTimeFigure]), Bytes: f[freeRideBytesFigure],
		Refused: f[refusedFigure], Unknown: f[unknownFigure], Unverified: f[openFigure],
		ExpiredTokens: f[expiredFigure],
	}
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// mergeReports makes the reports of a backend, the newest first, of what its nodes saw. Parts whose times overlap, or nearly,
// are of one outage. Reports that ended before the given time are left out.
func mergeReports(backend string, parts []*part, oldest time.Time) []Report {
	slices.SortFunc(parts, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), strings.Compare(a.Process, b.Process))
	})
	var reports []Report
	for len(parts) > 0 {
		count, until := 1, parts[0].Until
		for count < len(parts) && parts[count].Started < until+gap.Milliseconds() {
			until = max(until, parts[count].Until)
			count++
		}
		r := newReport(backend, parts[:count])
		if parts = parts[count:]; r.Ended == nil || !r.Ended.Before(oldest) {
			reports = append(reports, r)
		}
	}
	slices.Reverse(reports)
	return reports[:min(maxReports, len(reports))]
}

// newReport makes a report of the parts of one outage, the oldest first.
func newReport(backend string, parts []*part) Report {
	started := time.UnixMilli(parts[0].Started).UTC()
	r := Report{
		ID: backend + "-" + started.Format("20060102T150405Z"), Backend: backend, Started: started, Users: []User{},
	}
	recovered, ended, isDown := int64(0), int64(0), false
	byNode := map[string][]*part{}
	for _, p := range parts {
		recovered, ended = max(recovered, p.Until), max(ended, p.Ended)
		r.IsRunning = r.IsRunning || p.isRunning()
		isDown = isDown || p.isRunning() && p.IsDown
		byNode[p.Node] = append(byNode[p.Node], p)
	}
	if !isDown {
		r.Recovered = timeOf(recovered)
	}
	if !r.IsRunning {
		r.Ended = timeOf(ended)
	}
	var all merged
	all.merge(parts)
	r.Figures, r.IsApproximate = all.figures.shown(), all.isEstimated
	for _, c := range all.users.worst(worstUsers) {
		r.Users = append(r.Users, User{User: c.User, Session: c.Session, Count: c.Sessions, Seconds: seconds(c.Time), Bytes: c.Bytes})
	}
	for node, own := range byNode {
		var m merged
		m.merge(own)
		r.Nodes = append(r.Nodes, NodeReport{Node: node, Figures: m.figures.shown()})
	}
	slices.SortFunc(r.Nodes, func(a, b NodeReport) int { return strings.Compare(a.Node, b.Node) })
	return r
}

func timeOf(ms int64) *time.Time {
	t := time.UnixMilli(ms).UTC()
	return &t
}

// merged is what several parts of an outage say together.
type merged struct {
	figures     figures
	users       users
	isEstimated bool
}

// merge merges parts. A session that several of them saw counts once. Where a part holds only a sample, the share of such
// sessions is that of the sample, which is the same on all nodes.
func (m *merged) merge(parts []*part) {
	last := lastSampled(parts)
	byID, sampled := map[backends.SessionID]entry{}, figures{}
	for _, p := range parts {
		for i, n := range p.Figures {
			m.figures[i] += n
		}
		for _, e := range p.Sample {
			if last != nil && slices.Compare(e.ID[:], last[:]) > 0 {
				continue
			}
			e.addTo(&sampled)
			if other, isKnown := byID[e.ID]; isKnown {
				e = other.join(e)
			}
			byID[e.ID] = e
		}
	}
	once := figures{}
	m.users = users{}
	for _, e := range byID {
		e.addTo(&once)
		if last == nil && e.Outcome == outcomeFreeRide {
			c := cost{Sessions: 1, Time: e.Unverified, Bytes: e.Bytes}
			c.User, c.Session = e.label()
			m.users.add(c)
		}
	}
	if last == nil {
		m.figures = once
		return
	}
	m.estimate(parts, &once, &sampled)
}

// lastSampled returns the greatest id up to which the samples hold all sessions; nil: they hold all.
func lastSampled(parts []*part) *backends.SessionID {
	var last *backends.SessionID
	for _, p := range parts {
		if !p.IsSampled || len(p.Sample) == 0 {
			continue
		}
		largest := slices.MaxFunc(p.Sample, func(a, b entry) int { return slices.Compare(a.ID[:], b.ID[:]) }).ID
		if last == nil || slices.Compare(largest[:], last[:]) < 0 {
			last = &largest
		}
	}
	return last
}

// estimate scales the sums of several parts to what the sessions cost once. once and sampled are the figures of the sample,
// with each session once and on each node.
func (m *merged) estimate(parts []*part, once, sampled *figures) {
	share := func(figure int) float64 {
		if len(parts) == 1 || sampled[figure] == 0 {
			return 1
		}
		return float64(once[figure]) / float64(sampled[figure])
	}
	for i, n := range m.figures {
		m.figures[i] = int64(math.Round(float64(n) * share(i)))
	}
	m.isEstimated = len(parts) > 1
	for _, p := range parts {
		for _, c := range p.costs() {
			c.Sessions = int64(math.Round(float64(c.Sessions) * share(freeRidesFigure)))
			c.Time = int64(math.Round(float64(c.Time) * share(freeRideTimeFigure)))
			c.Bytes = int64(math.Round(float64(c.Bytes) * share(freeRideBytesFigure)))
			m.users.add(c)
		}
	}
}

// costs returns the users of the part who rode free.
func (p *part) costs() []cost {
	if p.IsSampled {
		return p.Users
	}
	all := users{}
	for _, e := range p.Sample {
		if e.Outcome == outcomeFreeRide {
			c := cost{Sessions: 1, Time: e.Unverified, Bytes: e.Bytes}
			c.User, c.Session = e.label()
			all.add(c)
		}
	}
	return all.worst(len(all))
}
