package gateway

import (
	"fmt"
	"net/http"
	"net/netip"

	"usher/actors/session"
	"usher/backends"
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
// there. If the route refuses new addresses it answers, and reports false. The address of a root that lives on this node is
// known; otherwise the ticket tells.
func (g *Gateway) bindTicket(rc *requestContext, resp *Response) bool {
	policy := rc.target.route.config.OnNewAddress
	rc.id = rc.claims.ID
	if policy == ShareSession {
		return true
	}
	prefix := backends.SubscriberPrefix(rc.viewer.address)
	if s := g.options.Sessions.Find(rc.id); s != nil && backends.SubscriberPrefix(s.Request().Address) == prefix {
		return true
	}
	sibling, tag := g.hasher.sibling(rc.id, prefix)
	switch {
	case tag == rc.claims.Tag:
		return true
	case policy == RefuseNewAddress && tag.IsIPv6() == rc.claims.Tag.IsIPv6():
		resp.refuse(http.StatusForbidden, "the ticket was issued for another address, and on_new_address of this route is refuse; open the playlist again")
		return false
	}
	rc.id, rc.root = sibling, rc.claims.ID
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
		o.AddressID, _ = g.hasher.sibling(rc.id, backends.SubscriberPrefix(rc.viewer.address))
	case RefuseNewAddress:
		o.MaxAddresses = 1 // of each family
	}
	return o
}

// isAdmitted reports whether the viewer's address may use the session without opening it.
func (rc *requestContext) isAdmitted() bool {
	return rc.target.route.config.OnNewAddress != ShareSession ||
		rc.session.Admit(backends.SubscriberPrefix(rc.viewer.address), rc.now)
}
