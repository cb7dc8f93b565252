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

func TestClaims(t *testing.T) {
	t.Parallel()
	const (
		valid      = "token is valid"
		channel    = "token is for another channel"
		noChannels = "token lists no channels"
		noAddress  = "token names no address"
		nonsense   = "max_sessions_claim makes no sense"
		userless   = "user_claim makes no sense"
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
			issuer, jwt.MapClaims{"iss": "https://portal.example.com/"}, "token is by another issuer",
		},
		"no issuer":           {issuer, nil, "token is by another issuer"},
		"an issuer of digits": {issuer, jwt.MapClaims{"iss": 1}, "token is by another issuer"},
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
		"a pattern of classes":    {channels, jwt.MapClaims{"channels": []string{"[ab]00?"}}, valid},
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
		"a list with something else":     {channels, jwt.MapClaims{"channels": []any{"a001", nil}}, noChannels},
		"channels that nobody asked for": {nil, jwt.MapClaims{"channels": "b"}, valid},

		"the viewer's address":         {address, jwt.MapClaims{"ip": "192.0.2.7"}, valid},
		"the viewer's address in IPv6": {address, jwt.MapClaims{"ip": "::ffff:192.0.2.7"}, valid},
		"another address":              {address, jwt.MapClaims{"ip": "192.0.2.8"}, "token is for another address"},
		"a network":                    {address, jwt.MapClaims{"ip": "192.0.2.0/24"}, noAddress},
		"no address":                   {address, nil, noAddress},
		"an address that is a number":  {address, jwt.MapClaims{"ip": 3221225991}, noAddress},

		"sessions":               {sessions, jwt.MapClaims{"n": 2}, valid},
		"sessions as text":       {sessions, jwt.MapClaims{"n": "2"}, valid},
		"no sessions named":      {sessions, nil, valid},
		"sessions below zero":    {sessions, jwt.MapClaims{"n": -1}, nonsense},
		"sessions beyond sense":  {sessions, jwt.MapClaims{"n": 1_000_001}, nonsense},
		"half a session":         {sessions, jwt.MapClaims{"n": 1.5}, nonsense},
		"sessions that are true": {sessions, jwt.MapClaims{"n": true}, nonsense},
		"sessions that are null": {sessions, jwt.MapClaims{"n": json.RawMessage("null")}, nonsense},

		"a user as a number":        {nil, jwt.MapClaims{"sub": 9007199254740993}, valid},
		"no user":                   {nil, jwt.MapClaims{"sub": nil}, valid},
		"a user that is a list":     {nil, jwt.MapClaims{"sub": []string{"42"}}, userless},
		"a user of controls":        {nil, jwt.MapClaims{"sub": "4\n2"}, userless},
		"a user with half a letter": {nil, jwt.MapClaims{"sub": json.RawMessage(`"\ud800"`)}, userless},
		"a user that is too long":   {nil, jwt.MapClaims{"sub": strings.Repeat("4", 257)}, userless},
		"a user nobody asked for":   {func(c *Config) { c.UserClaim = "" }, jwt.MapClaims{"sub": true}, valid},
		"a name of controls":        {nil, jwt.MapClaims{"name": "a\x00\nb"}, valid},
		"a name that is a list":     {nil, jwt.MapClaims{"name": []string{"alice"}}, valid},

		"a date in milliseconds": {nil, jwt.MapClaims{"exp": 1767225600000}, "exp is no date in seconds"},
		"a date as text":         {nil, jwt.MapClaims{"exp": "1767225600"}, "exp is no date in seconds"},
		"a date that is null":    {nil, jwt.MapClaims{"exp": json.RawMessage("null")}, "exp is no date in seconds"},
		"a date beyond numbers": {
			nil, jwt.MapClaims{"exp": json.RawMessage("1e400")}, "exp is no date in seconds",
		},
		"a date of long ago":     {nil, jwt.MapClaims{"exp": 0}, "token is expired"},
		"a date with a fraction": {nil, jwt.MapClaims{"exp": 1893456000.5}, valid},
		"a begin beyond numbers": {
			nil, jwt.MapClaims{"nbf": json.RawMessage("1e300")}, "nbf is no date in seconds",
		},
		"a begin before all numbers": {
			nil, jwt.MapClaims{"nbf": json.RawMessage("-1e300")}, "nbf is no date in seconds",
		},
		"no expiry":                  {nil, jwt.MapClaims{"exp": nil}, "token has no exp"},
		"no expiry, if that is fine": {func(c *Config) { c.RequireExpiry = false }, jwt.MapClaims{"exp": nil}, valid},
		"issued in the future":       {nil, jwt.MapClaims{"iat": moment.Add(time.Hour).Unix()}, valid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newBackend(t, withSecret(tt.change), nil)
			d := ask(t, b, opening(sign(t, "HS256", "", []byte(testSecret), claimed(tt.claims))))
			if tt.reason == valid {
				want(t, d, backends.Allowed, valid)
				return
			}
			want(t, d, backends.Denied, tt.reason)
			if d.User != "alice" { // who was refused is worth knowing
				t.Errorf("got user %q of a verified token, want alice", d.User)
			}
		})
	}
}

func TestWhatATokenSaysOfTheUser(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		claims jwt.MapClaims
		id     string
		user   string
		n      int
	}{
		"usually":                            {jwt.MapClaims{"n": 4}, "42", "alice", 4},
		"a number is kept to its last digit": {jwt.MapClaims{"sub": 9007199254740993}, "9007199254740993", "alice", 0},
		"nothing":                            {jwt.MapClaims{"sub": nil, "name": nil}, "", "", 0},
		"a name is made fit to show": {
			jwt.MapClaims{"name": " a\x1b[31m\u202el\ufffdice\n"}, "42", "a[31mlice", 0,
		},
		"a long name is cut": {
			jwt.MapClaims{"name": strings.Repeat("é", 200)}, "42", strings.Repeat("é", 128), 0,
		},
		"a name that is a number": {jwt.MapClaims{"name": 7}, "42", "7", 0},
	}
	b, _ := newBackend(t, withSecret(func(c *Config) { c.MaxSessionsClaim = "n" }), nil)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := ask(t, b, opening(sign(t, "HS256", "", []byte(testSecret), claimed(tt.claims))))
			want := backends.Decision{
				Verdict: backends.Allowed, Source: backends.FromLocal, Reason: "token is valid",
				UserID: tt.id, User: tt.user, MaxSessions: tt.n,
			}
			if diff := cmp.Diff(want, d); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAddressIsComparedWithoutItsZone(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(func(c *Config) { c.AddressClaim = "ip" }), nil)
	r := opening(sign(t, "HS256", "", []byte(testSecret), claimed(jwt.MapClaims{"ip": "fe80::1"})))
	r.Address = netip.MustParseAddr("fe80::1%eth0")
	want(t, ask(t, b, r), backends.Allowed, "token is valid")
	r.Address = netip.Addr{}
	want(t, ask(t, b, r), backends.Denied, "token is for another address")
}

// The window is [nbf − tolerance, exp + tolerance), seen from the opening or, with end_session_on_expiry, from the present.
func TestTheWindowOfAToken(t *testing.T) {
	t.Parallel()
	const expired, early = "token is expired", "token is not valid yet"
	const tolerance = 30 * time.Second
	tests := map[string]struct {
		cut bool
		// opened and now are seen from the moment at which the token begins; it lasts an hour. Unset: opened now.
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
		"a little early":                      {now: -tolerance, opened: -tolerance},
		"too early":                           {now: -tolerance - 1, opened: -tolerance - 1, reason: early},
		"a session that runs past the end":    {now: 24 * time.Hour, opened: time.Minute},
		"a session that opened too late":      {now: time.Minute, opened: 2 * time.Hour, reason: expired},
		"no word of when it opened, in time":  {now: time.Minute, unset: true},
		"no word of when it opened, too late": {now: 2 * time.Hour, unset: true, reason: expired},
		"cut: within": {
			cut: true, now: time.Minute, opened: time.Minute, validFor: 59*time.Minute + tolerance,
		},
		"cut: a session that runs past the end": {cut: true, now: 24 * time.Hour, opened: time.Minute, reason: expired},
		"cut: a session in its last moment": {
			cut: true, now: time.Hour + tolerance - 1, opened: time.Minute, validFor: 1,
		},
		"cut: a session whose token is no more": {
			cut: true, now: time.Hour + tolerance, opened: time.Minute, reason: expired,
		},
		"cut: too early whenever it was opened": {cut: true, now: -time.Minute, opened: time.Minute, reason: early},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, clock := newBackend(t, withSecret(func(c *Config) { c.EndSessionOnExpiry = tt.cut }), nil)
			clock.advance(tt.now)
			r := opening(sign(t, "HS256", "", []byte(testSecret), claimed(jwt.MapClaims{"nbf": moment.Unix()})))
			if r.Opened = moment.Add(tt.opened); tt.unset {
				r.Opened = time.Time{}
			}
			d := ask(t, b, r)
			if tt.reason != "" {
				want(t, d, backends.Denied, tt.reason)
				return
			}
			want(t, d, backends.Allowed, "token is valid")
			if d.ValidFor != tt.validFor {
				t.Errorf("got valid for %s, want %s", d.ValidFor, tt.validFor)
			}
		})
	}
}

func TestAValidityStaysWithinSense(t *testing.T) {
	t.Parallel()
	b, _ := newBackend(t, withSecret(func(c *Config) { c.EndSessionOnExpiry, c.RequireExpiry = true, false }), nil)
	for expiry, wanted := range map[any]time.Duration{99_999_999_999: 366 * 24 * time.Hour, nil: 0} {
		d := ask(t, b, opening(sign(t, "HS256", "", []byte(testSecret), claimed(jwt.MapClaims{"exp": expiry}))))
		if d.Verdict != backends.Allowed || d.ValidFor != wanted {
			t.Errorf("exp %v: got %s for %s, want allowed for %s", expiry, d.Verdict, d.ValidFor, wanted)
		}
	}
}
