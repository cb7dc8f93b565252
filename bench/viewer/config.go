package viewer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"usher/bench/pace"
)

// Config is what viewers do, and to whom.
type Config struct {
	// Targets are the base URLs of one or several nodes ("http://127.0.0.1:8080"), between which viewers are spread.
	Targets []string
	// Path is the entry URL below a target, with {channel} and {token}.
	Path     string
	Channels []string
	// Token returns the token of a viewer, who are numbered from 0 in the order of their starts; nil: "viewer-N".
	Token func(viewer int) string
	// IsBad reports that the middleware refuses a viewer. A denial is then right, and an answer a free ride; nil: nobody.
	IsBad func(viewer int) bool

	// Pace says when viewers start. Viewers is how many start in all; 0: as many as the pace gives.
	Pace    pace.Pace
	Viewers int
	// MaxAlive is how many may be there at once. A start beyond it is dropped. 0: Viewers, or 100,000.
	MaxAlive  int
	Behaviour Behaviour
	// Seed varies what viewers draw by chance.
	Seed uint64

	// Light sends the requests of all viewers over a few shared connections, and fetches playlists alone.
	Light bool
	// SegmentEvery fetches one in so many new segments: 0 is all, or with Light none.
	SegmentEvery int
	// MaxInFlight bounds the requests in flight, and with Light the connections. What is due beyond it waits, and is dropped
	// after Timeout.
	MaxInFlight int
	// HTTP2 speaks HTTP/2, with http by prior knowledge.
	HTTP2 bool
	// TLS is used with https; nil is the default.
	TLS *tls.Config
	// Timeout bounds a request.
	Timeout time.Duration

	// Sources are the local addresses that connections come from, such as 127.1.0.0/16. The zero value leaves it to the system.
	Sources netip.Prefix
	// Forwarded are the viewers' addresses that X-Forwarded-For tells. The zero value sends none.
	Forwarded netip.Prefix
	UserAgent string
	// TraceShare is the share of requests, from 0 to 1, that carry a traceparent.
	TraceShare float64

	// Auth asks as an edge does, in place of playing; nil plays.
	Auth *Auth
}

// Behaviour is what viewers do. Durations are means of exponential distributions, looked at each reload; zero is never.
type Behaviour struct {
	// Watch is how long a viewer stays. Away is how long until they come back; zero: they do not.
	Watch, Away time.Duration
	// Zap is how long until another channel, Pause until they pause, and PauseFor how long that lasts.
	Zap, Pause, PauseFor time.Duration
	// Roam is how long until a viewer's address changes. Hop is how long until their requests reach another node.
	Roam, Hop time.Duration
	// Multivariant is the share of viewers, from 0 to 1, who reload the multivariant playlist too, halfway between two reloads of
	// the media playlist. Most players read it once; Chromium's own reads it every time.
	Multivariant float64
	// FirstVariant plays the first variant; otherwise the one of the lowest bandwidth.
	FirstVariant bool
	// Buffer is how many of the listed segments a viewer fetches at the start.
	Buffer int
	// Retry is how long after a failure a viewer tries again. RetryDenied is the same after 401 and 403, and at the entry URL.
	Retry, RetryDenied time.Duration
	// GiveUp is after how many failures in a row a viewer begins anew at the entry URL.
	GiveUp int
}

// DefaultConfig returns viewers of the harness's own origin who start ten a second and stay.
func DefaultConfig() Config {
	return Config{
		Path: "/play/{channel}/index.m3u8?token={token}", Channels: []string{"a001"}, Pace: pace.Constant(10), Seed: 1,
		MaxInFlight: 10_000, Timeout: 10 * time.Second, UserAgent: "usher-bench",
		Behaviour: Behaviour{Multivariant: 1, Buffer: 3, Retry: time.Second, RetryDenied: 4 * time.Second, GiveUp: 5, PauseFor: 30 * time.Second},
	}
}

const (
	defaultMaxAlive = 100_000
	// maxAlive keeps a slot 32 bits.
	maxAlive = 1 << 28
)

// Validate reports every invalid field.
func (c *Config) Validate() error {
	var errs []error
	fail := func(form string, values ...any) { errs = append(errs, fmt.Errorf(form, values...)) }
	if len(c.Targets) == 0 {
		fail("targets: want at least one URL")
	}
	for _, target := range c.Targets {
		if u, err := url.Parse(target); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
			fail("targets: %q is no URL of a server, such as http://127.0.0.1:8080", target)
		}
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, " \r\n") {
		fail("path: %q does not begin with a slash, or has spaces", c.Path)
	}
	if len(c.Channels) == 0 {
		fail("channels: want at least one")
	}
	if c.Pace == nil {
		fail("pace: missing")
	}
	if c.Viewers < 0 || c.MaxAlive < 0 || c.MaxAlive > maxAlive || c.Viewers > maxAlive {
		fail("viewers: %d, of whom %d at once, is not between 0 and %d", c.Viewers, c.MaxAlive, maxAlive)
	}
	if c.MaxInFlight < 1 {
		fail("max_in_flight: %d is not positive", c.MaxInFlight)
	}
	if c.Timeout <= 0 || c.Behaviour.Retry <= 0 || c.Behaviour.RetryDenied <= 0 {
		fail("timeout %v, retry %v, retry_denied %v: each must be positive", c.Timeout, c.Behaviour.Retry, c.Behaviour.RetryDenied)
	}
	if c.SegmentEvery < 0 || c.Behaviour.Buffer < 0 || c.Behaviour.GiveUp < 1 {
		fail("segment_every %d, buffer %d, give_up %d: want 0 or more, give_up 1 or more", c.SegmentEvery, c.Behaviour.Buffer, c.Behaviour.GiveUp)
	}
	for name, share := range map[string]float64{"trace_share": c.TraceShare, "multivariant": c.Behaviour.Multivariant} {
		if !(share >= 0 && share <= 1) {
			fail("%s: %v is not between 0 and 1", name, share)
		}
	}
	if c.Auth != nil {
		errs = append(errs, c.Auth.validate())
	}
	return errors.Join(errs...)
}
