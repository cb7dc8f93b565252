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
	// MaxAddressesPerSession is how many address prefixes may share a session; RetryAfter when a viewer on whom nobody could
	// decide is asked to come back.
	MaxAddresses int
	RetryAfter   time.Duration
	Logger       *slog.Logger
}

// Gateway answers viewers, and edges that ask about theirs. It is safe for concurrent use.
type Gateway struct {
	o          Options
	routes     []*route
	ring       *keyring
	identifier *identifier
	trusted    []netip.Prefix
	listed     *listings
	recognised recognised
	asks       sync.Pool // of *edgeAsk
	isEdge     func(netip.Addr) bool
}

// New makes a gateway of a valid config.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		o: o, ring: newKeyring(o.Config.Tickets.Keys), identifier: newIdentifier(o.Config.Identity.Secret),
		trusted: o.Config.TrustedProxies, listed: newListings(), recognised: newRecognised(),
	}
	g.asks.New = func() any { return new(edgeAsk) }
	g.isEdge = g.listsEdge // made once, as it is an allocation
	for i, c := range o.Config.Routes {
		r, err := newRoute(c, o.Origins[c.Origin])
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
		g.routes = append(g.routes, r)
		if r.door != nil {
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
	g.recognised.close()
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

func visitOf(v *View, t target, who client) visit {
	return visit{view: v, target: t, who: who, isPlaylist: isPlaylist(t.path), now: time.Now()}
}

// Serve answers one request. It returns an error only if the viewer went away, when there is nothing to answer.
func (g *Gateway) Serve(ctx context.Context, v *View, a *Answer) error {
	text, path, inPath := ticketInPath(v.Path)
	if !cleanPath(path) {
		g.cors(hls.TicketInPath, v, a)
		a.refuse(http.StatusBadRequest, unclean)
		g.reword(v, a)
		return nil
	}
	who := clientOf(v, g.trusted)
	t, found := findTarget(g.routes, who.host, path)
	if !found {
		g.cors(hls.TicketInPath, v, a)
		a.refuse(http.StatusNotFound, "no route for this path and host")
		return nil
	}
	if t.route.door != nil {
		return g.serveEdge(ctx, v, who, a)
	}
	g.cors(t.route.config.TicketIn, v, a)
	switch v.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		preflight(v, a)
		return nil
	default:
		a.set("Allow", "GET, HEAD, OPTIONS")
		a.refuse(http.StatusMethodNotAllowed, "only GET, HEAD and OPTIONS")
		return nil
	}
	visit := &a.visit
	*visit = visitOf(v, t, who)
	visit.underTicket = inPath
	if !visit.isPlaylist && t.route.config.TicketIn == hls.TicketInNone {
		return g.serveMedia(ctx, visit, a) // only playlists are protected
	}
	if !g.identify(visit, text, a) {
		return nil
	}
	if err := g.authorize(ctx, visit, a); err != nil || a.Status != 0 {
		return err
	}
	a.session = visit.session
	if visit.isPlaylist {
		return g.servePlaylist(ctx, visit, a)
	}
	return g.serveMedia(ctx, visit, a)
}

// identify says who the viewer is, by his ticket or else by his credentials. Who shows neither is refused here, before
// anything is looked up.
func (g *Gateway) identify(v *visit, ticket string, a *Answer) bool {
	r := v.target.route
	if v.underTicket && !r.carriesInPath() {
		a.refuse(http.StatusForbidden, "tickets of this route do not stand in the path")
		return false
	}
	if !v.underTicket {
		ticket = ticketElsewhere(&v.target, v.view, &g.o.Config.Tickets)
	}
	if ticket != "" || v.underTicket {
		v.claims, v.byTicket = g.verify(ticket, &v.target)
	}
	switch {
	case v.byTicket:
		v.id = v.claims.id
		v.credentials = g.credentialsBesideTicket(v)
		return true
	case v.underTicket:
		a.refuse(http.StatusForbidden, "the ticket is not one of ours for this channel")
		return false
	case !v.mayOpen():
		a.refuse(http.StatusForbidden, "no ticket; only playlists open sessions")
		return false
	}
	v.credentials = credentialsOf(&v.target, v.view, v.view.Query, g.o.Config.Tickets.QueryParameter)
	if name := r.missing(&v.credentials); name != "" {
		a.refuse(http.StatusForbidden, "the credential "+name+" is missing")
		return false
	}
	v.id = g.identifier.sessionID(&v.target, &v.credentials, v.view, v.who, 0)
	return true
}

// mayOpen reports whether credentials count for what the viewer asks for.
func (v *visit) mayOpen() bool {
	return v.target.opens && (v.isPlaylist || v.target.route.config.CredentialsEverywhere)
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
func (g *Gateway) credentialsBesideTicket(v *visit) backends.Credentials {
	if !v.mayOpen() {
		return backends.Credentials{}
	}
	query := v.view.Query
	if query != "" {
		query = withoutPairs(query, g.originQuery(v, v.target.originPath()))
	}
	c := credentialsOf(&v.target, v.view, query, g.o.Config.Tickets.QueryParameter)
	if v.target.route.missing(&c) != "" {
		return backends.Credentials{}
	}
	return c
}

// authorize reads the decision on the viewer, opening his session if nobody has. The answer's status stays zero if he may
// have what he asked for.
func (g *Gateway) authorize(ctx context.Context, v *visit, a *Answer) error {
	d, err := g.decision(ctx, v)
	if err != nil {
		return g.undecided(err, a)
	}
	prefix := prefixOf(v.who.address)
	if !v.session.Admit(prefix, v.now, g.o.MaxAddresses) {
		if v.credentials.IsEmpty() {
			a.refuse(http.StatusForbidden, "the ticket is used from too many addresses; credentials are needed")
			return nil
		}
		// The excess viewer is a session of his own, with a ticket of his own.
		v.id = g.identifier.sessionID(&v.target, &v.credentials, v.view, v.who, prefix)
		v.claims, v.byTicket, v.underTicket = claims{}, false, false
		if !v.mayOpen() && g.o.Sessions.Find(v.id) == nil {
			a.refuse(http.StatusForbidden, "used from too many addresses; only playlists open sessions")
			return nil
		}
		if d, err = g.decision(ctx, v); err != nil {
			return g.undecided(err, a)
		}
		v.session.Admit(prefix, v.now, g.o.MaxAddresses)
	}
	v.session.Seen(v.now, v.isPlaylist)
	if !a.decided(d, v.isPlaylist, g.o.RetryAfter) {
		return nil
	}
	if v.claims.IsZero() {
		v.claims = claims{id: v.id, Ticket: v.session.Ticket()}
	}
	return nil
}

// decision finds the viewer's session and what it stands on.
func (g *Gateway) decision(ctx context.Context, v *visit) (*backends.Decision, error) {
	// A viewer without ticket and credentials is one that a backend decides on by his address.
	known := !v.credentials.IsEmpty() || v.claims.IsZero()
	v.session = g.o.Sessions.Find(v.id)
	if v.session != nil {
		d := v.session.Decision()
		// A session known by its ticket alone can be asked about once credentials turn up.
		if d != nil && (d.Source != backends.FromTicket || !known) {
			return d, nil
		}
	}
	s, err := g.o.Sessions.Open(ctx, session.OpenRequest{
		Request:        g.question(v),
		HasCredentials: known,
		Ticket:         v.claims.Ticket,
		ExtraLifetime:  v.target.route.margin(),
	})
	if err != nil {
		return nil, err
	}
	v.session = s
	return s.Decision(), nil
}

// question is what a backend would be asked about the viewer.
func (g *Gateway) question(v *visit) *backends.Request {
	t := &v.target
	return &backends.Request{
		Session: v.id,
		Route:   t.route.name, Channel: t.channel, Backend: v.backend(),
		Query: v.credentials.Query, Headers: v.credentials.Headers,
		Device: v.device(),
		Path:   t.path, Scheme: v.who.scheme, Host: v.who.host, Address: v.who.address,
		UserAgent: v.view.Header.Get("User-Agent"), Referer: v.view.Header.Get("Referer"),
	}
}

// device is what the viewer shows of what the route tells a user's devices apart by, each part behind its length, so that
// no two devices read the same.
func (v *visit) device() string {
	names := v.target.route.config.DeviceFields
	if len(names) == 0 {
		return ""
	}
	var parts []byte
	shown := false
	for _, name := range names {
		value := backends.UnescapeQuery(parameter(v.view.Query, name))
		if value == "" {
			value = v.view.Header.Get(name)
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
func (g *Gateway) undecided(err error, a *Answer) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	a.comeBack(g.o.RetryAfter, err.Error())
	return nil
}
