package httpbackend

import (
	"cmp"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"usher/backends"
	"usher/backends/setting"
)

// maxHeaderValue bounds a header value from a viewer, so that no viewer can make a backend reject the call for its size.
// It is half of what servers accept for one line by default.
const maxHeaderValue = 4 << 10

// AstraHeaders returns the facts of a request as the contracts of Astra and Alta name and spell them. Facts that the
// viewer did not send, or the edge did not report, are left out.
func AstraHeaders(r *backends.Request) http.Header {
	const facts, others = 7, 1 // others: what a client adds; a map of eight takes half of one of nine
	h, values := make(http.Header, facts+others), make([]string, 0, facts)
	set := func(name, value string, isKnown bool) {
		if value = sanitizeHeader(value); value != "" && isKnown {
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	e := r.Edge
	if e == nil { // a player's request says all
		e = &backends.EdgeReport{HasSession: true, HasChannel: true, HasPath: true, HasHost: true}
		if r.Host != "" && r.Scheme != "" {
			e.Origin = r.Scheme + "://" + r.Host
		}
	}
	number := strconv.FormatUint(r.Session.Number(), 10)
	set("X-Session-ID", cmp.Or(e.AstraSession, number), e.HasSession)
	set("X-Channel-ID", r.Channel, e.HasChannel)
	set("X-Real-IP", r.Address.Unmap().WithZone("").String(), r.Address.IsValid())
	set("X-Real-Path", r.Path, e.HasPath)
	set("X-Real-UA", r.UserAgent, true)
	set("X-Real-Host", r.Host, e.HasHost)
	set("X-Real-Origin", e.Origin, true)
	return h
}

// addCredentials adds the viewer's headers, except reserved ones and those that h has in any spelling.
func addCredentials(h http.Header, viewer []backends.Header) {
	if len(viewer) == 0 {
		return
	}
	has := make(map[string]bool, len(h))
	for name := range h {
		has[textproto.CanonicalMIMEHeaderKey(name)] = true
	}
	for _, field := range viewer {
		name := textproto.CanonicalMIMEHeaderKey(field.Name)
		if isToken(name) && !setting.IsReservedHeader(name) && !has[name] {
			h[name] = append(h[name], sanitizeHeader(field.Value))
		}
	}
}

// sanitizeHeader cuts a value to size and removes control characters, which net/http rejects, so that no viewer can make
// a call fail.
func sanitizeHeader(value string) string {
	value = value[:min(len(value), maxHeaderValue)]
	if strings.ContainsFunc(value, isASCIIControl) {
		value = withoutControls(value)
	}
	return strings.Trim(value, " ")
}

// withoutControls keeps all other bytes, even those that are no UTF-8.
func withoutControls(value string) string {
	out := make([]byte, 0, len(value))
	for i := range len(value) {
		if !isASCIIControl(rune(value[i])) {
			out = append(out, value[i])
		}
	}
	return string(out)
}

func isASCIIControl(r rune) bool { return r < ' ' || r == 0x7f }

// isToken reports whether name is a valid header name (RFC 9110 §5.1).
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}
