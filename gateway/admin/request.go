package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"usher/gateway/admin/access"
	"usher/gateway/admin/audit"
)

// errInvalidInput marks errors in a request.
var errInvalidInput = errors.New("invalid input")

const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxBodyBytes bounds the body of a request.
	maxBodyBytes = 16 << 10
	// maxReason bounds the characters of the reason, which is stored with every session concerned.
	maxReason = 200
	// maxKick is the longest kick; beyond it use a ban.
	maxKick = 24 * time.Hour
	// maxBan rejects obvious typos.
	maxBan = 10 * 365 * 24 * time.Hour
)

// authorize rejects requests without a token, with a query or a body that would be ignored, and changes by a token that may only
// read. A request that has its principal already needs no token. A caller who leaves does not leave half a change.
func (h *handler) authorize(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, isKnown := access.FromContext(r.Context())
		if !isKnown {
			p, isKnown = h.tokens.FromBearer(r)
		}
		if !isKnown {
			h.refuseUnknown(w, r, e)
			return
		}
		ctx, target := access.WithPrincipal(r.Context(), p), audit.Target(r)
		if e.change != "" {
			ctx = context.WithoutCancel(ctx)
		}
		r = r.WithContext(ctx)
		err := checkQuery(r.URL.RawQuery, e.hasQuery)
		if err == nil && e.change != "" && !e.hasBody {
			err = decodeBody(w, r, &struct{}{})
		}
		if err != nil {
			if e.change != "" {
				h.log.Record(r, e.change, target, err)
			}
			writeError(w, err)
			return
		}
		if e.change != "" && !e.hasBody && !h.mayChange(w, r, e.change, target) {
			return
		}
		e.handle(w, r)
	})
}

// errNoToken means that nobody knows who sent a request.
var errNoToken = errors.New("the API needs the header Authorization: Bearer <token>, with admin.token or one of admin.tokens")

// refuseUnknown responds to a request without a known token. A wrong token may be a guess, and an attempt to change is recorded:
// there is a bound to both.
func (h *handler) refuseUnknown(w http.ResponseWriter, r *http.Request, e endpoint) {
	_, hasToken := access.Bearer(r)
	if (hasToken || e.change != "") && h.page.LimitUnknown(w, r, cmp.Or(e.change, "read"), errNoToken) {
		return
	}
	w.Header().Set("Www-Authenticate", `Bearer realm="usher"`)
	writeText(w, http.StatusUnauthorized, errNoToken.Error())
}

// mayChange reports whether the request's principal may change anything. If not, it responds, and records the attempt.
func (h *handler) mayChange(w http.ResponseWriter, r *http.Request, action, target string, attributes ...slog.Attr) bool {
	p, _ := access.FromContext(r.Context()) // nobody has no role
	err := p.Check(action, access.Write)
	if err != nil {
		h.log.Record(r, action, target, err, attributes...)
		writeText(w, http.StatusForbidden, err.Error())
	}
	return err == nil
}

// refuse responds with why a change is not made, and records the attempt. It does nothing and returns false if err is nil.
func (h *handler) refuse(
	w http.ResponseWriter, r *http.Request, action, target string, err error, attributes ...slog.Attr,
) (isRefused bool) {
	if err != nil {
		h.log.Record(r, action, target, err, attributes...)
	}
	return writeError(w, err)
}

// decodeBody decodes the JSON body into v, whose fields are scalars. An empty body leaves v unchanged. What would be ignored otherwise is
// an error.
func decodeBody(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return fmt.Errorf("body: %w: %w", errInvalidInput, err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	switch err := d.Decode(v); {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, errInvalidInput): // of a value that says what it is
		return err
	case err != nil:
		return fmt.Errorf("body: %w: %w", errInvalidInput, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("body: %w: more than one JSON value", errInvalidInput)
	}
	return checkFields(body)
}

// checkFields rejects an object of scalars that has a field twice, or not as the API spells it: the decoder takes USER for user, and only
// the last of them counts. The object has been decoded, so that it is valid.
func checkFields(object []byte) error {
	d, seen := json.NewDecoder(bytes.NewReader(object)), make(map[string]bool)
	_, _ = d.Token() // its brace
	for d.More() {
		token, _ := d.Token()
		name, _ := token.(string)
		switch {
		case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "":
			return fmt.Errorf("body: %w: json: unknown field %q", errInvalidInput, name)
		case seen[name]:
			return fmt.Errorf("%s: %w: the body has it twice; want it once", name, errInvalidInput)
		}
		seen[name] = true
		_, _ = d.Token() // its value
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

// prefix is an address or a prefix in a request. The zero value is none.
type prefix struct{ netip.Prefix }

// String returns the prefix; none is empty.
func (p prefix) String() string {
	if !p.IsValid() {
		return ""
	}
	return p.Prefix.String()
}

// UnmarshalText parses an address or a prefix; an empty text is none. A single address becomes the prefix that holds only it, and
// IPv4 in IPv6 is IPv4, as viewers' addresses are.
func (p *prefix) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = prefix{}
		return nil
	}
	parsed, err := netip.ParsePrefix(string(text))
	if a, notAddress := netip.ParseAddr(string(text)); notAddress == nil {
		parsed, err = netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
	}
	if a := parsed.Addr(); a.Is4In6() {
		parsed = netip.PrefixFrom(a.Unmap(), parsed.Bits()-(128-32))
	}
	if err != nil || !parsed.IsValid() {
		return fmt.Errorf("address: %w: %q; want an address or a prefix such as 192.0.2.7 or 2001:db8::/48", errInvalidInput, text)
	}
	p.Prefix = parsed.Masked()
	return nil
}

// checkQuery rejects a query of which a part would be ignored, because then more would match than is meant, or a change would be
// made: one that cannot be parsed, a parameter that it has twice, and any parameter of an operation that has none.
func checkQuery(raw string, hasParameters bool) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("query: %w: %w", errInvalidInput, err)
	}
	for name, values := range query {
		switch {
		case !hasParameters:
			return fmt.Errorf("%s: %w; this operation has no parameters", name, errInvalidInput)
		case len(values) > 1:
			return fmt.Errorf("%s: %w: the query has it %d times; want it once", name, errInvalidInput, len(values))
		}
	}
	return nil
}

// parseFilter parses the query of a list of sessions. An unknown parameter is an error, because without it too many
// sessions would match.
func parseFilter(query url.Values) (f Filter, limit int, err error) {
	limit = defaultLimit
	for name, values := range query {
		value := values[0] // the only one; see checkQuery
		if field := f.field(name); field != nil {
			*field = value
			continue
		}
		switch name {
		case "address":
			if err = f.Address.UnmarshalText([]byte(value)); err != nil {
				return f, 0, err
			}
		case "limit":
			if value == "" {
				continue
			}
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
