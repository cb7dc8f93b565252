package jwt

import (
	"encoding/json"
	"math"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
)

// Bounds of what a token may say, as of what any backend may.
const (
	maxUserLength    = 256
	maxSessionsBound = 1_000_000
	maxValidity      = 366 * 24 * time.Hour
	maxDate          = 1e11 // seconds, in the year 5138; milliseconds, a common mistake, are beyond
)

// against is what the claims say against a viewer who asks r, the token's window being looked at from then; empty:
// nothing.
func (b *Backend) against(claims jwt.MapClaims, r *backends.Request, then time.Time) string {
	for _, reason := range []string{
		b.againstTime(claims, then),
		b.againstIssuer(claims),
		b.againstChannel(claims, r.Channel),
		b.againstAddress(claims, r.Address),
	} {
		if reason != "" {
			return reason
		}
	}
	return ""
}

func (b *Backend) againstTime(claims jwt.MapClaims, then time.Time) string {
	expires, ok := date(claims, "exp")
	if !ok {
		return "exp is no date in seconds"
	}
	begins, ok := date(claims, "nbf")
	switch {
	case !ok:
		return "nbf is no date in seconds"
	case expires.IsZero() && b.cfg.RequireExpiry:
		return "token has no exp"
	case !expires.IsZero() && !then.Before(expires.Add(b.cfg.ClockSkew)):
		return "token is expired"
	case !begins.IsZero() && then.Before(begins.Add(-b.cfg.ClockSkew)):
		return "token is not valid yet"
	}
	return ""
}

func (b *Backend) againstIssuer(claims jwt.MapClaims) string {
	if issuer, err := claims.GetIssuer(); b.cfg.Issuer != "" && (err != nil || issuer != b.cfg.Issuer) {
		return "token is by another issuer"
	}
	audience, err := claims.GetAudience()
	if b.cfg.Audience != "" && (err != nil || !slices.Contains(audience, b.cfg.Audience)) {
		return "token is for another audience"
	}
	return ""
}

func (b *Backend) againstChannel(claims jwt.MapClaims, channel string) string {
	if b.cfg.ChannelsClaim == "" {
		return ""
	}
	patterns, ok := list(claims[b.cfg.ChannelsClaim])
	if !ok {
		return "token lists no channels"
	}
	if !slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, channel) }) {
		return "token is for another channel"
	}
	return ""
}

// matches reports whether the pattern covers the channel. One that is no pattern covers none.
func matches(pattern, channel string) bool {
	if pattern == "*" {
		return true
	}
	ok, err := path.Match(pattern, channel)
	return ok && err == nil
}

func (b *Backend) againstAddress(claims jwt.MapClaims, address netip.Addr) string {
	if b.cfg.AddressClaim == "" {
		return ""
	}
	text, _ := claims[b.cfg.AddressClaim].(string)
	claimed, err := netip.ParseAddr(text)
	if err != nil {
		return "token names no address"
	}
	if claimed.Unmap().WithZone("") != address.Unmap().WithZone("") {
		return "token is for another address"
	}
	return ""
}

// allowed is the yes that a verified token brings, or a No if it says something of the viewer that makes no sense.
func (b *Backend) allowed(claims jwt.MapClaims, now time.Time) backends.Decision {
	d := b.about(claims)
	if _, ok := identifier(claims, b.cfg.UserClaim); !ok {
		return refuse(d, "user_claim makes no sense")
	}
	sessions, ok := count(claims, b.cfg.MaxSessionsClaim)
	if !ok {
		return refuse(d, "max_sessions_claim makes no sense")
	}
	d.Verdict, d.Reason, d.MaxSessions = backends.Allowed, "token is valid", sessions
	if expires, _ := date(claims, "exp"); b.cfg.EndSessionOnExpiry && !expires.IsZero() {
		d.ValidFor = min(expires.Add(b.cfg.ClockSkew).Sub(now), maxValidity)
	}
	return d
}

// about is who a verified token says that the viewer is, for a yes as for a No.
func (b *Backend) about(claims jwt.MapClaims) backends.Decision {
	d := backends.Decision{Source: backends.FromLocal}
	d.UserID, _ = identifier(claims, b.cfg.UserClaim)
	if b.cfg.NameClaim != "" {
		name, _ := text(claims[b.cfg.NameClaim])
		d.User = displayed(name)
	}
	return d
}

func refuse(d backends.Decision, reason string) backends.Decision {
	d.Verdict, d.Reason = backends.Denied, reason
	return d
}

// date reads a moment; the zero time if there is none.
func date(claims jwt.MapClaims, name string) (time.Time, bool) {
	value, present := claims[name]
	if !present {
		return time.Time{}, true
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := number.Float64()
	if err != nil || math.Abs(seconds) > maxDate {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// identifier is a key, so half of one is worse than none: two users could share it. Empty if there is none.
func identifier(claims jwt.MapClaims, name string) (string, bool) {
	value, present := claims[name]
	if name == "" || !present {
		return "", true
	}
	id, ok := text(value)
	if !ok || len(id) > maxUserLength || strings.ContainsFunc(id, unreadable) {
		return "", false
	}
	return id, true
}

func unreadable(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }

// count reads a bound; zero if there is none.
func count(claims jwt.MapClaims, name string) (int, bool) {
	value, present := claims[name]
	if name == "" || !present {
		return 0, true
	}
	digits, ok := text(value)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0 && n <= maxSessionsBound
}

// list reads a list of names, or names with spaces between. It must have one at least.
func list(value any) ([]string, bool) {
	if line, ok := text(value); ok {
		names := strings.Fields(line)
		return names, len(names) > 0
	}
	values, _ := value.([]any)
	names := make([]string, 0, len(values))
	for _, value := range values {
		name, ok := text(value)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, len(names) > 0
}

// text reads a string, or a whole number, which some portals write for their keys.
func text(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), !strings.ContainsAny(value.String(), ".eE")
	default:
		return "", false
	}
}

// displayed is a name made fit to be shown: printable, and not longer than names are.
func displayed(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, name)
	for len(name) > maxUserLength {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return strings.TrimSpace(name)
}
