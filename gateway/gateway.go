package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/enforcement"
	"usher/gateway/hls"
	"usher/gateway/origin"
	"usher/gateway/reference"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
	"usher/gateway/variants"
)

// Sessions finds and opens sessions.
type Sessions interface {
	// Find returns the live session of that id, or nil. It neither locks nor allocates.
	Find(id backends.SessionID) session.Handle
	// Open returns the session after its first decision. It returns *backends.Overload, an error of its own while the
	// node shuts down, or ctx's error.
	Open(ctx context.Context, r session.OpenRequest) (session.Handle, error)
}

// Options are what a Gateway needs. All are required.
type Options struct {
	Config   Config
	Sessions Sessions
	// Origins are the fetchers by name, one for each of Config.Origins.
	Origins map[string]*origin.Origin
	// MaxVariants is how many sessions, within IdleTimeout, one player may open that differ in one parameter; zero: any
	// number.
	MaxVariants int
	IdleTimeout time.Duration
	// RetryAfter is sent to viewers whose access could not be checked.
	RetryAfter time.Duration
	// Matches are what nodes share of the viewers of edges; nil: this node alone knows them.
	Matches Matches
	// OnRefusal is told of each response that refuses a viewer, also where the route does not enforce it; nil: nobody is. It
	// must not block.
	OnRefusal func(route, reason string)
	// OnOverload is told of each viewer whom a bound of this node turned away, with the setting's name; nil: nobody is. It must
	// not block.
	OnOverload func(setting string)
	Logger     *slog.Logger
	// Previous is the gateway in whose place this one serves, with the same Identity, Sessions and IdleTimeout; nil: none.
	// What it has learned is shared: see [Gateway.CloseBeside].
	Previous *Gateway
}

// Gateway answers viewers, and edges that ask about their viewers. It is safe for concurrent use.
type Gateway struct {
	options      Options
	routes       []*route
	signer       *ticket.Signer
	hasher       *sessionHasher
	trusted      networks
	sealer       *reference.Sealer
	originNames  []string // sorted
	endpoints    edge.Endpoints
	fingerprints *edge.Fingerprints
	lookUps      *edge.LookUps
	variants     *variants.Detector
	edgeChecks   sync.Pool // of *edgeCheck
	isForwarder  func(netip.Addr) bool
	unenforced   *enforcement.Recorder
	serving      *atomic.Int64 // requests in flight
	generation   uint64        // counts reloads
}

// New makes a gateway of a valid config.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		options: o, signer: ticket.NewSigner(o.Config.Tickets.Keys),
		sealer: reference.NewSealer(o.Config.Tickets.Keys), originNames: slices.Sorted(maps.Keys(o.Origins)),
		trusted: o.Config.TrustedProxies,
	}
	g.options.Previous = nil // or all of them would be kept
	g.remember(o.Previous)
	g.edgeChecks.New = func() any { return new(edgeCheck) }
	g.isForwarder = g.isEdgeOrProxy // made once, because a method value is an allocation
	for i, c := range o.Config.Routes {
		r, err := o.Previous.newRoute(c, o.Origins[c.Origin])
		if err != nil {
			g.CloseBeside(o.Previous)
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
		g.routes = append(g.routes, r)
		if r.endpoint != nil {
			g.endpoints = append(g.endpoints, r.endpoint)
		}
	}
	return g, nil
}

// remember makes what the gateway learns of viewers, or shares it with the previous one. A limit that has changed counts anew.
func (g *Gateway) remember(previous *Gateway) {
	o := &g.options
	if previous != nil {
		g.hasher, g.fingerprints, g.lookUps = previous.hasher, previous.fingerprints, previous.lookUps
		g.serving, g.generation = previous.serving, previous.generation+1
		g.unenforced = previous.unenforced.For(o.Config.unenforcedRoutes())
	} else {
		g.hasher, g.fingerprints, g.lookUps = newSessionHasher(o.Config.Identity.Secret), edge.NewFingerprints(), new(edge.LookUps)
		g.serving = new(atomic.Int64)
		g.unenforced = enforcement.New(o.Config.unenforcedRoutes(), o.Logger)
	}
	if previous != nil && previous.options.MaxVariants == o.MaxVariants {
		g.variants = previous.variants
		return
	}
	g.variants = variants.New(o.MaxVariants, o.IdleTimeout, func(id backends.SessionID) session.Handle { return o.Sessions.Find(id) }, o.Logger)
}

// Close stops the background goroutines. The gateway must not be used afterwards.
func (g *Gateway) Close() { g.CloseBeside(nil) }

// CloseBeside is Close, but spares what the gateway shares with another one, which goes on.
func (g *Gateway) CloseBeside(other *Gateway) {
	if other == nil {
		other = new(Gateway)
	}
	if other.hasher == nil {
		g.hasher.playbackIDs.owners.StopAllGoroutines()
		g.fingerprints.Close()
	}
	g.unenforced.CloseBeside(other.unenforced)
	if other.variants != g.variants {
		g.variants.Close()
	}
	for _, r := range g.routes {
		if !slices.Contains(other.routes, r) {
			r.entries.StopAllGoroutines()
			r.warned.StopAllGoroutines()
		}
	}
}

// TooLongURIs returns how often playlists of each route listed a URI that was not written because of tickets.max_uri.
func (g *Gateway) TooLongURIs() map[string]uint64 {
	counts := map[string]uint64{}
	for _, r := range g.routes {
		counts[r.name] = r.tooLong.Load()
	}
	return counts
}

// Limits returns the limits of its requests.
func (g *Gateway) Limits() LimitsConfig { return g.options.Config.Limits }

// Serving returns how many requests are served now.
func (g *Gateway) Serving() int64 { return g.serving.Load() }

// SigningKey returns the id of the key that signs new tickets.
func (g *Gateway) SigningKey() string { return g.signer.SigningKey() }

// requestContext is the state of one request.
type requestContext struct {
	request        *Request
	target         target
	path           string // of the request, with its reference and without ticket
	viewer         client
	isPlaylist     bool
	hasTicket      bool   // the ticket is valid
	badTicket      string // one that is not, of another channel for example; empty: there is none
	isTicketInPath bool   // a ticket is in the path, so relative URIs inherit it
	sealed         sealedURI
	pathway        reference.Target // of a request that a steering manifest moves
	hasPathway     bool
	credentials    backends.Credentials
	claims         ticket.Claims
	root           backends.SessionID // the ticket's session, if the viewer's is a sibling; zero otherwise
	session        session.Handle
	id             backends.SessionID
	group          credentialGroup
	now            time.Time
	isRefused      bool // the viewer was refused, now or at the playlist, on a route that does not enforce it
}

// begin makes it the context of a request without a target. It is filled in place, because copies are what makes the stack of every
// connection grow to 8 kB.
func (rc *requestContext) begin(req *Request, viewer *client) {
	*rc = requestContext{}
	rc.request, rc.viewer, rc.now = req, *viewer, time.Now()
}

// aim sets the target.
func (rc *requestContext) aim(t *target) { rc.target, rc.isPlaylist = *t, t.isPlaylist() }

// serve answers a request within the limits. It returns an error only if ctx ended before there was anything to answer.
func (g *Gateway) serve(ctx context.Context, req *Request, resp *Response) error {
	text, whole, inPath := ticketInPath(req.Path)
	viewer := clientOf(req, g.trusted)
	sealed, path, name := cutReference(whole)
	rc := &resp.scratch
	rc.begin(req, &viewer)
	t := &rc.target
	found := findTarget(g.routes, viewer.host, path, t)
	switch {
	case !urlpath.IsClean(path), !urlpath.IsClean(name):
		g.rejectUnroutable(http.StatusBadRequest, urlpath.Unclean, req, resp)
		g.encodeRefusal(req, resp)
		return nil
	case !found:
		g.rejectUnroutable(http.StatusNotFound, "no route serves this path and host", req, resp)
		return nil
	case t.route.endpoint != nil:
		return g.serveEdge(ctx, req, viewer, resp)
	}
	g.setCORS(t.route.config.TicketIn, req, resp)
	if answerOtherMethods(req, resp) {
		return nil
	}
	rc.isPlaylist, rc.isTicketInPath, rc.path = t.isPlaylist(), inPath, whole
	g.readTicket(rc, text)
	if sealed != "" {
		rc.sealed.text, rc.sealed.name, rc.isPlaylist = sealed, name, false
		if !g.openReference(rc, &resp.buffer, resp) {
			return nil
		}
	}
	g.openPathway(rc)
	if t.route.config.TicketIn == hls.TicketInNone && rc.role() != hls.Playlist && rc.role() != hls.Document {
		return g.serveMedia(ctx, rc, resp) // only playlists are protected
	}
	if err := g.admit(ctx, rc, resp); err != nil || resp.Status != 0 {
		return err
	}
	return g.serveAdmitted(ctx, rc, resp)
}

// serveAdmitted answers a viewer who may watch.
func (g *Gateway) serveAdmitted(ctx context.Context, rc *requestContext, resp *Response) error {
	if rc.session != nil {
		resp.begin(rc.session)
	}
	switch rc.role() {
	case hls.Playlist:
		return g.servePlaylist(ctx, rc, resp)
	case hls.Document:
		return g.serveDocument(ctx, rc, resp)
	default:
		return g.serveMedia(ctx, rc, resp)
	}
}

// rejectUnroutable refuses a request of which no route is known.
func (g *Gateway) rejectUnroutable(status int, why string, req *Request, resp *Response) {
	g.setCORS(hls.TicketInPath, req, resp)
	resp.refuse(status, why)
}

// answerOtherMethods answers every method but GET and HEAD, and reports whether it did.
func answerOtherMethods(req *Request, resp *Response) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodOptions:
		answerPreflight(req, resp)
	default:
		resp.Set("Allow", "GET, HEAD, OPTIONS")
		resp.refuse(http.StatusMethodNotAllowed, "only GET, HEAD and OPTIONS")
	}
	return true
}

// admit identifies the viewer and reads the decision on them. The response's status stays zero if they are served.
func (g *Gateway) admit(ctx context.Context, rc *requestContext, resp *Response) error {
	before := resp.numFields
	if g.identify(rc, resp) {
		if err := g.authorize(ctx, rc, resp); err != nil {
			return err
		}
	}
	g.countRefusal(rc, resp)
	g.waiveRefusal(rc, resp, before)
	return nil
}

// identify finds the session id by the ticket, else by the credentials, and reports whether it found one. A request
// without either is refused here, before any lookup.
func (g *Gateway) identify(rc *requestContext, resp *Response) bool {
	r := rc.target.route
	if rc.isTicketInPath && !r.acceptsTicketInPath() {
		resp.refuse(http.StatusForbidden, "this route accepts no ticket in the path")
		return false
	}
	switch {
	case rc.hasTicket:
		rc.credentials = g.credentialsBesideTicket(rc)
		return g.bindTicket(rc, resp)
	case rc.isTicketInPath, rc.badTicket != "" && !rc.canOpenSession():
		resp.refuse(http.StatusForbidden, refusalOfTicket(rc.badTicket)+"; open the playlist again")
		return false
	case !rc.canOpenSession():
		resp.refuse(http.StatusForbidden, rc.whyNoSession())
		return false
	}
	rc.credentials = credentialsOf(&rc.target, rc.request, rc.request.Query, g.options.Config.Tickets.Parameter)
	if rc.isRefused && rc.credentials.IsEmpty() {
		resp.refuse(http.StatusForbidden, "the ticket admits nobody, because its viewer was refused; open the playlist with credentials")
		return false
	}
	if name := r.missing(&rc.credentials); name != "" {
		resp.refuse(http.StatusForbidden, rc.whyMissing(name))
		return false
	}
	rc.id = g.sessionOfCredentials(rc)
	return true
}

// canOpenSession reports whether credentials open a session on this path. Behind a reference, and on a pathway, nothing is a
// credential.
func (rc *requestContext) canOpenSession() bool {
	return rc.target.opensSession && rc.sealed.text == "" && !rc.hasPathway && (rc.isPlaylist || rc.target.route.config.CredentialsEverywhere)
}

// authorize reads the decision on the viewer and opens the session if there is none. The response's status stays zero if
// the viewer is allowed.
func (g *Gateway) authorize(ctx context.Context, rc *requestContext, resp *Response) error {
	d, err := g.findOrOpenSession(ctx, rc)
	if err == nil && g.leaveTicket(rc, d) {
		d, err = g.findOrOpenSession(ctx, rc)
	}
	if err != nil {
		return g.rejectUnopened(err, resp)
	}
	rc.session.Seen(rc.now, rc.isPlaylist)
	if !resp.applyDecision(d, rc, g.options.RetryAfter) {
		if over := parseOverload(d.Reason); over != nil && d.Verdict == backends.Pending {
			g.countOverload(over)
		}
		return nil
	}
	if rc.claims.IsZero() {
		rc.claims = g.claimsOf(rc)
	}
	return nil
}

// claimsOf returns what the ticket of a session says that was opened without one.
func (g *Gateway) claimsOf(rc *requestContext) ticket.Claims {
	return ticket.Claims{ID: rc.id, Ticket: rc.session.Ticket(), Tag: g.sessionTag(rc)}
}

// findOrOpenSession sets the viewer's session and returns its decision.
func (g *Gateway) findOrOpenSession(ctx context.Context, rc *requestContext) (*backends.Decision, error) {
	// On a viewer without ticket and credentials a backend decides by their address.
	hasCredentials := !rc.credentials.IsEmpty() || rc.claims.IsZero()
	rc.session = g.options.Sessions.Find(rc.id)
	if rc.session != nil {
		if d := rc.session.Decision(); d != nil && rc.isSettledBy(d, hasCredentials) && rc.isAdmitted() {
			return d, nil
		}
	}
	opening := rc.opening()
	if err := g.variants.Refuse(opening, rc.now); err != nil {
		return nil, err
	}
	s, err := g.options.Sessions.Open(ctx, g.openRequest(rc, hasCredentials))
	if err != nil {
		return nil, err
	}
	rc.session = s
	d := s.Decision()
	g.variants.Opened(opening, d, time.Now())
	if rc.claims.IsZero() && d != nil && d.Verdict == backends.Allowed {
		rc.target.warnOfEntries(g.options.Logger)
	}
	return d, nil
}

// rejectUnopened answers a viewer whose session could not be opened. If the viewer disconnected it returns the error.
func (g *Gateway) rejectUnopened(err error, resp *Response) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	g.shed(err, resp, g.options.RetryAfter)
	return nil
}
