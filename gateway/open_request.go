package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/ticket"
	"usher/gateway/urlpath"
)

// NewAddressPolicy is what a ticket opens that is used from another address than the one for which it was issued.
type NewAddressPolicy uint8

// The policies. CheckNewAddress is the default.
const (
	// CheckNewAddress opens a session of the new address, which the backend is asked about.
	CheckNewAddress NewAddressPolicy = iota
	// ShareSession gives all addresses that show the same credentials, or a ticket of them, one session and one decision.
	ShareSession
	// RefuseNewAddress refuses the ticket.
	RefuseNewAddress
	numNewAddressPolicies
)

// String returns the policy as the config spells it.
func (p NewAddressPolicy) String() string { return [...]string{"check", "share", "refuse"}[p] }

// MarshalText returns the policy as the config spells it.
func (p NewAddressPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText parses a policy as the config spells it.
func (p *NewAddressPolicy) UnmarshalText(text []byte) error {
	for candidate := range numNewAddressPolicies {
		if candidate.String() == string(text) {
			*p = candidate
			return nil
		}
	}
	return fmt.Errorf("on_new_address %q: want check, share or refuse", text)
}

// sessionPrefix returns the prefix to which the session of a viewer with these credentials belongs; zero: to all of them.
func (r *route) sessionPrefix(c *backends.Credentials, address netip.Addr) netip.Prefix {
	if r.config.OnNewAddress == ShareSession && !c.IsEmpty() {
		return netip.Prefix{}
	}
	return backends.SubscriberPrefix(address)
}

// bindTicket finds the session of a valid ticket at the viewer's address: the ticket's own session, the root, or its sibling
// there. If the route refuses new addresses it answers, and reports false. The ticket tells which address is its own.
func (g *Gateway) bindTicket(rc *requestContext, resp *Response) bool {
	policy := rc.target.route.config.OnNewAddress
	rc.id = rc.claims.ID
	if policy == ShareSession {
		return true
	}
	tag := g.hasher.tag(backends.SubscriberPrefix(rc.viewer.address))
	switch {
	case tag == rc.claims.Tag:
		return true
	case policy == RefuseNewAddress && tag.IsIPv6() == rc.claims.Tag.IsIPv6():
		resp.refuse(http.StatusForbidden, backends.ReasonNewAddress)
		return false
	}
	rc.id, rc.root = g.hasher.sibling(rc.claims.ID, rc.claims.Tag, tag), rc.claims.ID
	return true
}

// openRequest returns what opens the viewer's session.
func (g *Gateway) openRequest(rc *requestContext, hasCredentials bool) session.OpenRequest {
	o := session.OpenRequest{
		Request:        g.newBackendRequest(rc),
		HasCredentials: hasCredentials,
		Ticket:         rc.claims.Ticket,
		Root:           rc.root,
		ExtraLifetime:  rc.target.route.extraLifetime(),
	}
	switch rc.target.route.config.OnNewAddress {
	case ShareSession:
		own := rc.claims.Tag
		if rc.claims.IsZero() {
			own = g.sessionTag(rc)
		}
		o.AddressID = g.hasher.sibling(rc.id, own, g.hasher.tag(backends.SubscriberPrefix(rc.viewer.address)))
	case RefuseNewAddress:
		o.MaxAddresses = 1 // of each family
	}
	return o
}

// sessionTag returns the tag of the session that a viewer's credentials open.
func (g *Gateway) sessionTag(rc *requestContext) ticket.Tag {
	return g.hasher.tag(rc.target.route.sessionPrefix(&rc.credentials, rc.viewer.address))
}

// isAdmitted reports whether the viewer's address may use the session without opening it.
func (rc *requestContext) isAdmitted() bool {
	return rc.target.route.config.OnNewAddress != ShareSession ||
		rc.session.Admit(backends.SubscriberPrefix(rc.viewer.address), rc.now)
}

// BackendRequest returns what a backend would be asked about a viewer without a ticket, here or at an edge. channel is the
// edge's own name of the channel, or empty. The error says why no backend would be asked.
func (g *Gateway) BackendRequest(req *Request, channel string) (*backends.Request, error) {
	if !urlpath.IsClean(req.Path) {
		return nil, errors.New(urlpath.Unclean)
	}
	viewer := clientOf(req, g.trusted)
	t, found := g.viewerTarget(req, viewer, channel)
	if !found {
		return nil, errors.New("no route serves this path and host")
	}
	var rc requestContext
	rc.begin(req, &viewer)
	rc.aim(&t)
	if e := t.route.endpoint; e != nil {
		rc.isPlaylist = rc.isPlaylist || e.Dialect().KeepsSessions()
	}
	if !rc.canOpenSession() {
		return nil, errors.New("only playlists open sessions; other requests are refused without a check")
	}
	rc.credentials = credentialsOf(&t, req, req.Query, g.options.Config.Tickets.Parameter)
	if name := t.route.missing(&rc.credentials); name != "" {
		return nil, fmt.Errorf("the credential %s is missing, so the viewer is refused without a check", name)
	}
	g.useCredentials(&rc)
	return g.newBackendRequest(&rc), nil
}

// viewerTarget returns the target of a viewer's request, here or at an edge.
func (g *Gateway) viewerTarget(req *Request, viewer client, channel string) (target, bool) {
	q := edge.CheckRequest{Host: viewer.host, Path: req.Path, Channel: channel}
	for _, r := range g.routes {
		if r.endpoint != nil {
			if t, found := r.edgeTarget(&q); found {
				return t, true
			}
			continue
		}
		if t := (target{path: req.Path}); r.servesHost(viewer.host) && t.matchFrom(r, 0) {
			return t, true
		}
	}
	return target{}, false
}

// newBackendRequest returns what a backend is asked about the viewer.
func (g *Gateway) newBackendRequest(rc *requestContext) *backends.Request {
	t := &rc.target
	return &backends.Request{
		Session: rc.id,
		Route:   t.route.name, Channel: t.channel, Backend: rc.backend(),
		Query: rc.credentials.Query, Headers: rc.credentials.Headers,
		Group:  g.groupOf(rc),
		Device: rc.device(),
		Path:   t.path, Scheme: rc.viewer.scheme, Host: rc.viewer.host, Address: rc.viewer.address,
		UserAgent: rc.request.Header.Get("User-Agent"), Referer: rc.request.Header.Get("Referer"),
		Edge: rc.edgeReport(),
	}
}

// edgeReport returns what the edge reported that asks about the viewer, or nil.
func (rc *requestContext) edgeReport() *backends.EdgeReport {
	if rc.request.edgeCheck == nil {
		return nil
	}
	c := rc.target.route.config.Edge
	return rc.request.edgeCheck.Report(c.Dialect, c.SessionID)
}

// backend returns the name of the backend that decides on the viewer.
func (rc *requestContext) backend() string {
	c := &rc.target.route.config
	if rc.request.isPublish {
		return c.Edge.PublishBackend
	}
	return c.Backend
}

// device returns the viewer's device fields, each behind its length, so that no two devices give the same text. It is
// empty if the viewer shows none of them.
func (rc *requestContext) device() string {
	fields := rc.target.route.devices
	if len(fields) == 0 {
		return ""
	}
	var parts []byte
	hasAny := false
	for _, field := range fields {
		value := backends.UnescapeQuery(parameter(rc.request.Query, field.parameter))
		if value == "" {
			value = rc.request.Header.Get(field.header)
		}
		hasAny = hasAny || value != ""
		parts = backends.AppendField(parts, value)
	}
	if !hasAny {
		return ""
	}
	return string(parts)
}
