package gateway

import (
	"fmt"
	"net/http"
	"net/netip"

	"usher/actors/session"
	"usher/backends"
	"usher/gateway/edge"
	"usher/gateway/ticket"
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

// recordGroup remembers which session plays with the viewer's credentials, if a playlist shows them. Beside a ticket they may be others
// than those that were checked.
func (g *Gateway) recordGroup(rc *requestContext) {
	if rc.credentials.IsEmpty() || !rc.isPlaylist || rc.target.route.endpoint.Dialect().KeepsSessions() {
		return
	}
	group := g.groupOf(rc)
	if rc.hasTicket && (rc.session == nil || rc.session.Request().Group != group) {
		return
	}
	g.fingerprints.Record(g.fingerprints.OfGroup(group), rc.id, rc.now)
}

// playsElsewhere reports whether the node has seen the same credentials play at another address, in the path's folder or one
// above it. Then it sets the session that they open here.
func (g *Gateway) playsElsewhere(rc *requestContext) bool {
	if rc.target.route.config.OnNewAddress == RefuseNewAddress {
		return false
	}
	plays := func(t *target) bool {
		var ids [edge.MaxSessionsPerFingerprint]backends.SessionID
		group := g.fingerprints.OfGroup(g.hasher.groupID(t, &rc.credentials, rc.request))
		_, s := newestAllowed(g.fingerprints.AppendSessions(ids[:0], group), g.options.Sessions.Find)
		return s != nil && s.Decision().Verdict == backends.Allowed
	}
	for above := range rc.target.above() {
		if plays(&above) {
			rc.target = above
			g.useCredentials(rc)
			return true
		}
	}
	return plays(&rc.target)
}
