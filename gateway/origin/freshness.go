package origin

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxFresh bounds what an origin can claim, so that sums of times cannot overflow.
const maxFresh = 365 * 24 * time.Hour

// lifetime is what an origin's header says about keeping a media object (RFC 9111).
type lifetime struct {
	store bool
	// fresh is what is left of the freshness; it may be zero or negative.
	fresh time.Duration
	// age is how old the object was when it came.
	age time.Duration
	// strict: it must not be served stale, whatever happens.
	strict bool
}

// mediaLifetime reads a shared cache's part of the header; fallback is the freshness if it names none.
func mediaLifetime(h http.Header, now time.Time, fallback time.Duration) lifetime {
	d := parseDirectives(h.Values("Cache-Control"))
	l := lifetime{store: !d.noStore && h.Get("Vary") != "*", strict: d.strict, age: deltaSeconds(h.Get("Age"))}
	switch {
	case d.noCache:
		l.fresh, l.strict = 0, true
	case d.sharedMaxAge >= 0:
		l.fresh, l.strict = d.sharedMaxAge-l.age, true
	case d.maxAge >= 0:
		l.fresh = d.maxAge - l.age
	case h.Get("Expires") != "":
		l.fresh = untilExpires(h, now) - l.age
	default:
		l.fresh = fallback
	}
	return l
}

// untilExpires measures by the origin's own clock. A date that cannot be read is in the past.
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
	noStore, noCache, strict bool
	maxAge, sharedMaxAge     time.Duration // -1: not named
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
		d.strict = true
	case "max-age":
		d.maxAge = deltaSeconds(value)
	case "s-maxage":
		d.sharedMaxAge = deltaSeconds(value)
	}
}

// deltaSeconds reads a number of seconds; what is not one counts as zero, which errs on the side of asking again.
func deltaSeconds(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(min(n, uint64(maxFresh/time.Second))) * time.Second
}
