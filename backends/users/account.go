package users

import (
	"net/netip"
	"path"
	"time"

	"usher/backends"
)

// account is one user of the file.
type account struct {
	login    string
	password password // the zero value: none
	enabled  bool
	// expires is the first moment at which the account is none any more; zero: never.
	expires     time.Time
	connections int
	addresses   []netip.Prefix
	channels    []string
}

// maxExpiryValidity is how long a decision holds at most that an expiry bounds, because other things may change as well.
const maxExpiryValidity = time.Minute

// decide decides on a viewer who has proved that the account is his. An expiry counts at the opening, or now if it cuts.
func (a *account) decide(r *backends.Request, proof string, cut bool, now time.Time) backends.Decision {
	at := now
	if !cut && !r.Opened.IsZero() {
		at = r.Opened
	}
	d := localDecision(backends.Denied, proof)
	d.UserID, d.User = a.login, a.login
	switch {
	case !a.enabled:
		d.Reason = "the account is disabled"
	case !a.expires.IsZero() && !at.Before(a.expires):
		d.Reason = "the account has expired"
	case len(a.addresses) > 0 && !a.hasAddress(r.Address):
		d.Reason = "the account is for other addresses"
	case len(a.channels) > 0 && !a.hasChannel(r.Channel):
		d.Reason = "the account is for other channels"
	default:
		d.Verdict, d.MaxSessions = backends.Allowed, a.connections
		if cut && !a.expires.IsZero() {
			d.ValidFor = min(a.expires.Sub(now), maxExpiryValidity)
		}
	}
	return d
}

// hasAddress reports whether the address is one of the account's. Nobody's is in no network.
func (a *account) hasAddress(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	for _, network := range a.addresses {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

func (a *account) hasChannel(channel string) bool {
	for _, pattern := range a.channels {
		if ok, _ := path.Match(pattern, channel); ok { // the pattern is valid
			return true
		}
	}
	return false
}

func localDecision(v backends.Verdict, reason string) backends.Decision {
	return backends.Decision{Verdict: v, Source: backends.FromLocal, Reason: reason}
}
