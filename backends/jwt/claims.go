package jwt

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"usher/backends"
	"usher/backends/httpbackend"
	"usher/backends/setting"
)

// Bounds of claims, the same as for every backend's decisions.
const (
	maxUserLength    = 256
	maxSessionsBound = 1_000_000
	maxValidity      = 366 * 24 * time.Hour
	maxDate          = 1e11 // seconds, in the year 5138; milliseconds, a common mistake, are beyond
)

// rejectionReason returns why the claims do not allow the request; empty: they do. at is the time that must lie within
// the token's window.
func (b *Backend) rejectionReason(claims jwt.MapClaims, r *backends.Request, at time.Time) string {
	for _, reason := range []string{
		b.rejectionByTime(claims, at),
		b.rejectionByIssuer(claims),
		b.rejectionByChannel(claims, r.Channel),
		b.rejectionByAddress(claims, r.Address),
	} {
		if reason != "" {
			return reason
		}
	}
	return ""
}

func (b *Backend) rejectionByTime(claims jwt.MapClaims, at time.Time) string {
	expires, ok := dateClaim(claims, "exp")
	if !ok {
		return "exp is not a time in seconds"
	}
	begins, ok := dateClaim(claims, "nbf")
	switch {
	case !ok:
		return "nbf is not a time in seconds"
	case expires.IsZero() && b.cfg.RequireExpiry:
		return "token has no exp"
	case !expires.IsZero() && !at.Before(expires.Add(b.cfg.ClockSkew)):
		return "token is expired"
	case !begins.IsZero() && at.Before(begins.Add(-b.cfg.ClockSkew)):
		return "token is not valid yet"
	}
	return ""
}

func (b *Backend) rejectionByIssuer(claims jwt.MapClaims) string {
	if issuer, err := claims.GetIssuer(); b.cfg.Issuer != "" && (err != nil || issuer != b.cfg.Issuer) {
		return "token is from another issuer"
	}
	audience, err := claims.GetAudience()
	if b.cfg.Audience != "" && (err != nil || !slices.Contains(audience, b.cfg.Audience)) {
		return "token is for another audience"
	}
	return ""
}

func (b *Backend) rejectionByChannel(claims jwt.MapClaims, channel string) string {
	if b.cfg.ChannelsClaim == "" {
		return ""
	}
	patterns, ok := namesIn(claims[b.cfg.ChannelsClaim])
	if !ok {
		return "token lists no channels"
	}
	if !setting.MatchesChannel(patterns, channel) {
		return "token is for another channel"
	}
	return ""
}

func (b *Backend) rejectionByAddress(claims jwt.MapClaims, address netip.Addr) string {
	if b.cfg.AddressClaim == "" {
		return ""
	}
	claim, _ := claims[b.cfg.AddressClaim].(string)
	claimed, err := netip.ParseAddr(claim)
	if err != nil {
		return "token names no address"
	}
	if claimed.Unmap().WithZone("") != address.Unmap().WithZone("") {
		return "token is for another address"
	}
	return ""
}

// allow returns the decision of a verified token: allowed, or denied if a claim about the user is invalid.
func (b *Backend) allow(claims jwt.MapClaims, now time.Time) backends.Decision {
	d := b.identify(claims)
	if _, ok := idClaim(claims, b.cfg.UserClaim); !ok {
		return deny(d, "user_claim is invalid")
	}
	sessions, ok := countClaim(claims, b.cfg.MaxSessionsClaim)
	if !ok {
		return deny(d, "max_sessions_claim is invalid")
	}
	d.Verdict, d.Reason, d.MaxSessions = backends.Allowed, "token is valid", int32(sessions)
	if expires, _ := dateClaim(claims, "exp"); b.cfg.EndSessionOnExpiry && !expires.IsZero() {
		d.ValidFor = min(expires.Add(b.cfg.ClockSkew).Sub(now), maxValidity)
	}
	return d
}

// identify returns a decision with the user that a verified token names, for allowed and denied alike.
func (b *Backend) identify(claims jwt.MapClaims) backends.Decision {
	d := backends.Decision{Source: backends.FromLocal}
	d.UserID, _ = idClaim(claims, b.cfg.UserClaim)
	if b.cfg.NameClaim != "" {
		name, _ := textValue(claims[b.cfg.NameClaim])
		d.User = httpbackend.UserName(name, d.UserID)
	}
	return d
}

func deny(d backends.Decision, reason string) backends.Decision {
	d.Verdict, d.Reason = backends.Denied, reason
	return d
}

// dateClaim reads a time; the zero time if the claim is absent.
func dateClaim(claims jwt.MapClaims, name string) (time.Time, bool) {
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

// idClaim reads a user's id; empty if the claim is absent. It never shortens one, because two users could then share
// it.
func idClaim(claims jwt.MapClaims, name string) (string, bool) {
	value, present := claims[name]
	if name == "" || !present {
		return "", true
	}
	id, ok := textValue(value)
	if !ok || len(id) > maxUserLength || strings.ContainsFunc(id, isUnreadable) {
		return "", false
	}
	return id, true
}

func isUnreadable(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }

// countClaim reads a limit; zero if the claim is absent.
func countClaim(claims jwt.MapClaims, name string) (int, bool) {
	value, present := claims[name]
	if name == "" || !present {
		return 0, true
	}
	digits, ok := textValue(value)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0 && n <= maxSessionsBound
}

// namesIn reads a list of names, or a string of names separated by spaces. ok is false without any name.
func namesIn(value any) (names []string, ok bool) {
	if line, ok := textValue(value); ok {
		names = strings.Fields(line)
		return names, len(names) > 0
	}
	values, _ := value.([]any)
	names = make([]string, 0, len(values))
	for _, value := range values {
		name, ok := textValue(value)
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	return names, len(names) > 0
}

// textValue reads a string, or a whole number, which some portals use for ids.
func textValue(value any) (string, bool) {
	switch value := value.(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), !strings.ContainsAny(value.String(), ".eE")
	default:
		return "", false
	}
}
