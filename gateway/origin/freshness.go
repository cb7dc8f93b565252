package origin

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxFresh bounds the freshness that an origin can state, so that sums of times cannot overflow.
const maxFresh = 365 * 24 * time.Hour

// lifetime is what an origin's header says about caching a media object (RFC 9111).
type lifetime struct {
	isStorable bool
	// fresh is the remaining freshness; it may be zero or negative.
	fresh time.Duration
	// age is the Age of the object when it arrived.
	age time.Duration
	// mustRevalidate forbids to serve the object stale, even if the origin fails.
	mustRevalidate bool
}

// mediaLifetime reads the header as a shared cache does. fallback is the freshness if the header states none.
func mediaLifetime(h http.Header, now time.Time, fallback time.Duration) lifetime {
	d := parseDirectives(h.Values("Cache-Control"))
	l := lifetime{isStorable: !d.noStore && h.Get("Vary") != "*", mustRevalidate: d.mustRevalidate, age: deltaSeconds(h.Get("Age"))}
	switch {
	case d.noCache:
		l.fresh, l.mustRevalidate = 0, true
	case d.sharedMaxAge >= 0:
		l.fresh, l.mustRevalidate = d.sharedMaxAge-l.age, true
	case d.maxAge >= 0:
		l.fresh = d.maxAge - l.age
	case h.Get("Expires") != "":
		l.fresh = untilExpires(h, now) - l.age
	default:
		l.fresh = fallback
	}
	return l
}

// untilExpires returns the time until Expires by the origin's own clock. An unreadable date counts as past.
func untilExpires(h http.Header, now time.Time) time.Duration {
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, min(expires.Sub(now), maxFresh))
}

type cacheDirectives struct {
	noStore, noCache, mustRevalidate bool
	maxAge, sharedMaxAge             time.Duration // -1: not stated
}

func parseDirectives(fields []string) cacheDirectives {
	d := cacheDirectives{maxAge: -1, sharedMaxAge: -1}
	for _, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			d.apply(strings.ToLower(strings.TrimSpace(name)), strings.Trim(strings.TrimSpace(value), `"`))
		}
	}
	return d
}

func (d *cacheDirectives) apply(name, value string) {
	switch name {
	case "no-store", "private":
		d.noStore = true
	case "no-cache":
		d.noCache = true
	case "must-revalidate", "proxy-revalidate":
		d.mustRevalidate = true
	case "max-age":
		d.maxAge = deltaSeconds(value)
	case "s-maxage":
		d.sharedMaxAge = deltaSeconds(value)
	}
}

// deltaSeconds parses a number of seconds. Any other text is zero, so that the object is fetched again.
func deltaSeconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(min(n, uint64(maxFresh/time.Second))) * time.Second
}
