package backendtest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is a way of behaving. The set is closed.
type Kind string

// The kinds. A comment says what argument one takes.
const (
	KindHealthy      Kind = "healthy"
	KindSlow         Kind = "slow" // a duration, then healthy
	KindHang         Kind = "hang"
	KindRefuse       Kind = "refuse"        // the port is closed
	KindReset        Kind = "reset"         // the connection breaks in the middle of the answer's headers
	KindStatus       Kind = "status"        // a status, for every viewer
	KindGiantHeaders Kind = "giant-headers" // a megabyte of them
	KindGarbage      Kind = "garbage"       // bytes that are not HTTP, the viewer's query among them
	KindFlap         Kind = "flap"          // healthy for a duration, then reset for as long, and again
	KindRedirect     Kind = "redirect"      // a URL
	KindRedirectSelf Kind = "redirect-self" // to the server's own login page
	KindSlowBody     Kind = "slow-body"     // the answer's headers at once, its body never
)

// Mode is how the server behaves: a kind and its argument. The zero value is healthy.
type Mode struct {
	Kind     Kind
	For      time.Duration
	Status   int
	Location string
}

// Healthy answers by the users of the config.
func Healthy() Mode { return Mode{Kind: KindHealthy} }

// Slow is healthy after a delay.
func Slow(by time.Duration) Mode { return Mode{Kind: KindSlow, For: by} }

// Hang accepts the request and never answers.
func Hang() Mode { return Mode{Kind: KindHang} }

// Refuse closes the port and every connection.
func Refuse() Mode { return Mode{Kind: KindRefuse} }

// Reset breaks the connection in the middle of the answer.
func Reset() Mode { return Mode{Kind: KindReset} }

// Status answers every viewer with that status.
func Status(status int) Mode { return Mode{Kind: KindStatus, Status: status} }

// GiantHeaders answers with a megabyte of headers.
func GiantHeaders() Mode { return Mode{Kind: KindGiantHeaders} }

// Garbage answers with bytes that are not HTTP.
func Garbage() Mode { return Mode{Kind: KindGarbage} }

// Flap is healthy for period, then resets for as long, and so on, from when it is set.
func Flap(period time.Duration) Mode { return Mode{Kind: KindFlap, For: period} }

// Redirect redirects every viewer to location.
func Redirect(location string) Mode { return Mode{Kind: KindRedirect, Location: location} }

// RedirectSelf redirects every viewer to the server's own login page, as portals do.
func RedirectSelf() Mode { return Mode{Kind: KindRedirectSelf} }

// SlowBody sends the answer's headers at once and its body never.
func SlowBody() Mode { return Mode{Kind: KindSlowBody} }

// String returns the mode as a scenario writes it: "slow:200ms", "status:503", "hang".
func (m Mode) String() string {
	switch m.Kind {
	case "":
		return string(KindHealthy)
	case KindSlow, KindFlap:
		return string(m.Kind) + ":" + m.For.String()
	case KindStatus:
		return string(m.Kind) + ":" + strconv.Itoa(m.Status)
	case KindRedirect:
		return string(m.Kind) + ":" + m.Location
	default:
		return string(m.Kind)
	}
}

// MarshalText returns the mode as a scenario spells it.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses a mode of a scenario.
func (m *Mode) UnmarshalText(text []byte) error {
	parsed, err := ParseMode(string(text))
	if err == nil {
		*m = parsed
	}
	return err
}

// ParseMode parses the result of [Mode.String].
func ParseMode(text string) (Mode, error) {
	kind, argument, hasArgument := strings.Cut(text, ":")
	m := Mode{Kind: Kind(kind)}
	if err := m.parseArgument(argument, hasArgument); err != nil {
		return Mode{}, fmt.Errorf("mode %q: %w", text, err)
	}
	return m, nil
}

// parseArgument sets what the mode's kind needs.
func (m *Mode) parseArgument(argument string, hasArgument bool) (err error) {
	switch m.Kind {
	case KindSlow, KindFlap:
		if m.For, err = time.ParseDuration(argument); err == nil && m.For <= 0 {
			err = fmt.Errorf("%s is not above 0", m.For)
		}
	case KindStatus:
		if m.Status, err = strconv.Atoi(argument); err == nil && (m.Status < 200 || m.Status > 599) {
			err = fmt.Errorf("%d is not from 200 to 599", m.Status)
		}
	case KindRedirect:
		if m.Location = argument; argument == "" {
			err = fmt.Errorf("an address is missing")
		}
	case KindHealthy, KindHang, KindRefuse, KindReset, KindGiantHeaders, KindGarbage, KindRedirectSelf, KindSlowBody:
		if hasArgument {
			err = fmt.Errorf("%q takes no argument", m.Kind)
		}
	default:
		err = fmt.Errorf("unknown kind %q", m.Kind)
	}
	return err
}
