package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/hls"
	"usher/gateway/origin"
)

// Session is what the gateway needs of a live session.
type Session interface {
	// Decision is what holds now, or nil while nobody has decided.
	Decision() *backends.Decision
	// Ticket is what the session's tickets say.
	Ticket() session.Ticket
	// Seen notes a request, for a playlist or not, and Sent the bytes that it got.
	Seen(now time.Time, playlist bool)
	Sent(n int64)
	// Admit reports whether a viewer of that address prefix may use the session, of which no more than limit share it.
	Admit(prefix uint64, now time.Time, limit int) bool
	// Expires is when the decision is to be renewed.
	Expires() time.Time
}

// Sessions finds and opens sessions.
type Sessions interface {
	// Find returns the live session of that id, or nil. It neither locks nor allocates.
	Find(id backends.SessionID) Session
	// Open returns the session with its first decision taken. It returns *backends.Overload, an error of its own when
	// the node shuts down, or ctx's.
	Open(ctx context.Context, a session.OpenRequest) (Session, error)
}

// Options are what a Gateway needs. All are required.
type Options struct {
	Config   Config
	Sessions Sessions
	// Origins are the fetchers by name, one for each of Config.Origins.
	Origins map[string]*origin.Origin
	// MaxAddresses is how many address prefixes may share a session; RetryAfter when a viewer on whom nobody could
	// decide is asked to come back.
	MaxAddresses int
	RetryAfter   time.Duration
	Logger       *slog.Logger
}

// Gateway answers viewers, and edges that ask about theirs. It is safe for concurrent use.
type Gateway struct {
	o            Options
	routes       []*route
	ring         *keyring
	identifier   *identifier
	trusted      networks
	listed       *listings
	endpoints    edge.Endpoints
	fingerprints *edge.Fingerprints
	edgeChecks   sync.Pool // of *edgeCheck
	isEdge       func(netip.Addr) bool
}

// New makes a gateway of a valid config.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		o: o, ring: newKeyring(o.Config.Tickets.Keys), identifier: newIdentifier(o.Config.Identity.Secret),
		trusted: o.Config.TrustedProxies, listed: newListings(), fingerprints: edge.NewFingerprints(),
	}
	g.edgeChecks.New = func() any { return new(edgeCheck) }
	g.isEdge = g.listsEdge // made once, as it is an allocation
	for i, c := range o.Config.Routes {
		r, err := newRoute(c, o.Origins[c.Origin])
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
		g.routes = append(g.routes, r)
		if r.endpoint != nil {
			g.endpoints = append(g.endpoints, r.endpoint)
			continue
		}
		urls, err := o.Config.Origins[c.Origin].URLs()
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("origins.%s.url: %w", c.Origin, err)
		}
		r.setSources(urls)
	}
	return g, nil
}

// URLs are the origin's addresses, the preferred one first.
func (c *OriginConfig) URLs() ([]*url.URL, error) {
	var urls []*url.URL
	for _, text := range append([]string{c.URL}, c.Fallback...) {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// Close ends what runs in the background. The gateway must not be used afterwards.
func (g *Gateway) Close() {
	g.identifier.playbacks.owners.StopAllGoroutines()
	g.listed.queries.StopAllGoroutines()
	g.listed.channels.StopAllGoroutines()
	g.fingerprints.Close()
}

// SigningKey is the id of the key that signs new tickets.
func (g *Gateway) SigningKey() string { return g.ring.signing.id }

// visit is one request on its way through the gateway.
type visit struct {
	view        *View
	target      target
	who         client
	isPlaylist  bool
	byTicket    bool // the ticket is one of ours
	underTicket bool // it stood in the path, so that relative URIs inherit it
	credentials backends.Credentials
	claims      claims
	session     Session
	id          backends.SessionID
	now         time.Time
}

func visitOf(req *View, t target, viewer client) visit {
	return visit{view: req, target: t, who: viewer, isPlaylist: isPlaylist(t.path), now: time.Now()}
}

// Serve answers one request. It returns an error only if the viewer went away, when there is nothing to answer.
func (g *Gateway) Serve(ctx context.Context, req *View, resp *Answer) error {
	text, path, inPath := ticketInPath(req.Path)
	if !cleanPath(path) {
		g.cors(hls.TicketInPath, req, resp)
		resp.refuse(http.StatusBadRequest, unclean)
		g.encodeRefusal(req, resp)
		return nil
	}
	viewer := clientOf(req, g.trusted)
	t, found := findTarget(g.routes, viewer.host, path)
	if !found {
		g.cors(hls.TicketInPath, req, resp)
		resp.refuse(http.StatusNotFound, "no route for this path and host")
		return nil
	}
	if t.route.endpoint != nil {
		return g.serveEdge(ctx, req, viewer, resp)
	}
	g.cors(t.route.config.TicketIn, req, resp)
	switch req.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		preflight(req, resp)
		return nil
	default:
		resp.set("Allow", "GET, HEAD, OPTIONS")
		resp.refuse(http.StatusMethodNotAllowed, "only GET, HEAD and OPTIONS")
		return nil
	}
	rc := &resp.visit
	*rc = visitOf(req, t, viewer)
	rc.underTicket = inPath
	if !rc.isPlaylist && t.route.config.TicketIn == hls.TicketInNone {
		return g.serveMedia(ctx, rc, resp) // only playlists are protected
	}
	if !g.identify(rc, text, resp) {
		return nil
	}
	if err := g.authorize(ctx, rc, resp); err != nil || resp.Status != 0 {
		return err
	}
	resp.session = rc.session
	if rc.isPlaylist {
		return g.servePlaylist(ctx, rc, resp)
	}
	return g.serveMedia(ctx, rc, resp)
}

// identify says who the viewer is, by his ticket or else by his credentials. Who shows neither is refused here, before
// anything is looked up.
func (g *Gateway) identify(rc *visit, ticket string, resp *Answer) bool {
	r := rc.target.route
	if rc.underTicket && !r.carriesInPath() {
		resp.refuse(http.StatusForbidden, "tickets of this route do not stand in the path")
		return false
	}
	if !rc.underTicket {
		ticket = ticketElsewhere(&rc.target, rc.view, &g.o.Config.Tickets)
	}
	if ticket != "" || rc.underTicket {
		rc.claims, rc.byTicket = g.verify(ticket, &rc.target)
	}
	switch {
	case rc.byTicket:
		rc.id = rc.claims.id
		rc.credentials = g.credentialsBesideTicket(rc)
		return true
	case rc.underTicket:
		resp.refuse(http.StatusForbidden, "the ticket is not one of ours for this channel")
		return false
	case !rc.mayOpen():
		resp.refuse(http.StatusForbidden, "no ticket; only playlists open sessions")
		return false
	}
	rc.credentials = credentialsOf(&rc.target, rc.view, rc.view.Query, g.o.Config.Tickets.Parameter)
	if name := r.missing(&rc.credentials); name != "" {
		resp.refuse(http.StatusForbidden, "the credential "+name+" is missing")
		return false
	}
	rc.id = g.identifier.sessionID(&rc.target, &rc.credentials, rc.view, rc.who, 0)
	return true
}

// mayOpen reports whether credentials count for what the viewer asks for.
func (rc *visit) mayOpen() bool {
	return rc.target.opens && (rc.isPlaylist || rc.target.route.config.CredentialsEverywhere)
}

// verify reads a ticket for the target. Places of a route may overlap, as "/live/{user}/{password}/{channel}.m3u8" and
// "/live/{channel}/*" do: then the ticket tells which one is meant.
func (g *Gateway) verify(ticket string, t *target) (claims, bool) {
	for here, more := *t, true; more; more = here.nextPlace() {
		if c, ok := g.ring.verify(ticket, scope{here.route.name, here.channel}); ok {
			*t = here
			return c, true
		}
	}
	return claims{}, false
}

// credentialsBesideTicket are what a viewer with a ticket shows as well: enough to ask a backend about him, or none.
// What a playlist listed is the origin's, though it may look like a credential.
func (g *Gateway) credentialsBesideTicket(rc *visit) backends.Credentials {
	if !rc.mayOpen() {
		return backends.Credentials{}
	}
	query := rc.view.Query
	if query != "" {
		query = withoutPairs(query, g.originQuery(rc, rc.target.originPath()))
	}
	c := credentialsOf(&rc.target, rc.view, query, g.o.Config.Tickets.Parameter)
	if rc.target.route.missing(&c) != "" {
		return backends.Credentials{}
	}
	return c
}

// authorize reads the decision on the viewer, opening his session if nobody has. The answer's status stays zero if he may
// have what he asked for.
func (g *Gateway) authorize(ctx context.Context, rc *visit, resp *Answer) error {
	d, err := g.decision(ctx, rc)
	if err != nil {
		return g.undecided(err, resp)
	}
	prefix := prefixOf(rc.who.address)
	if !rc.session.Admit(prefix, rc.now, g.o.MaxAddresses) {
		if rc.credentials.IsEmpty() {
			resp.refuse(http.StatusForbidden, "the ticket is used from too many addresses; credentials are needed")
			return nil
		}
		// The excess viewer is a session of his own, with a ticket of his own.
		rc.id = g.identifier.sessionID(&rc.target, &rc.credentials, rc.view, rc.who, prefix)
		rc.claims, rc.byTicket, rc.underTicket = claims{}, false, false
		if !rc.mayOpen() && g.o.Sessions.Find(rc.id) == nil {
			resp.refuse(http.StatusForbidden, "used from too many addresses; only playlists open sessions")
			return nil
		}
		if d, err = g.decision(ctx, rc); err != nil {
			return g.undecided(err, resp)
		}
		rc.session.Admit(prefix, rc.now, g.o.MaxAddresses)
	}
	rc.session.Seen(rc.now, rc.isPlaylist)
	if !resp.decided(d, rc.isPlaylist, g.o.RetryAfter) {
		return nil
	}
	if rc.claims.IsZero() {
		rc.claims = claims{id: rc.id, Ticket: rc.session.Ticket()}
	}
	return nil
}

// decision finds the viewer's session and what it stands on.
func (g *Gateway) decision(ctx context.Context, rc *visit) (*backends.Decision, error) {
	// A viewer without ticket and credentials is one that a backend decides on by his address.
	known := !rc.credentials.IsEmpty() || rc.claims.IsZero()
	rc.session = g.o.Sessions.Find(rc.id)
	if rc.session != nil {
		d := rc.session.Decision()
		// A session known by its ticket alone can be asked about once credentials turn up.
		if d != nil && (d.Source != backends.FromTicket || !known) {
			return d, nil
		}
	}
	s, err := g.o.Sessions.Open(ctx, session.OpenRequest{
		Request:        g.question(rc),
		HasCredentials: known,
		Ticket:         rc.claims.Ticket,
		ExtraLifetime:  rc.target.route.margin(),
	})
	if err != nil {
		return nil, err
	}
	rc.session = s
	return s.Decision(), nil
}

// question is what a backend would be asked about the viewer.
func (g *Gateway) question(rc *visit) *backends.Request {
	t := &rc.target
	return &backends.Request{
		Session: rc.id,
		Route:   t.route.name, Channel: t.channel, Backend: rc.backend(),
		Query: rc.credentials.Query, Headers: rc.credentials.Headers,
		Device: rc.device(),
		Path:   t.path, Scheme: rc.who.scheme, Host: rc.who.host, Address: rc.who.address,
		UserAgent: rc.view.Header.Get("User-Agent"), Referer: rc.view.Header.Get("Referer"),
	}
}

// backend is who decides on the viewer.
func (rc *visit) backend() string {
	c := &rc.target.route.config
	if rc.view.publishes {
		return c.Edge.PublishBackend
	}
	return c.Backend
}

// device is what the viewer shows of what the route tells a user's devices apart by, each part behind its length, so that
// no two devices read the same.
func (rc *visit) device() string {
	names := rc.target.route.config.DeviceFields
	if len(names) == 0 {
		return ""
	}
	var parts []byte
	shown := false
	for _, name := range names {
		value := backends.UnescapeQuery(parameter(rc.view.Query, name))
		if value == "" {
			value = rc.view.Header.Get(name)
		}
		shown = shown || value != ""
		parts = backends.AppendField(parts, value)
	}
	if !shown {
		return ""
	}
	return string(parts)
}

// undecided answers a viewer whose session could not be opened. If he went away himself there is nothing to answer.
func (g *Gateway) undecided(err error, resp *Answer) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	resp.comeBack(g.o.RetryAfter, err.Error())
	return nil
}
