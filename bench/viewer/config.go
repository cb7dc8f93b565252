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
	"usher/bench/result"
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
	maxAlive   = 1 << 28
	maxTargets = 1000
)

// Validate reports every invalid field.
func (c *Config) Validate() error {
	errs := c.validateTargets()
	b := &c.Behaviour
	for _, check := range []struct {
		isValid bool
		problem string
	}{
		{len(c.Channels) > 0, "channels: want at least one"},
		{c.Pace != nil, "pace: missing"},
		{inRange(c.Viewers, 0, maxAlive), fmt.Sprintf("viewers: %d is not between 0 and %d", c.Viewers, maxAlive)},
		{inRange(c.MaxAlive, 0, maxAlive), fmt.Sprintf("max_alive: %d is not between 0 and %d", c.MaxAlive, maxAlive)},
		{c.MaxInFlight > 0, fmt.Sprintf("max_in_flight: %d is not positive", c.MaxInFlight)},
		{c.Timeout > 0, fmt.Sprintf("timeout: %v is not positive", c.Timeout)},
		{b.Retry > 0, fmt.Sprintf("retry: %v is not positive", b.Retry)},
		{b.RetryDenied > 0, fmt.Sprintf("retry_denied: %v is not positive", b.RetryDenied)},
		{c.SegmentEvery >= 0, fmt.Sprintf("segment_every: %d is negative", c.SegmentEvery)},
		{b.Buffer >= 0, fmt.Sprintf("buffer: %d is negative", b.Buffer)},
		{b.GiveUp > 0, fmt.Sprintf("give_up: %d is not positive", b.GiveUp)},
		{inRange(c.TraceShare, 0, 1), fmt.Sprintf("trace_share: %v is not between 0 and 1", c.TraceShare)},
		{inRange(b.Multivariant, 0, 1), fmt.Sprintf("multivariant: %v is not between 0 and 1", b.Multivariant)},
	} {
		if !check.isValid {
			errs = append(errs, errors.New(check.problem))
		}
	}
	if c.Auth != nil {
		errs = append(errs, c.Auth.validate())
	}
	return errors.Join(errs...)
}

func inRange[T int | float64](n, least, most T) bool { return n >= least && n <= most }

func (c *Config) validateTargets() (errs []error) {
	if len(c.Targets) == 0 || len(c.Targets) > maxTargets {
		errs = append(errs, fmt.Errorf("targets: %d URLs, want 1 to %d", len(c.Targets), maxTargets))
	}
	for _, target := range c.Targets {
		u, err := url.Parse(target)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			errs = append(errs, fmt.Errorf("targets: %q is no URL of a server, such as http://127.0.0.1:8080", result.HideCredentials(target)))
		}
	}
	if !strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, " \r\n") {
		errs = append(errs, fmt.Errorf("path: %q does not begin with a slash, or has spaces", c.Path))
	}
	return errs
}
