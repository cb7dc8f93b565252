package jwt

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"usher/backends"
)

func TestCheck_Claims(t *testing.T) {
	t.Parallel()
	const (
		valid      = "token is valid"
		channel    = "token is for another channel"
		noChannels = "token lists no channels"
		noAddress  = "token names no address"
		badCount   = "max_sessions_claim is invalid"
		badUser    = "user_claim is invalid"
	)
	channels := func(c *Config) { c.ChannelsClaim = "channels" }
	address := func(c *Config) { c.AddressClaim = "ip" }
	sessions := func(c *Config) { c.MaxSessionsClaim = "n" }
	issuer := func(c *Config) { c.Issuer = "https://portal.example.com" }
	audience := func(c *Config) { c.Audience = "live" }
	tests := map[string]struct {
		change func(*Config)
		claims jwt.MapClaims
		reason string
	}{
		"the right issuer": {issuer, jwt.MapClaims{"iss": "https://portal.example.com"}, valid},
		"another issuer": {
			issuer, jwt.MapClaims{"iss": "https://portal.example.com/"}, "token is from another issuer",
		},
		"no issuer":           {issuer, nil, "token is from another issuer"},
		"an issuer of digits": {issuer, jwt.MapClaims{"iss": 1}, "token is from another issuer"},
		"any issuer":          {nil, jwt.MapClaims{"iss": 1}, valid},

		"the right audience":    {audience, jwt.MapClaims{"aud": "live"}, valid},
		"one audience of some":  {audience, jwt.MapClaims{"aud": []string{"vod", "live"}}, valid},
		"another audience":      {audience, jwt.MapClaims{"aud": []string{"vod"}}, "token is for another audience"},
		"no audience":           {audience, nil, "token is for another audience"},
		"an audience of digits": {audience, jwt.MapClaims{"aud": []any{"live", 1}}, "token is for another audience"},
		"any audience":          {nil, jwt.MapClaims{"aud": "vod"}, valid},

		"the channel":             {channels, jwt.MapClaims{"channels": "a001"}, valid},
		"the channel in a list":   {channels, jwt.MapClaims{"channels": []string{"b", "a001"}}, valid},
		"the channel among words": {channels, jwt.MapClaims{"channels": "b  a001 c"}, valid},
		"a pattern":               {channels, jwt.MapClaims{"channels": []string{"a*"}}, valid},
		"classes are themselves":  {channels, jwt.MapClaims{"channels": []string{"[ab]00?"}}, channel},
		"all channels":            {channels, jwt.MapClaims{"channels": "*"}, valid},
		"another channel": {
			channels, jwt.MapClaims{"channels": []string{"a002", "A001", "a00", "a0011"}}, channel,
		},
		"the channel within a word": {channels, jwt.MapClaims{"channels": "xa001"}, channel},
		"a broken pattern":          {channels, jwt.MapClaims{"channels": []string{"[a001", "a001["}}, channel},
		"an empty channel":          {channels, jwt.MapClaims{"channels": []string{""}}, channel},
		"no channels":               {channels, nil, noChannels},
		"an empty list of channels": {channels, jwt.MapClaims{"channels": []string{}}, noChannels},
		"an empty line of channels": {channels, jwt.MapClaims{"channels": "  "}, noChannels},
		"channels that are true":    {channels, jwt.MapClaims{"channels": true}, noChannels},
		"channels that are an object": {
			channels, jwt.MapClaims{"channels": map[string]any{"a001": true}}, noChannels,
		},
		"a list with something else":       {channels, jwt.MapClaims{"channels": []any{"a001", nil}}, noChannels},
		"channels that are not configured": {nil, jwt.MapClaims{"channels": "b"}, valid},

		"the viewer's address":         {address, jwt.MapClaims{"ip": "192.0.2.7"}, valid},
		"the viewer's address in IPv6": {address, jwt.MapClaims{"ip": "::ffff:192.0.2.7"}, valid},
		"another address":              {address, jwt.MapClaims{"ip": "192.0.2.8"}, "token is for another address"},
		"a network":                    {address, jwt.MapClaims{"ip": "192.0.2.0/24"}, noAddress},
		"no address":                   {address, nil, noAddress},
		"an address that is a number":  {address, jwt.MapClaims{"ip": 3221225991}, noAddress},

		"sessions":            {sessions, jwt.MapClaims{"n": 2}, valid},
		"sessions as text":    {sessions, jwt.MapClaims{"n": "2"}, valid},
		"no sessions named":   {sessions, nil, valid},
		"no sessions at all":  {sessions, jwt.MapClaims{"n": 0}, valid},
		"sessions below zero": {sessions, jwt.MapClaims{"n": -1}, badCount},
		"too many sessions":   {sessions, jwt.MapClaims{"n": 1_000_001}, badCount},
		"half a session":      {sessions, jwt.MapClaims{"n": 1.5}, badCount},
		"sessions in words":   {sessions, jwt.MapClaims{"n": "many"}, badCount},
		"sessions beyond numbers": {
			sessions, jwt.MapClaims{"n": json.RawMessage("99999999999999999999")}, badCount,
		},
		"sessions that are true": {sessions, jwt.MapClaims{"n": true}, badCount},
		"sessions that are null": {sessions, jwt.MapClaims{"n": json.RawMessage("null")}, badCount},

		"a user as a number":            {nil, jwt.MapClaims{"sub": 9007199254740993}, valid},
		"no user":                       {nil, jwt.MapClaims{"sub": nil}, valid},
		"a user that is a list":         {nil, jwt.MapClaims{"sub": []string{"42"}}, badUser},
		"a user of controls":            {nil, jwt.MapClaims{"sub": "4\n2"}, badUser},
		"a user with half a letter":     {nil, jwt.MapClaims{"sub": json.RawMessage(`"\ud800"`)}, badUser},
		"a user that is too long":       {nil, jwt.MapClaims{"sub": strings.Repeat("4", 257)}, badUser},
		"a user that is not configured": {func(c *Config) { c.UserClaim = "" }, jwt.MapClaims{"sub": true}, valid},
		"a name of controls":            {nil, jwt.MapClaims{"name": "a\x00\nb"}, valid},
		"a name that is a list":         {nil, jwt.MapClaims{"name": []string{"alice"}}, valid},

		"a date in milliseconds": {nil, jwt.MapClaims{"exp": 1767225600000}, "exp is not a time in seconds"},
		"a date as text":         {nil, jwt.MapClaims{"exp": "1767225600"}, "exp is not a time in seconds"},
		"a date that is null":    {nil, jwt.MapClaims{"exp": json.RawMessage("null")}, "exp is not a time in seconds"},
		"a date beyond numbers": {
			nil, jwt.MapClaims{"exp": json.RawMessage("1e400")}, "exp is not a time in seconds",
		},
		"a date of long ago":     {nil, jwt.MapClaims{"exp": 0}, "token is expired"},
		"a date with a fraction": {nil, jwt.MapClaims{"exp": 1893456000.5}, valid},
		"a start beyond numbers": {
			nil, jwt.MapClaims{"nbf": json.RawMessage("1e300")}, "nbf is not a time in seconds",
		},
		"a start before all numbers": {
			nil, jwt.MapClaims{"nbf": json.RawMessage("-1e300")}, "nbf is not a time in seconds",
		},
		"no expiry":                  {nil, jwt.MapClaims{"exp": nil}, "token has no exp"},
		"no expiry, if that is fine": {func(c *Config) { c.RequireExpiry = false }, jwt.MapClaims{"exp": nil}, valid},
		"issued in the future":       {nil, jwt.MapClaims{"iat": testNow.Add(time.Hour).Unix()}, valid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newBackend(t, withSecret(tt.change), nil)
			d := mustCheck(t, b, openingRequest(sign(t, "HS256", "", []byte(testSecret), goodClaims(tt.claims))))
			if tt.reason == valid {
				wantDecision(t, d, backends.Allowed, valid)
				return
			}
			wantDecision(t, d, backends.Denied, tt.reason)
			if d.User != "alice" { // operators want to see the denied user
				t.Errorf("got user %q of a verified token, want alice", d.User)
			}
		})
	}
}

func TestCheck_UserClaims(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		claims jwt.MapClaims
		id     string
		user   string
		n      int
	}{
		"all claims":                         {jwt.MapClaims{"n": 4}, "42", "alice", 4},
		"a number is kept to its last digit": {jwt.MapClaims{"sub": 9007199254740993}, "9007199254740993", "alice", 0},
		"no limit":                           {jwt.MapClaims{"n": 0}, "42", "alice", 0},
		"nothing":                            {jwt.MapClaims{"sub": nil, "name": nil}, "", "", 0},
		"a name is sanitized": {
			jwt.MapClaims{"name": " a\x1b[31m\u202el\ufffdice\n"}, "42", "a[31mlice", 0,
		},
		"a long name is cut": {
			jwt.MapClaims{"name": strings.Repeat("é", 200)}, "42", strings.Repeat("é", 128), 0,
		},
		"a name alone that is unprintable in part": {jwt.MapClaims{"sub": nil, "name": "\u202ealice"}, "", "", 0},
		"a name alone":            {jwt.MapClaims{"sub": nil, "name": " alice"}, "", "alice", 0},
		"a name that is a number": {jwt.MapClaims{"name": 7}, "42", "7", 0},
	}
	b, _ := newBackend(t, withSecret(func(c *Config) { c.MaxSessionsClaim = "n" }), nil)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := mustCheck(t, b, openingRequest(sign(t, "HS256", "", []byte(testSecret), goodClaims(tt.claims))))
			want := backends.Decision{
				Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "token is valid",
				UserID: tt.id, User: tt.user, MaxSessions: int32(tt.n),
			}
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck_AddressWithoutZone(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(func(c *Config) { c.AddressClaim = "ip" }), nil)
	r := openingRequest(sign(t, "HS256", "", []byte(testSecret), goodClaims(jwt.MapClaims{"ip": "fe80::1"})))
	r.Address = netip.MustParseAddr("fe80::1%eth0")
	wantDecision(t, mustCheck(t, b, r), backends.Allowed, "token is valid")
	r.Address = netip.Addr{}
	wantDecision(t, mustCheck(t, b, r), backends.Denied, "token is for another address")
}

// The window is [nbf − tolerance, exp + tolerance). It must contain the opening or, with end_session_on_expiry, the present.
func TestCheck_TokenWindow(t *testing.T) {
	t.Parallel()
	const expired, early = "token is expired", "token is not valid yet"
	const tolerance = 30 * time.Second
	tests := map[string]struct {
		cut bool
		// opened and now are relative to the token's start; it lasts an hour. unset leaves Opened zero.
		opened, now time.Duration
		unset       bool
		reason      string
		validFor    time.Duration
	}{
		"within":             {now: time.Minute, opened: time.Minute},
		"at its last moment": {now: time.Hour + tolerance - 1, opened: time.Hour + tolerance - 1},
		"past the tolerance": {
			now: time.Hour + tolerance, opened: time.Hour + tolerance, reason: expired,
		},
		"a little early":                   {now: -tolerance, opened: -tolerance},
		"too early":                        {now: -tolerance - 1, opened: -tolerance - 1, reason: early},
		"a session that runs past the end": {now: 24 * time.Hour, opened: time.Minute},
		"a session that opened too late":   {now: time.Minute, opened: 2 * time.Hour, reason: expired},
		"unknown opening, in time":         {now: time.Minute, unset: true},
		"unknown opening, too late":        {now: 2 * time.Hour, unset: true, reason: expired},
		"cut: within": {
			cut: true, now: time.Minute, opened: time.Minute, validFor: 59*time.Minute + tolerance,
		},
		"cut: a session that runs past the end": {cut: true, now: 24 * time.Hour, opened: time.Minute, reason: expired},
		"cut: a session in its last moment": {
			cut: true, now: time.Hour + tolerance - 1, opened: time.Minute, validFor: 1,
		},
		"cut: a session whose token has expired": {
			cut: true, now: time.Hour + tolerance, opened: time.Minute, reason: expired,
		},
		"cut: too early whenever it was opened": {cut: true, now: -time.Minute, opened: time.Minute, reason: early},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, clock := newBackend(t, withSecret(func(c *Config) { c.EndSessionOnExpiry = tt.cut }), nil)
			clock.advance(tt.now)
			r := openingRequest(sign(t, "HS256", "", []byte(testSecret), goodClaims(jwt.MapClaims{"nbf": testNow.Unix()})))
			if r.TokenTime = testNow.Add(tt.opened); tt.unset {
				r.TokenTime = time.Time{}
			}
			d := mustCheck(t, b, r)
			if tt.reason != "" {
				wantDecision(t, d, backends.Denied, tt.reason)
				return
			}
			wantDecision(t, d, backends.Allowed, "token is valid")
			if d.ValidFor != tt.validFor {
				t.Errorf("got valid for %s, want %s", d.ValidFor, tt.validFor)
			}
		})
	}
}

func TestCheck_ValidityIsBounded(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(func(c *Config) { c.EndSessionOnExpiry, c.RequireExpiry = true, false }), nil)
	for expiry, wanted := range map[any]time.Duration{99_999_999_999: 366 * 24 * time.Hour, nil: 0} {
		d := mustCheck(t, b, openingRequest(sign(t, "HS256", "", []byte(testSecret), goodClaims(jwt.MapClaims{"exp": expiry}))))
		if d.Verdict != backends.Allowed || d.ValidFor != wanted {
			t.Errorf("exp %v: got %s for %s, want allowed for %s", expiry, d.Verdict, d.ValidFor, wanted)
		}
	}
}
