package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// errInput is what is wrong with what was asked for.
var errInput = errors.New("not understood")

const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxBody bounds what an operator sends.
	maxBody = 16 << 10
	// maxReason bounds why he does it, in bytes: all viewers concerned have it in their records.
	maxReason = 200
	// longestKick is what is no ban yet, and longestBan what nobody means.
	longestKick = 24 * time.Hour
	longestBan  = 10 * 365 * 24 * time.Hour
)

// read reads a body of JSON into v; an empty one leaves it as it is. What v has no field for is refused: it would be
// ignored otherwise.
func read(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("the body is %w: %w", errInput, err)
	case d.More():
		return fmt.Errorf("the body is %w: it goes on behind its value", errInput)
	}
	return nil
}

// span reads a duration that is given as text. An empty one is zero.
func span(text string, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > longest {
		return 0, fmt.Errorf(`duration: %q is %w; want a duration such as "90s" or "12h", 1s to %v`, text, errInput, longest)
	}
	return d, nil
}

func checkReason(text string) error {
	if len(text) > maxReason {
		return fmt.Errorf("reason: it has %d bytes and is %w; want at most %d", len(text), errInput, maxReason)
	}
	return nil
}

// network reads an address or a prefix; an address is a prefix of itself.
func network(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address: %q is %w; want an address or a prefix, such as 192.0.2.7 or 2001:db8::/48", text, errInput)
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// filterOf reads what sessions are asked for. A parameter that is none is refused: without it too many would match.
func filterOf(query url.Values) (f Filter, limit int, err error) {
	limit = defaultLimit
	for name, values := range query {
		value := values[0]
		if field := f.field(name); field != nil {
			*field = value
			continue
		}
		switch name {
		case "address":
			if f.Address, err = network(value); err != nil {
				return f, 0, err
			}
		case "limit":
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > maxLimit {
				return f, 0, fmt.Errorf("limit: %w; want 1 to %d", errInput, maxLimit)
			}
		default:
			return f, 0, fmt.Errorf("%s: %w; want %s, address or limit", name, errInput, strings.Join(filterFields(), ", "))
		}
	}
	return f, limit, nil
}

func filterFields() []string {
	return []string{"id", "channel", "route", "backend", "user", "verdict", "source", "node", "q", "after"}
}

// field is the text that a parameter sets; nil if it is none.
func (f *Filter) field(name string) *string {
	switch name {
	case "id":
		return &f.ID
	case "channel":
		return &f.Channel
	case "route":
		return &f.Route
	case "backend":
		return &f.Backend
	case "user":
		return &f.User
	case "verdict":
		return &f.Verdict
	case "source":
		return &f.Source
	case "node":
		return &f.Node
	case "q":
		return &f.Query
	case "after":
		return &f.After
	default:
		return nil
	}
}
