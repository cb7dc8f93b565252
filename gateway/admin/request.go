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

// errInvalidInput marks errors in a request.
var errInvalidInput = errors.New("invalid input")

const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxBodyBytes bounds the body of a request.
	maxBodyBytes = 16 << 10
	// maxReasonBytes bounds the reason, which is stored with every session concerned.
	maxReasonBytes = 200
	// maxKick is the longest kick; beyond it use a ban.
	maxKick = 24 * time.Hour
	// maxBan rejects obvious typos.
	maxBan = 10 * 365 * 24 * time.Hour
)

// decodeBody decodes the JSON body into v. An empty body leaves v unchanged. A key without a field in v is an error,
// because it would be ignored otherwise.
func decodeBody(w http.ResponseWriter, r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	d.DisallowUnknownFields()
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("body: %w: %w", errInvalidInput, err)
	case d.More():
		return fmt.Errorf("body: %w: more than one JSON value", errInvalidInput)
	}
	return nil
}

// parseDuration parses a duration between a second and longest. An empty text is zero.
func parseDuration(text string, longest time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > longest {
		return 0, fmt.Errorf(`duration: %w: %q; want a duration such as "90s" or "12h", 1s to %v`, errInvalidInput, text, longest)
	}
	return d, nil
}

// parsePrefix parses an address or a prefix. A single address becomes the prefix that holds only it.
func parsePrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address: %w: %q; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48", errInvalidInput, text)
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// parseFilter parses the query of a list of sessions. An unknown parameter is an error, because without it too many
// sessions would match.
func parseFilter(query url.Values) (f Filter, limit int, err error) {
	limit = defaultLimit
	for name, values := range query {
		value := values[0]
		if field := f.field(name); field != nil {
			*field = value
			continue
		}
		switch name {
		case "address":
			if f.Address, err = parsePrefix(value); err != nil {
				return f, 0, err
			}
		case "limit":
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > maxLimit {
				return f, 0, fmt.Errorf("limit: %w; want 1 to %d", errInvalidInput, maxLimit)
			}
		default:
			return f, 0, fmt.Errorf("%s: %w; want %s, address or limit", name, errInvalidInput, strings.Join(filterParameters(), ", "))
		}
	}
	return f, limit, f.validate()
}

func filterParameters() []string {
	return []string{"id", "channel", "route", "backend", "user", "verdict", "source", "node", "q", "after", "credentials_of"}
}

// field returns the text field of a parameter, or nil if there is none.
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
	case "credentials_of":
		return &f.CredentialsOf
	default:
		return nil
	}
}
