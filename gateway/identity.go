package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
	"usher/backends/setting"
	"usher/gateway/edge"
	"usher/gateway/ticket"
)

// The domains separate the uses of the identity secret.
const (
	identityDomain = "usher session 2"
	siblingDomain  = "usher sibling 1"
)

// sessionHasher derives the ids of sessions and of their siblings. It is safe for concurrent use.
type sessionHasher struct {
	macs        sync.Pool
	playbackIDs playbackIDs
}

func newSessionHasher(secret setting.Secret) *sessionHasher {
	key := []byte(secret.Reveal())
	i := &sessionHasher{playbackIDs: newPlaybackIDs()}
	i.macs.New = func() any { return &identityMAC{hash: hmac.New(sha256.New, key)} }
	return i
}

type identityMAC struct {
	hash hash.Hash
	in   []byte
	sum  [sha256.Size]byte
}

// sessionID returns the viewer's session id, the same on every node. It covers the viewer's subscriber prefix, unless the
// route shares sessions among the addresses that show the same credentials.
func (i *sessionHasher) sessionID(t *target, c *backends.Credentials, req *Request, viewer client) backends.SessionID {
	return i.identify(t, c, req, t.route.sessionPrefix(c, viewer.address))
}

// identify returns the id of a viewer at that prefix. The zero prefix stands for all of them.
func (i *sessionHasher) identify(t *target, c *backends.Credentials, req *Request, prefix netip.Prefix) backends.SessionID {
	m, _ := i.macs.Get().(*identityMAC)
	defer i.macs.Put(m)
	m.in = append(m.in[:0], identityDomain...)
	m.in = backends.AppendField(m.in, t.route.name)
	m.in = backends.AppendField(m.in, t.channel)
	m.in = backends.AppendField(m.in, t.folder)
	m.in = c.AppendCanonical(m.in)
	if req.isPublish {
		m.in = backends.AppendField(m.in, "publish")
	}
	m.in = i.appendIdentityFields(m.in, t, c, req)
	m.in = appendPrefix(m.in, prefix)
	return backends.SessionID(m.compute()[:16])
}

// groupID returns what is the same for all sessions of these credentials on this channel, whatever their address; zero for
// a viewer without credentials.
func (i *sessionHasher) groupID(t *target, c *backends.Credentials, req *Request) backends.SessionID {
	if c.IsEmpty() {
		return backends.SessionID{}
	}
	return i.identify(t, c, req, netip.Prefix{})
}

// sibling returns the id of the session that a session's ticket opens at another prefix, and the tag of a ticket that was
// issued to the session at that prefix.
func (i *sessionHasher) sibling(root backends.SessionID, prefix netip.Prefix) (backends.SessionID, ticket.Tag) {
	m, _ := i.macs.Get().(*identityMAC)
	defer i.macs.Put(m)
	m.in = append(m.in[:0], siblingDomain...)
	m.in = append(m.in, root[:]...)
	m.in = appendPrefix(m.in, prefix)
	sum := m.compute()
	return backends.SessionID(sum[:16]), ticket.NewTag(sum[16:], prefix.Addr().Is6())
}

// compute returns the MAC over the input. The result is valid until the next call.
func (m *identityMAC) compute() []byte {
	m.hash.Reset()
	m.hash.Write(m.in)
	return m.hash.Sum(m.sum[:0])
}

// appendPrefix appends a prefix in one length for all families.
func appendPrefix(in []byte, p netip.Prefix) []byte {
	if !p.IsValid() {
		return append(in, 0)
	}
	address := p.Addr().As16()
	return append(append(in, byte(p.Bits())), address[:]...)
}

// appendIdentityFields appends what tells the route's viewers apart beside credentials and address. Viewers without
// credentials are told apart by their player too, because a backend can decide on nothing else.
func (i *sessionHasher) appendIdentityFields(in []byte, t *target, c *backends.Credentials, req *Request) []byte {
	agent := req.Header.Get("User-Agent")
	fields := t.route.identity
	if q := req.edgeCheck; q != nil && q.EdgeSession != "" && t.route.config.Edge.SessionID != edge.SessionIDIgnored {
		edgeAddr := req.edgeAddr.As16()
		in = append(append(in, 'e'), edgeAddr[:]...) // two edges may use one id
		in = backends.AppendField(in, q.EdgeSession)
	}
	if c.IsEmpty() {
		return backends.AppendField(append(in, 'u'), agent)
	}
	if fields.playback {
		if p := req.Header.Get("X-Playback-Session-Id"); p != "" && i.playbackIDs.accept(in, p, time.Now()) {
			return backends.AppendField(append(in, 'p'), p)
		}
	}
	if fields.agent {
		in = backends.AppendField(append(in, 'u'), agent)
	}
	return in
}

const (
	// maxPlaybacks is how many X-Playback-Session-Id values count per credentials. The client chooses the value, so
	// without a bound one viewer could open sessions at will.
	maxPlaybacks = 8
	// playbackTTL is how long a value counts against that bound.
	playbackTTL = time.Hour
	// maxPlaybackOwners bounds the credentials whose values are remembered.
	maxPlaybackOwners = 100_000
)

// playbackIDs remembers which playback ids came with which credentials. It is safe for concurrent use.
type playbackIDs struct {
	seed   maphash.Seed
	owners *otter.Cache[uint64, *playbackSet]
}

type playbackSet struct {
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func newPlaybackIDs() playbackIDs {
	return playbackIDs{seed: maphash.MakeSeed(), owners: otter.Must(&otter.Options[uint64, *playbackSet]{
		MaximumSize:      maxPlaybackOwners,
		ExpiryCalculator: otter.ExpiryAccessing[uint64, *playbackSet](playbackTTL),
	})}
}

// accept reports whether the value is one of the maxPlaybacks that count for its owner.
func (p *playbackIDs) accept(owner []byte, value string, now time.Time) bool {
	set, _ := p.owners.ComputeIfAbsent(maphash.Bytes(p.seed, owner), func() (*playbackSet, bool) {
		return &playbackSet{seen: make(map[uint64]time.Time)}, false
	})
	set.mu.Lock()
	defer set.mu.Unlock()
	key := maphash.String(p.seed, value)
	if _, known := set.seen[key]; !known && len(set.seen) >= maxPlaybacks {
		for k, at := range set.seen {
			if now.Sub(at) > playbackTTL {
				delete(set.seen, k)
			}
		}
		if len(set.seen) >= maxPlaybacks {
			return false
		}
	}
	set.seen[key] = now
	return true
}

// readTicket verifies the request's ticket: the one in the path, or else in the query or a cookie.
func (g *Gateway) readTicket(rc *requestContext, text string) {
	if rc.isTicketInPath {
		rc.claims, rc.hasTicket = g.verify(text, &rc.target)
	} else {
		g.findTicket(rc)
	}
	if rc.claims.AdmitsNobody() { // as if there were none, and relative URIs must not inherit it
		rc.claims, rc.hasTicket, rc.isTicketInPath, rc.isRefused = ticket.Claims{}, false, false, true
	}
}

// findTicket sets the first valid ticket in the query or the cookies, if there is one.
func (g *Gateway) findTicket(rc *requestContext) {
	for text := range ticketsInQueryOrCookies(&rc.target, rc.request, &g.options.Config.Tickets) {
		if rc.claims, rc.hasTicket = g.verify(text, &rc.target); rc.hasTicket {
			return
		}
	}
}

// verify checks a ticket for the target. Patterns of a route may overlap, such as "/live/{user}/{password}/{channel}.m3u8"
// and "/live/{channel}/*": then the target becomes the one that the ticket was signed for.
func (g *Gateway) verify(text string, t *target) (ticket.Claims, bool) {
	depth, isExact := ticket.Hint(text)
	for here, more := *t, true; more; more = here.nextMapping() {
		if !here.bind(depth, isExact) {
			continue
		}
		if c, ok := g.signer.Verify(text, here.scope()); ok {
			*t = here
			return c, true
		}
	}
	return ticket.Claims{}, false
}
