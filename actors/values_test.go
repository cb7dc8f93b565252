package actors

import (
	"net/netip"
	"time"

	"usher/actors/session"
	"usher/backends"
)

// t0 is when the sessions of these tests open.
func t0() time.Time { return time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC) }

func in(d time.Duration) time.Time { return t0().Add(d) }

// prefixOf returns the subscriber prefix of that number.
func prefixOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), 32)
}

// plainPolicy returns a policy whose times count from t0.
func plainPolicy() sessionPolicy {
	return sessionPolicy{Policy: session.Policy{Start: t0(), IdleTimeout: time.Minute}}
}

func allowedDecision() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromBackend, UserID: "17", User: "Ann"}
}

func deniedDecision() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromBackend, Reason: "not paid"}
}

func cachedDecision() backends.Decision {
	return backends.Decision{Verdict: backends.Allowed, Source: backends.FromCached, UserID: "17", User: "Ann"}
}

func policyDenial() backends.Decision {
	return backends.Decision{Verdict: backends.Denied, Source: backends.FromFailOpen}
}
