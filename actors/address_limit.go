package actors

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/admission"
	"usher/actors/session"
	"usher/backends"
)

// ticketUse is how a session counts among the addresses that use one ticket: as a sibling of the ticket's own session, the
// root, or as a session that several addresses share.
type ticketUse struct {
	root backends.SessionID
	// rootOpened is when the root of a sibling was opened; zero: the session is the root, and shared.
	rootOpened time.Time
	// maxAddresses is the bound of the route that the session was opened by; 0: it has none.
	maxAddresses int

	recent   atomic.Pointer[netip.Prefix] // the newest address of a shared session
	recentAt atomic.Int64                 // when it was used, in seconds since the node's start
	mu       sync.Mutex
	shared   []addressUse
}

// addressUse is an address that uses a shared session.
type addressUse struct {
	prefix netip.Prefix
	id     backends.SessionID // names the address in the store
	at     int64              // the last use, in seconds since the node's start
}

// newTicketUse returns how the session that a request opens counts, or nil if it has an address to itself.
func newTicketUse(r *session.OpenRequest) *ticketUse {
	root, rootOpened := r.Root, r.Ticket.Opened
	if root.IsZero() {
		if r.AddressID.IsZero() {
			return nil
		}
		root, rootOpened = r.Request.Session, time.Time{}
	}
	return &ticketUse{root: root, rootOpened: rootOpened, maxAddresses: r.MaxAddresses}
}

// isRefusing reports whether an address beyond the bound is denied, and need not retry.
func (u *ticketUse) isRefusing() bool { return u.maxAddresses > 0 }

// isSibling reports whether the session is another one's sibling. A nil ticketUse is none.
func (u *ticketUse) isSibling() bool { return u != nil && !u.rootOpened.IsZero() }

// use records a use of a shared session, and reports whether the address has used it within the last idle seconds. Most
// calls come from the same address within the same second, and cost two atomic reads.
func (u *ticketUse) use(prefix netip.Prefix, now, idle int64) bool {
	if r := u.recent.Load(); r != nil && *r == prefix && u.recentAt.Load() == now {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.shared {
		if a := &u.shared[i]; a.prefix == prefix && now-a.at <= idle {
			a.at = now
			u.setRecent(prefix, now)
			return true
		}
	}
	return false
}

// add adds an address in place of those that have not used the session within the last idle seconds.
func (u *ticketUse) add(a addressUse, idle int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept := u.shared[:0]
	for _, other := range u.shared {
		if other.prefix != a.prefix && a.at-other.at <= idle {
			kept = append(kept, other)
		}
	}
	u.shared = append(kept, a)
	u.setRecent(a.prefix, a.at)
}

func (u *ticketUse) setRecent(prefix netip.Prefix, now int64) {
	if r := u.recent.Load(); r == nil || *r != prefix {
		newest := prefix // a parameter whose address is taken would be allocated in each call
		u.recent.Store(&newest)
	}
	u.recentAt.Store(now)
}

// Admit reports whether a viewer at the address may use the session at now without [Registry.Open]. A session that is not
// shared has one address.
func (s *Session) Admit(prefix netip.Prefix, now time.Time) bool {
	if s.ticketUse == nil || s.ticketUse.isSibling() {
		return true
	}
	return s.ticketUse.use(prefix, s.seconds(now), s.idleSeconds())
}

func (s *Session) seconds(t time.Time) int64 { return int64(t.Sub(s.policy().Start) / time.Second) }

func (s *Session) idleSeconds() int64 { return int64(s.idleAfter() / time.Second) }

// idleAfter returns the silence after which the viewer counts as gone.
func (s *Session) idleAfter() time.Duration {
	d := s.Decision()
	if d == nil || s.extraLifetime == 0 {
		return s.policy().IdleTimeout
	}
	return max(s.policy().IdleTimeout, s.policy().Clamped(d.ValidFor)+s.extraTime())
}

// addressLimit bounds the addresses that use a ticket at once, over all nodes. It is safe for concurrent use.
type addressLimit struct {
	core
	rate    *admission.Rate // of new addresses, by ticket
	renewal chan *Session   // sessions whose addresses are to be reported

	// renewalsSkipped is how many sessions had no room in renewal.
	renewalsSkipped atomic.Uint64
	// most is sessions.max_addresses.
	most atomic.Int64

	mu sync.Mutex
	// warned holds the tickets of which a warning was written.
	warned map[backends.SessionID]bool
}

const (
	// maxNewAddresses is how many new addresses of a ticket are checked a minute on one node, so that a leaked ticket costs
	// the backend and the store little.
	maxNewAddresses = 10
	// maxWarnedTickets bounds the memory of warnings. Beyond it some are written again.
	maxWarnedTickets = 10_000
	// addressReporters is how many sessions' addresses are reported at once.
	addressReporters = 8
	// maxRenewals is how many sessions wait until their streams or their addresses are reported. Those beyond it are reported
	// with the next heartbeat.
	maxRenewals = 4096
)

func newAddressLimit(c core, start time.Time) *addressLimit {
	return &addressLimit{
		core: c, rate: admission.NewRate(start, time.Minute/maxNewAddresses, maxNewAddresses), renewal: make(chan *Session, maxRenewals),
		warned: map[backends.SessionID]bool{},
	}
}

// allowNew returns an Overload if the ticket came to too many new addresses lately.
func (l *addressLimit) allowNew(root backends.SessionID, now time.Time) error {
	if !admission.Allow(l.rate, root, now) {
		return backends.NewOverload("new addresses of a ticket per minute", maxNewAddresses)
	}
	return nil
}

// entries returns what the store is told of the session's addresses.
func (l *addressLimit) entries(s *Session, now time.Time) []session.StreamEntry {
	e := l.entry(s, now)
	u := s.ticketUse
	if u.isSibling() {
		return []session.StreamEntry{e}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	entries := make([]session.StreamEntry, 0, len(u.shared))
	for _, a := range u.shared {
		if s.seconds(now)-a.at <= s.idleSeconds() {
			e.Session, e.IsIPv6, e.LastSeen = a.id, a.prefix.Addr().Is6(), s.policy().Start.Add(time.Duration(a.at)*time.Second)
			entries = append(entries, e)
		}
	}
	return entries
}

// entry returns the entry of the session's own address.
func (l *addressLimit) entry(s *Session, now time.Time) session.StreamEntry {
	return session.StreamEntry{
		User: s.ticketUse.root.String(), Session: s.id, Group: s.ticketUse.root, IsIPv6: isIPv6(s.request.Address()),
		LastSeen: s.lastAsked(now), IsPlaying: true, ZapTimeout: s.idleAfter(), MaxStreams: l.maxOf(s.ticketUse),
	}
}

// maxOf returns how many addresses may use a ticket.
func (l *addressLimit) maxOf(u *ticketUse) int {
	most := int(l.most.Load())
	if u.isRefusing() {
		most = min(most, u.maxAddresses)
	}
	return most
}

func isIPv6(a netip.Addr) bool { return a.Unmap().Is6() }

// join adds the address of a sibling, or returns the bound that it meets. root is what is known of the ticket's own session.
func (l *addressLimit) join(ctx context.Context, s *Session, root *rootFacts) error {
	e := l.entry(s, time.Now())
	if !root.isPlaying {
		return l.joinEntry(ctx, s, e)
	}
	own := e
	own.Session, own.IsIPv6, own.LastSeen, own.IsAssumed = s.ticketUse.root, isIPv6(root.address), root.lastSeen, true
	return l.joinEntry(ctx, s, e, own)
}

// joinEntry adds a new address beside others that use the ticket.
func (l *addressLimit) joinEntry(ctx context.Context, s *Session, e session.StreamEntry, beside ...session.StreamEntry) error {
	e.IsNew = true
	entries := append(beside, e) // it is counted after the others
	if l.cluster.ReportAddresses(ctx, entries...).States[len(beside)] == session.StreamActive {
		return nil
	}
	l.warn(s)
	return backends.NewOverload("sessions.max_addresses", l.maxOf(s.ticketUse))
}

// warn writes once for each ticket that it is used from too many addresses.
func (l *addressLimit) warn(s *Session) {
	root := s.ticketUse.root
	l.mu.Lock()
	isKnown := l.warned[root]
	if len(l.warned) >= maxWarnedTickets {
		clear(l.warned)
	}
	l.warned[root] = true
	l.mu.Unlock()
	if isKnown {
		return
	}
	log := l.log.With(slog.String("session", root.String()), slog.String("channel", s.request.Channel()),
		slog.Int("max_addresses", l.maxOf(s.ticketUse)))
	if s.ticketUse.isRefusing() {
		log.Warn("ticket used from another address, which gets 403, change the route's on_new_address if both are one viewer's")
		return
	}
	log.Warn("ticket used from too many addresses, further ones get 503, raise sessions.max_addresses if all are one viewer's")
}

// admit adds an address to those of a shared session, or returns the bound that it meets.
func (l *addressLimit) admit(ctx context.Context, s *Session, id backends.SessionID, address netip.Addr) error {
	prefix, now := backends.SubscriberPrefix(address), time.Now()
	if s.Admit(prefix, now) {
		return nil
	}
	if err := l.allowNew(s.id, now); err != nil {
		return err
	}
	e := l.entry(s, now)
	e.Session, e.IsIPv6, e.LastSeen = id, isIPv6(address), now
	if err := l.joinEntry(ctx, s, e); err != nil {
		return err
	}
	s.ticketUse.add(addressUse{prefix, id, s.seconds(now)}, s.idleSeconds())
	return nil
}

// onDecision frees the place of a sibling that was denied, once. A nil before: it had no decision.
func (l *addressLimit) onDecision(s *Session, before, d *backends.Decision) {
	u := s.ticketUse
	wasDenied := before != nil && before.Verdict == backends.Denied
	if !u.isSibling() || d.Verdict != backends.Denied || wasDenied {
		return
	}
	l.life.run(func() {
		ctx, cancel := l.cluster.writeContext()
		defer cancel()
		l.cluster.ReportAddresses(ctx, session.StreamEntry{User: u.root.String(), Session: s.id, IsLeaving: true})
	})
}

// queueRenewal has the session's addresses reported soon. It does not block.
func (l *addressLimit) queueRenewal(s *Session) {
	if d := s.Decision(); d == nil || d.Verdict != backends.Allowed {
		return
	}
	select {
	case l.renewal <- s:
	default: // the next heartbeat queues it again
		l.renewalsSkipped.Add(1)
	}
}

// run reports addresses until the registry closes.
func (l *addressLimit) run() {
	for {
		select {
		case <-l.life.ctx.Done():
			return
		case s := <-l.renewal:
			if entries := l.entries(s, time.Now()); len(entries) > 0 {
				ctx, cancel := context.WithTimeout(l.life.ctx, writeTimeout)
				l.cluster.ReportAddresses(ctx, entries...)
				cancel()
			}
		}
	}
}

// rootFacts is what is known of a sibling's root. The zero value says that nothing is.
type rootFacts struct {
	// request holds the root's credentials; nil: they are not known.
	request  *backends.Request
	address  netip.Addr
	decision backends.Decision
	// isAllowed and isDenied report that the root may play, or that its backend, an operator or a ban denied it.
	isAllowed, isDenied bool
	// isPlaying reports that some node has seen the root's viewer within the idle timeout.
	isPlaying bool
	lastSeen  time.Time
}

// startFindRoot looks up the root of a sibling while the sibling itself is looked up. It returns nil where nothing is needed
// of it.
func (r *Registry) startFindRoot(ctx context.Context, s *Session, kind session.LookupKind) <-chan rootFacts {
	if !s.ticketUse.isSibling() || kind != session.LookupForOpening && s.flags.has(flagCredentials) {
		return nil
	}
	found := make(chan rootFacts, 1)
	r.life.run(func() { found <- r.findRoot(ctx, s.ticketUse) })
	return found
}

// findRoot returns what this node or the store knows of a root. It takes no lease.
func (r *Registry) findRoot(ctx context.Context, u *ticketUse) rootFacts {
	if root := r.table.find(u.root); root != nil && root.Decision() != nil {
		return root.factsOfRoot(time.Now())
	}
	ctx, cancel := r.cluster.until(ctx, time.Now().Add(r.options.StoreTimeout))
	defer cancel()
	// A known revision says that it is not the viewer of the root who is back. During an outage there are local facts beside
	// the error.
	result, _ := r.cluster.AcquireLease(ctx, session.LeaseRequest{ID: u.root, KnownRevision: 1})
	record := &result.Record
	if !result.Found {
		return rootFacts{}
	}
	f := rootFacts{request: record.Request, decision: record.Decision, lastSeen: time.Now()}
	f.judge()
	if !u.rootOpened.After(record.RevokedBefore) {
		f.isAllowed, f.isDenied = false, true
	}
	f.isPlaying = f.isAllowed && r.cluster.Shared() && !record.IsClosed
	if f.request != nil {
		f.address = f.request.Address
	}
	return f
}

// factsOfRoot returns what a live session tells its siblings.
func (s *Session) factsOfRoot(now time.Time) rootFacts {
	request := s.Request()
	f := rootFacts{decision: *s.Decision(), address: request.Address, lastSeen: s.lastAsked(now)}
	if s.flags.has(flagCredentials) {
		f.request = request
	}
	f.judge()
	f.isPlaying = f.isAllowed && now.Sub(f.lastSeen) <= s.idleAfter()
	return f
}

// judge sets what the root's decision says of its ticket. A stream limit says nothing.
func (f *rootFacts) judge() {
	d := &f.decision
	f.isAllowed = d.Verdict == backends.Allowed
	f.isDenied = d.Verdict == backends.Denied && d.Source.IsAuthoritative() && d.Source != backends.FromLimit
}

// applyRoot adds to the store's answer what is known of a sibling's root, and the address to those that use the ticket.
func (r *Registry) applyRoot(ctx context.Context, s *Session, root rootFacts, e *session.LeaseAnswered) {
	e.IsRootAllowed, e.IsRootDenied = root.isAllowed, root.isDenied
	if d := &root.decision; root.isAllowed {
		e.Root = backends.Decision{UserID: d.UserID, User: d.User, MaxSessions: d.MaxSessions, Unique: d.Unique}
	}
	if root.request != nil && e.Record.Request == nil {
		e.HasRootFacts = s.inherit(root.request)
	}
	if e.Kind != session.LookupForOpening || e.Refused != nil {
		return
	}
	asRoot := s.request.Request(s.ticketUse.root) // a ban of the root's session is one of its ticket
	for _, request := range []*backends.Request{s.Request(), asRoot} {
		if ban, isBanned := r.cluster.Banned(request, &e.Root); isBanned {
			e.Refused = new(banDecision(ban))
			return
		}
	}
	err := r.addresses.join(ctx, s, &root)
	switch {
	case err == nil:
	case s.ticketUse.isRefusing():
		e.Refused = new(backends.LocalDecision(backends.Denied, backends.ReasonNewAddress))
	default:
		e.Overload = err.Error()
	}
}
