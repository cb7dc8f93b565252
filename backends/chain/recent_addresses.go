package chain

import (
	"net/netip"
	"time"
)

// sighting is when an address did something last.
type sighting struct {
	address netip.Prefix
	at      time.Time
}

// recentAddresses holds the subscriber prefixes that did something last, the latest first, each once. The zero value has
// none. It is not safe for concurrent use.
type recentAddresses [3]sighting

// record notes that the address did it now.
func (r *recentAddresses) record(address netip.Prefix, now time.Time) {
	last := 0
	for last < len(r)-1 && !r[last].at.IsZero() && r[last].address != address {
		last++
	}
	copy(r[1:last+1], r[:last])
	r[0] = sighting{address, now}
}

// since returns how many addresses did it at or after that time, up to three.
func (r *recentAddresses) since(start time.Time) int {
	n := 0
	for _, s := range r {
		if !s.at.IsZero() && !s.at.Before(start) {
			n++
		}
	}
	return n
}

// has reports whether the address did it after that time.
func (r *recentAddresses) has(address netip.Prefix, start time.Time) bool {
	for _, s := range r {
		if s.address == address && s.at.After(start) {
			return true
		}
	}
	return false
}

// hasOther reports whether another address did it at or after that time.
func (r *recentAddresses) hasOther(address netip.Prefix, start time.Time) bool {
	for _, s := range r {
		if !s.at.IsZero() && s.address != address && !s.at.Before(start) {
			return true
		}
	}
	return false
}
