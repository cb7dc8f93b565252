package gateway

import (
	"fmt"
	"net/netip"

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
