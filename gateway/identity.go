package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"usher/backends"
	"usher/backends/mac"
	"usher/backends/setting"
	"usher/gateway/edge"
	"usher/gateway/evictions"
	"usher/gateway/ticket"
	"usher/gateway/variants"
)

// The domains separate the uses of the identity secret.
const (
	identityDomain = "usher session 2"
	idKeyDomain    = "usher session id key 1"
	tagKeyDomain   = "usher address tag key 1"
	matchDomain    = "usher edge match 1"
	groupDomain    = "usher edge group 1"
)

// sessionHasher derives the ids of sessions. It is safe for concurrent use.
//
//	credentials, route, channel … ─ HMAC ─► group id ─┐
//	                  subscriber prefix ─ AES ─► tag ─┴─ AES ─► session id
//
// A viewer's group is the same at all addresses. A ticket holds the session's id and the tag, of which the group is computed
// again, and with it the id of the viewer's session at any other address: the one that their credentials would open there.
type sessionHasher struct {
	macs        *mac.Pool[[aes.BlockSize]byte]
	ids, tags   cipher.Block
	playbackIDs playbackIDs
}

func newSessionHasher(secret setting.Secret) *sessionHasher {
	key := []byte(secret.Reveal())
	return &sessionHasher{
		macs: mac.NewPool[[aes.BlockSize]byte](key), playbackIDs: newPlaybackIDs(),
		ids: newBlock(key, idKeyDomain), tags: newBlock(key, tagKeyDomain),
	}
}

// newBlock returns a cipher whose key is derived from the secret.
func newBlock(secret []byte, domain string) cipher.Block {
	derived := hmac.New(sha256.New, secret)
	derived.Write([]byte(domain))
	block, err := aes.NewCipher(derived.Sum(nil))
	if err != nil {
		panic("BUG: " + err.Error()) // only a key of a wrong size is an error
	}
	return block
}

// identityMAC has a block for the ciphers.
type identityMAC = mac.MAC[[aes.BlockSize]byte]

// sessionID returns the viewer's session id, the same on every node. It covers the viewer's subscriber prefix, unless the
// route shares sessions among the addresses that show the same credentials. group is that of groupID, if there are credentials.
func (i *sessionHasher) sessionID(t *target, c *backends.Credentials, req *Request, viewer client) (id, group backends.SessionID) {
	m := i.macs.Get()
	defer i.macs.Put(m)
	group = i.group(m, t, c, req)
	id = group
	i.seal(m, &id, i.tagOf(m, t.route.sessionPrefix(c, viewer.address)))
	return id, group
}

// groupID returns what is the same for all sessions of these credentials on this channel, whatever their address; zero for
// a viewer without credentials.
func (i *sessionHasher) groupID(t *target, c *backends.Credentials, req *Request) backends.SessionID {
	if c.IsEmpty() {
		return backends.SessionID{}
	}
	m := i.macs.Get()
	defer i.macs.Put(m)
	return i.group(m, t, c, req)
}

func (i *sessionHasher) group(m *identityMAC, t *target, c *backends.Credentials, req *Request) backends.SessionID {
	m.In = append(m.In[:0], identityDomain...)
	m.In = backends.AppendField(m.In, t.route.name)
	m.In = backends.AppendField(m.In, t.channel)
	m.In = backends.AppendField(m.In, t.folder)
	m.In = c.AppendCanonical(m.In)
	if req.isPublish {
		m.In = backends.AppendField(m.In, "publish")
	}
	m.In = i.appendIdentityFields(m.In, t, c, req)
	return backends.SessionID(m.Sum(m.In)[:16])
}

// matchKey names, on every node, the viewers of a target with one address and player.
func (i *sessionHasher) matchKey(t *target, address netip.Addr, req *Request) [16]byte {
	m := i.macs.Get()
	defer i.macs.Put(m)
	raw := address.As16()
	m.In = append(append(m.In[:0], matchDomain...), raw[:]...)
	for _, field := range [...]string{t.route.name, t.channel, t.folder, req.Header.Get("User-Agent")} {
		m.In = backends.AppendField(m.In, field)
	}
	if req.isPublish {
		m.In = append(m.In, 'p')
	}
	return [16]byte(m.Sum(m.In)[:16])
}

// groupKey names, on every node, the viewers of a group.
func (i *sessionHasher) groupKey(group backends.SessionID) [16]byte {
	m := i.macs.Get()
	defer i.macs.Put(m)
	m.In = append(append(m.In[:0], groupDomain...), group[:]...)
	return [16]byte(m.Sum(m.In)[:16])
}

// tag returns the tag of the tickets that are issued at a prefix.
func (i *sessionHasher) tag(prefix netip.Prefix) ticket.Tag {
	m := i.macs.Get()
	defer i.macs.Put(m)
	return i.tagOf(m, prefix)
}

// tagOf returns the tag of a prefix. The prefixes of both families have blocks of their own, and no prefix is all zeros.
func (i *sessionHasher) tagOf(m *identityMAC, prefix netip.Prefix) ticket.Tag {
	m.Buffers = [aes.BlockSize]byte{}
	isIPv6 := prefix.IsValid() && prefix.Addr().Is6()
	switch {
	case isIPv6:
		address := prefix.Addr().As16()
		copy(m.Buffers[:], address[:8]) // the rest is the host's
		m.Buffers[15] = byte(prefix.Bits())
	case prefix.IsValid():
		address := prefix.Addr().As4()
		copy(m.Buffers[:], address[:])
		m.Buffers[15] = byte(prefix.Bits())
	}
	i.tags.Encrypt(m.Buffers[:], m.Buffers[:])
	return ticket.NewTag(m.Buffers[:], isIPv6)
}

// sibling returns the id of the viewer's session at the address of a tag. root is their session at the address of another.
func (i *sessionHasher) sibling(root backends.SessionID, rootTag, tag ticket.Tag) backends.SessionID {
	m := i.macs.Get()
	defer i.macs.Put(m)
	m.Buffers = root
	i.ids.Decrypt(m.Buffers[:], m.Buffers[:])
	mix(&m.Buffers, rootTag)
	id := backends.SessionID(m.Buffers)
	i.seal(m, &id, tag)
	return id
}

// seal makes the id of a group that of its session at the address of a tag.
func (i *sessionHasher) seal(m *identityMAC, id *backends.SessionID, tag ticket.Tag) {
	m.Buffers = *id
	mix(&m.Buffers, tag)
	i.ids.Encrypt(m.Buffers[:], m.Buffers[:])
	*id = m.Buffers
}

func mix(block *[aes.BlockSize]byte, tag ticket.Tag) {
	for n, b := range tag {
		block[n] ^= b
	}
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
	// evicted counts owners that were given up for others.
	evicted *evictions.Counter
}

type playbackSet struct {
	mu   sync.Mutex
	seen map[uint64]time.Time
}

func newPlaybackIDs() playbackIDs {
	evicted := new(evictions.Counter)
	return playbackIDs{seed: maphash.MakeSeed(), evicted: evicted, owners: otter.Must(&otter.Options[uint64, *playbackSet]{
		OnAtomicDeletion: evictions.Of[uint64, *playbackSet](evicted),
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

// refusalOfTicket says why a ticket in the path is refused. A ticket of a folder says that it is one.
func refusalOfTicket(text string) string {
	if ticket.Depth(text) > 0 {
		return "the ticket is for another entry of the channel, or for another channel"
	}
	return "the ticket is not valid for this channel"
}

// readTicket verifies the request's ticket: the one in the path, or else in the query or a cookie.
func (g *Gateway) readTicket(rc *requestContext, text string) {
	if rc.isTicketInPath {
		if rc.claims, rc.hasTicket = g.verify(text, &rc.target); !rc.hasTicket {
			rc.badTicket = text
		}
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
			rc.badTicket = ""
			return
		}
		rc.badTicket = text
	}
}

// sessionOfCredentials returns the session of a viewer who shows credentials. A playlist that a viewer opens is an entry.
// Anything else with credentials belongs to an open session of a folder above it, if there is one. At an edge so does a
// playlist, because nothing tells an entry from what it lists.
func (g *Gateway) sessionOfCredentials(rc *requestContext) backends.SessionID {
	if !rc.isPlaylist || rc.target.route.endpoint != nil {
		if id, isOpen := g.openSessionAbove(rc); isOpen {
			return id
		}
	}
	g.useCredentials(rc)
	return rc.id
}

// credentialGroup is the group of a request's credentials on the channel and folder for which it was computed. Its zero value is of
// none.
type credentialGroup struct {
	id              backends.SessionID
	channel, folder string
}

// useCredentials sets the session that the viewer's credentials open on the target, and its group.
func (g *Gateway) useCredentials(rc *requestContext) {
	rc.group.channel, rc.group.folder = rc.target.channel, rc.target.folder
	rc.id, rc.group.id = g.hasher.sessionID(&rc.target, &rc.credentials, rc.request, rc.viewer)
}

// groupOf is groupID for a request. One that has been identified on its target has it already.
func (g *Gateway) groupOf(rc *requestContext) backends.SessionID {
	known := &rc.group
	if known.id.IsZero() || known.channel != rc.target.channel || known.folder != rc.target.folder || rc.credentials.IsEmpty() {
		return g.hasher.groupID(&rc.target, &rc.credentials, rc.request)
	}
	return known.id
}

// openSessionAbove returns the open session of a folder above the target, which becomes the target.
func (g *Gateway) openSessionAbove(rc *requestContext) (id backends.SessionID, isOpen bool) {
	for above := range rc.target.above() {
		id, _ := g.hasher.sessionID(&above, &rc.credentials, rc.request, rc.viewer)
		if g.options.Sessions.Find(id) != nil {
			rc.target = above
			return id, true
		}
	}
	return id, false
}

// verify checks a ticket for the target. Patterns of a route may overlap, such as "/live/{user}/{password}/{channel}.m3u8"
// and "/live/{channel}/*": then the target becomes the one that the ticket was signed for.
func (g *Gateway) verify(text string, t *target) (ticket.Claims, bool) {
	depth := ticket.Depth(text)
	for here, more := *t, true; more; more = here.nextMapping() {
		if !here.bind(depth) {
			continue
		}
		if c, ok := g.signer.Verify(text, here.scope()); ok {
			*t = here
			return c, true
		}
	}
	return ticket.Claims{}, false
}

// whyMissing tells a viewer that a required credential is missing, and that their ticket does not stand in for it.
func (rc *requestContext) whyMissing(credential string) string {
	why := "the credential " + credential + " is missing"
	if rc.badTicket != "" {
		why = refusalOfTicket(rc.badTicket) + ", and " + why
	}
	return why
}

// isRefusedByBackend reports whether a backend has refused the viewer, and no operator, ban or limit.
func isRefusedByBackend(d *backends.Decision) bool {
	return d.Verdict == backends.Denied && (d.Source == backends.FromBackend || d.Source == backends.FromLocal)
}

// isSettledBy reports whether a session's decision holds for the request. A session that was admitted by ticket alone is
// checked once credentials arrive, a denial of credentials may not concern the ticket, and a denial whose time is over may be opened anew.
func (rc *requestContext) isSettledBy(d *backends.Decision, hasCredentials bool) bool {
	isByTicket := d.Source == backends.FromTicket && hasCredentials
	return !isByTicket && (!isRefusedByBackend(d) || !rc.hasTicket && rc.now.Before(rc.session.Expires()))
}

// leaveTicket makes the request one of the credentials beside its ticket, if the ticket's session was refused and they are
// others: the answer to a challenge, or a new token. It reports whether it did.
func (g *Gateway) leaveTicket(rc *requestContext, d *backends.Decision) bool {
	isRefused := isRefusedByBackend(d) || d.Verdict == backends.Denied && d.Source == backends.FromTicket
	if !rc.hasTicket || !isRefused || rc.credentials.IsEmpty() {
		return false
	}
	if rc.session.Request().Group == g.hasher.groupID(&rc.target, &rc.credentials, rc.request) {
		return false
	}
	rc.target.enterAgain()
	rc.id, rc.root, rc.claims = g.sessionOfCredentials(rc), backends.SessionID{}, ticket.Claims{}
	rc.hasTicket, rc.isTicketInPath = false, false // playlists list the new session's ticket
	return true
}

// opening returns what the opening of a session has in common with others, or nil if it does not count among them: tickets,
// and edges that keep sessions themselves, do not.
func (rc *requestContext) opening() *variants.Opening {
	t := &rc.target
	if e := t.route.endpoint; rc.session != nil || !rc.claims.IsZero() || e != nil && e.Dialect().KeepsSessions() {
		return nil
	}
	return &variants.Opening{
		Session: rc.id, Prefix: backends.SubscriberPrefix(rc.viewer.address), Agent: rc.request.Header.Get("User-Agent"),
		Route: t.route.name, Channel: t.channel, Folder: t.folder, Credentials: &rc.credentials, IsNamed: t.namesCredential,
	}
}
