package users

import (
	"net/netip"
	"time"

	"usher/backends"
	"usher/backends/setting"
)

// account is one user of the file.
type account struct {
	login    string
	password password // the zero value: none
	enabled  bool
	// expires is the first moment at which the account is no longer valid; zero: never.
	expires     time.Time
	connections int // at once; 0: unlimited
	addresses   []netip.Prefix
	channels    []string
}

// maxExpiryValidity bounds the validity of a decision that ends with an expiry, because the account may change before.
const maxExpiryValidity = time.Minute

// decide decides on a viewer with valid credentials of the account. The expiry applies to the opening, or to now if it
// cuts sessions. reason is that of an allowed decision.
func (a *account) decide(r *backends.Request, reason string, cutExpired bool, now time.Time) backends.Decision {
	at := now
	if !cutExpired && !r.TokenTime.IsZero() {
		at = r.TokenTime
	}
	d := backends.LocalDecision(backends.Denied, reason)
	d.UserID, d.User = a.login, a.login
	switch {
	case !a.enabled:
		d.Reason = "account is disabled"
	case !a.expires.IsZero() && !at.Before(a.expires):
		d.Reason = "account has expired"
	case len(a.addresses) > 0 && !a.hasAddress(r.Address):
		d.Reason = "account is for other addresses"
	case len(a.channels) > 0 && !setting.MatchesChannel(a.channels, r.Channel):
		d.Reason = "account is for other channels"
	default:
		d.Verdict, d.MaxSessions = backends.Allowed, int32(a.connections) // at most maxConnections
		if cutExpired && !a.expires.IsZero() {
			d.ValidFor = min(a.expires.Sub(now), maxExpiryValidity)
		}
	}
	return d
}

// hasAddress reports whether one of the account's networks contains the address. An unknown address is in no network.
func (a *account) hasAddress(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, network := range a.addresses {
		if network.Contains(address) {
			return true
		}
	}
	return false
}
