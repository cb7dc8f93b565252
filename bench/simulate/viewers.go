package simulate

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// tokenPrefix begins the query of a viewer, who is named by it.
const tokenPrefix = "token="

// viewerNumber names a viewer: one place of the sample, and how many viewers had it before.
type viewerNumber struct{ slot, turn uint32 }

// chance returns what is drawn for the viewer, from 0 to 1. Another purpose draws anew.
func (n viewerNumber) chance(c *Config, purpose uint64) float64 {
	return rand.New(rand.NewPCG(uint64(n.slot)<<32|uint64(n.turn), uint64(c.Seed)<<8|purpose)).Float64()
}

// What is drawn for a viewer.
const (
	drawBad uint64 = iota
	drawShared
)

// isBad reports whether the middleware denies the viewer.
func (n viewerNumber) isBad(c *Config) bool { return n.chance(c, drawBad) < c.Bad }

// user returns the user whose account the viewer has. It is that of the place, and some places share one.
func (n viewerNumber) user(c *Config) string {
	slot := n.slot
	if slot > 0 && c.Shared > 0 && (viewerNumber{slot: slot}).chance(c, drawShared) < c.Shared {
		slot--
	}
	return fmt.Sprint("user", slot)
}

// id returns the id of the viewer's session, which a gateway derives from their credentials.
func (n viewerNumber) id() (id backends.SessionID) {
	const odd = 0x9E3779B97F4A7C15 // spreads neighbours
	binary.BigEndian.PutUint64(id[:8], (uint64(n.turn)<<32|uint64(n.slot)+1)*odd)
	binary.BigEndian.PutUint64(id[8:], uint64(n.turn)<<32|uint64(n.slot)+1)
	return id
}

// request returns the request of a viewer at an address of their own.
func (n viewerNumber) request() *backends.Request {
	const odd = 0x9E3779B1 // as odd numbers do, it maps no two places to one address
	var address [4]byte
	binary.BigEndian.PutUint32(address[:], (n.slot+1)*odd)
	return &backends.Request{
		Session: n.id(), Group: n.id(), Backend: backendName, Route: "/play/{channel}/*", Channel: "channel",
		Query: fmt.Sprintf("%s%d.%d", tokenPrefix, n.slot, n.turn), Path: "/play/channel/index.m3u8", Scheme: "http",
		Address: netip.AddrFrom4(address),
	}
}

// viewer is a place of the sample: one viewer after another.
type viewer struct {
	viewerNumber
	isBad bool
	node  int
	// asks is when they ask next, leaves when they leave, hops when their requests reach another node.
	asks, leaves, hops time.Time
	// isOpening: they wait for an answer, and all below is the opening's until it is false again.
	isOpening atomic.Bool
	isPlaying bool
	tries     int
	ticket    session.Ticket
	// source is what their decision stands on.
	source backends.Source
}

// patience is how often a viewer asks who is refused.
const patience = 3

// audience is the viewers of a simulation. One goroutine calls its methods.
type audience struct {
	config  *Config
	nodes   *nodes
	tally   *tally
	random  *rand.Rand
	viewers []viewer
}

func newAudience(c *Config, n *nodes, t *tally, now time.Time) *audience {
	a := &audience{
		config: c, nodes: n, tally: t, random: rand.New(rand.NewPCG(uint64(c.Seed), 0)), viewers: make([]viewer, c.Sample),
	}
	for i := range a.viewers {
		v := &a.viewers[i]
		v.slot = uint32(i)
		a.arrive(v, now.Add(time.Duration(a.random.Float64()*float64(c.Arrive))))
	}
	return a
}

// arrive has a viewer come at that time.
func (a *audience) arrive(v *viewer, at time.Time) {
	v.isBad, v.node, v.asks = v.viewerNumber.isBad(a.config), a.random.IntN(a.config.Nodes), at
	v.leaves, v.hops = at.Add(a.after(a.config.Watch)), at.Add(a.after(a.config.Hop))
	v.isPlaying, v.tries, v.ticket, v.source = false, 0, session.Ticket{}, backends.SourceNone
}

// never is when nothing happens.
const never = 1000 * time.Hour

// after draws when something happens that happens after so long on average.
func (a *audience) after(mean time.Duration) time.Duration {
	if mean == 0 {
		return never
	}
	return time.Duration(a.random.ExpFloat64() * float64(mean))
}

// act has all viewers do what is due at now.
func (a *audience) act(ctx context.Context, now time.Time) {
	for i := range a.viewers {
		if v := &a.viewers[i]; !v.isOpening.Load() && !now.Before(v.asks) {
			a.ask(ctx, v, now)
		}
	}
}

// ask has a viewer ask for the next segment, or leave.
func (a *audience) ask(ctx context.Context, v *viewer, now time.Time) {
	if v.asks = v.asks.Add(a.config.Segment); now.After(v.leaves) || v.tries >= patience {
		a.leave(v, now)
		return
	}
	if now.After(v.hops) {
		v.node, v.hops = a.random.IntN(a.config.Nodes), now.Add(a.after(a.config.Hop))
	}
	handle := a.nodes.all[v.node].Find(v.id())
	if handle == nil || handle.Decision() == nil || handle.Decision().Verdict == backends.Pending {
		if v.isOpening.Store(true); !v.isPlaying && v.tries == 0 {
			a.tally.started()
		}
		a.tally.opening.Go(func() {
			a.open(ctx, v, a.nodes.all[v.node])
			v.isOpening.Store(false)
		})
		return
	}
	a.answered(v, handle, now)
}

// leave has a viewer leave. The next one comes at once if this one watched to the end, else when they would have left.
func (a *audience) leave(v *viewer, now time.Time) {
	next := now
	if v.leaves.After(now) {
		next = v.leaves
	}
	v.turn++
	a.arrive(v, next)
}

// opener opens sessions.
type opener interface {
	Open(ctx context.Context, o session.OpenRequest) (session.Handle, error)
}

// open has a viewer wait for their session.
func (a *audience) open(ctx context.Context, v *viewer, node opener) {
	began, isNew := time.Now(), !v.isPlaying
	handle, err := node.Open(ctx, session.OpenRequest{Request: v.request(), HasCredentials: true, Ticket: v.ticket})
	now := time.Now()
	if err != nil || handle.Decision() == nil || handle.Decision().Verdict == backends.Pending {
		v.tries++
		a.tally.unanswered(now.Sub(began), ctx.Err() != nil)
		return
	}
	a.tally.opened(handle.Decision(), now.Sub(began), isNew)
	handle.SetTargetDuration(a.config.Segment, false)
	a.answered(v, handle, now)
}

// answered takes what the gateway says of the viewer.
func (a *audience) answered(v *viewer, handle session.Handle, now time.Time) {
	d := handle.Decision()
	v.source = d.Source
	if d.Verdict == backends.Denied {
		a.tally.denied(v, d)
		v.isPlaying = false
		v.tries++
		return
	}
	handle.Seen(now, true)
	v.isPlaying, v.tries, v.ticket = true, 0, handle.Ticket()
	if v.isBad {
		a.tally.rodeFree(v, now)
	}
}

// count returns how many viewers play, how many of them without an answer of the middleware, and how many whom it denies.
func (a *audience) count() (playing, unverified, free int) {
	for i := range a.viewers {
		v := &a.viewers[i]
		if v.isOpening.Load() || !v.isPlaying {
			continue
		}
		playing++
		if !v.source.IsAuthoritative() {
			unverified++
		}
		if v.isBad {
			free++
		}
	}
	return playing, unverified, free
}
