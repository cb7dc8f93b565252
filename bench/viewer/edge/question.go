package edge

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Dialect is how an edge asks.
type Dialect string

// The dialects.
const (
	Nginx     Dialect = "nginx"
	Traefik   Dialect = "traefik"
	Caddy     Dialect = "caddy"
	Astra     Dialect = "astra"
	Alta      Dialect = "alta"
	Flussonic Dialect = "flussonic"
	Envoy     Dialect = "envoy"
)

// Validate returns an error for a dialect that no edge has.
func (d Dialect) Validate() error {
	all := []Dialect{Nginx, Traefik, Caddy, Astra, Alta, Flussonic, Envoy}
	if slices.Contains(all, d) {
		return nil
	}
	return fmt.Errorf("dialect %q: want one of %v", string(d), all)
}

// Question is what an edge asks about a viewer.
type Question struct {
	// Path is where the edge asks over HTTP.
	Path string
	// URI is the path and query that the viewer wants, Host the name that they ask for, Channel the edge's name of it.
	URI, Host, Channel string
	Address            netip.Addr
	UserAgent          string
	// Session is the edge's number of the session, and Number how many questions about it came before this one.
	Session uint64
	Number  int64
}

// Host returns the Host field of a question; empty: that of the auth server.
func (d Dialect) Host(q *Question) string {
	if d == Nginx {
		return q.Host
	}
	return ""
}

// AppendTarget appends the path and query of a question over HTTP.
func (d Dialect) AppendTarget(dst []byte, q *Question) []byte {
	dst = append(dst, q.Path...)
	switch d {
	case Astra, Alta:
		if _, query, found := strings.Cut(q.URI, "?"); found {
			dst = append(append(dst, '?'), query...)
		}
	case Flussonic:
		dst = append(append(dst, '?'), flussonicQuery(q)...)
	}
	return dst
}

// flussonicQuery returns a query with the names of flussonic.com/doc/api/authorization.
func flussonicQuery(q *Question) string {
	_, query, _ := strings.Cut(q.URI, "?")
	token := ""
	if values, err := url.ParseQuery(query); err == nil {
		token = values.Get("token")
	}
	kind := "new_session"
	if q.Number > 0 {
		kind = "update_session"
	}
	return url.Values{
		"name": {q.Channel}, "ip": {q.Address.String()}, "proto": {"hls"}, "request_type": {kind},
		"request_number": {strconv.FormatInt(q.Number, 10)}, "session_id": {uuid(q.Session)}, "stream_clients": {"1"}, "total_clients": {"1"},
		"token": {token}, "qs": {query}, "user_agent": {q.UserAgent}, "host": {q.Host}, "duration": {"0"}, "bytes": {"0"},
	}.Encode()
}

// uuid returns a number as a UUID of no version.
func uuid(n uint64) string {
	return fmt.Sprintf("%08x-%04x-8000-8000-%012x", uint32(n>>32), uint16(n>>16), n&(1<<48-1))
}

// AppendHeader appends the header lines of a question over HTTP.
func (d Dialect) AppendHeader(dst []byte, q *Question) []byte {
	line := func(name, value string) {
		if value != "" {
			dst = append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
		}
	}
	path, _, _ := strings.Cut(q.URI, "?")
	address := q.Address.String()
	switch d {
	case Nginx:
		line("User-Agent", q.UserAgent)
		line("X-Original-URI", q.URI)
		line("X-Original-Method", "GET")
		line("X-Real-IP", address)
		line("X-Forwarded-Proto", "http")
	case Traefik, Caddy:
		line("User-Agent", q.UserAgent)
		line("X-Forwarded-Method", "GET")
		line("X-Forwarded-Proto", "http")
		line("X-Forwarded-Host", q.Host)
		line("X-Forwarded-Uri", q.URI)
		line("X-Forwarded-For", address)
	case Astra:
		line("X-Session-ID", strconv.FormatUint(q.Session, 10))
		line("X-Channel-ID", q.Channel)
		line("X-Real-IP", address)
		line("X-Real-Path", path)
		line("X-Real-UA", q.UserAgent)
		line("X-Real-Host", q.Host)
	case Alta:
		line("X-Session-Id", strconv.FormatUint(q.Session, 10))
		line("X-Real-Ip", address)
		line("X-Real-Path", path)
		line("X-Real-Ua", q.UserAgent)
		line("X-Real-Origin", "http://"+q.Host)
	case Flussonic:
		line("User-Agent", "Flussonic")
	}
	return dst
}
