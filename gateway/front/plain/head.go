package plain

import (
	"bytes"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxHeaderFields bounds the fields of one request. Players send a dozen, proxies add a few.
const maxHeaderFields = 128

// header holds the fields of a request, in order. It implements gateway.Header.
type header struct {
	names  []string // canonical
	values []string // beside names
}

// Get returns a field's first value, or "".
func (h *header) Get(name string) string {
	for i, n := range h.names {
		if n == name {
			return h.values[i]
		}
	}
	return ""
}

// Values returns the values of all fields of that name, in order. The slice must not be written to.
func (h *header) Values(name string) (all []string) {
	for i, n := range h.names {
		if n != name {
			continue
		}
		if all == nil {
			all = h.values[i : i+1 : i+1]
		} else {
			all = append(all, h.values[i])
		}
	}
	return all
}

func (h *header) count(name string) (n int) {
	for _, other := range h.names {
		if other == name {
			n++
		}
	}
	return n
}

// head is a request's line and header. Strings of it may be kept: they are copies of what came.
type head struct {
	line   string // the request's line, of which method, path and query are parts
	block  string // the lines of the fields
	fields header
	isRead bool // block and fields are of a request

	method, path, query string
	host                string // of the target if that is absolute, else of the field
	isHTTP11            bool
	framing             framing
}

// framing is what the fields say about the connection and the body. It depends on the fields alone.
type framing struct {
	host          string
	contentLength int64 // -1: chunked
	isClose       bool  // Connection: close
	isContinue    bool  // Expect: 100-continue
	// err is why a request of HTTP/1.1 with these fields is refused, err10 why one of HTTP/1.0 is.
	err, err10 *refusal
}

// refusal is why a request is answered without being served. The connection is closed then.
type refusal struct {
	status int
	why    string
}

// Error returns the reason.
func (r *refusal) Error() string { return r.why }

func badRequest(why string) *refusal { return &refusal{http.StatusBadRequest, why} }

// headEnd returns where a request's head ends in the bytes that have arrived, or 0 if more must arrive.
func headEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + len("\r\n\r\n")
	}
	return 0
}

// checkArrived refuses bytes that no head begins with, so that nobody waits for more of them.
func checkArrived(b []byte) *refusal {
	if len(b) > 0 && (b[0] < 'A' || b[0] > 'z') {
		return badRequest("malformed request line")
	}
	for i, c := range b {
		if c == '\n' && b[i-1] != '\r' {
			return badRequest("a line ends without CR")
		}
	}
	return nil
}

// parse parses a head, which ends in an empty line. What is the same as in the head before is taken from there, so that a player
// who asks again costs no allocation.
func (h *head) parse(b []byte) *refusal {
	end := bytes.Index(b, []byte("\r\n"))
	line, block := b[:end], b[end+2:len(b)-2]
	if err := h.setFields(block); err != nil {
		return err
	}
	if string(line) != h.line || h.line == "" {
		if err := h.parseLine(string(line)); err != nil {
			h.line = ""
			return err
		}
	}
	if strings.HasPrefix(h.target(), "/") || h.target() == "*" {
		h.host = h.framing.host
	}
	if h.isHTTP11 {
		return h.framing.err
	}
	return h.framing.err10
}

// maxKept is the longest head that an idle connection keeps. Players send some 300 bytes.
const maxKept = 1 << 10

// forgetLarge forgets a head that is too long to be kept while the connection is idle.
func (h *head) forgetLarge() {
	if len(h.line)+len(h.block) > maxKept {
		*h = head{}
	}
}

// setFields parses the lines of the fields, unless they are those of the request before.
func (h *head) setFields(block []byte) *refusal {
	if h.isRead && string(block) == h.block {
		return nil
	}
	if !h.isRead || len(h.block) > maxKept { // names are parts of their block, which stays as long as they do
		h.block, h.fields = "", header{}
	}
	h.isRead = false
	if err := h.parseFields(string(block)); err != nil {
		return err
	}
	h.isRead = true
	return nil
}

// target returns the request's target as it came.
func (h *head) target() string {
	return h.line[len(h.method)+1 : len(h.line)-len(" HTTP/1.1")]
}

// parseLine parses the request's line.
func (h *head) parseLine(line string) *refusal {
	method, rest, hasTarget := strings.Cut(line, " ")
	target, version, hasVersion := strings.Cut(rest, " ")
	switch {
	case !hasTarget, !hasVersion, !httpguts.ValidHeaderFieldName(method), target == "":
		return badRequest("malformed request line")
	case version == "HTTP/1.1", version == "HTTP/1.0":
	case len(version) == len("HTTP/1.1") && strings.HasPrefix(version, "HTTP/") && version[6] == '.' && isPrintable(version):
		return &refusal{http.StatusHTTPVersionNotSupported, "only HTTP/1.0 and HTTP/1.1"}
	default:
		return badRequest("malformed HTTP version")
	}
	h.line, h.method, h.isHTTP11 = line, method, version == "HTTP/1.1"
	return h.parseTarget(target)
}

// parseTarget sets path and query as net/url sees them, without its costs where the path is plain.
func (h *head) parseTarget(target string) *refusal {
	path, query, _ := strings.Cut(target, "?")
	if isPlainPath(path) && isPrintable(query) {
		h.path, h.query = path, query
		return nil
	}
	if h.method == http.MethodConnect {
		return badRequest("CONNECT is for proxies")
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return badRequest("malformed target")
	}
	h.path, h.query = u.EscapedPath(), u.RawQuery
	if !strings.HasPrefix(target, "/") && target != "*" {
		if u.Host == "" || !httpguts.ValidHostHeader(u.Host) {
			return badRequest("malformed host")
		}
		h.host = u.Host
	}
	return nil
}

// isPlainPath reports whether net/url would leave a path as it is.
func isPlainPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '/', c == '-', c == '_', c == '.', c == '~', c == '=', c == ',', c == '+', c == ':', c == '@', c == '$', c == '&', c == ';':
		default:
			return false
		}
	}
	return true
}

// isPrintable reports whether a text has no control characters.
func isPrintable(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// parseFields parses the lines of the fields. A name that stands where the head before had it is taken from there, and a line
// that is the same is known to be well formed: an edge's questions differ in one line.
func (h *head) parseFields(block string) *refusal {
	known, before := h.fields.names, h.block
	room := min(strings.Count(block, "\r\n"), maxHeaderFields)
	names, values := known, make([]string, 0, room)
	h.block, h.fields = block, header{}
	for rest := block; rest != ""; {
		var line, same string
		line, rest, _ = strings.Cut(rest, "\r\n")
		same, before, _ = strings.Cut(before, "\r\n")
		name, value, hasColon := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		n := len(values)
		isKnown := n < len(known) && strings.HasPrefix(same, line[:min(len(name)+1, len(line))])
		switch {
		case !hasColon, !isKnown && !httpguts.ValidHeaderFieldName(name), line != same && !httpguts.ValidHeaderFieldValue(value):
			return badRequest("malformed header field")
		case n == maxHeaderFields:
			return &refusal{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("more than %d header fields", maxHeaderFields)}
		case isKnown:
		case known != nil || names == nil: // the first name that differs
			names = append(make([]string, 0, room), known[:n]...)
			known = nil
			fallthrough
		default:
			names = append(names, textproto.CanonicalMIMEHeaderKey(name))
		}
		values = append(values, value)
	}
	h.fields = header{names[:len(values)], values}
	h.framing = h.fields.framing()
	return nil
}

// framing returns what the fields say about the connection and the body.
func (h *header) framing() framing {
	f := framing{
		host: h.Get("Host"), isContinue: strings.EqualFold(h.Get("Expect"), "100-continue"),
		isClose: httpguts.HeaderValuesContainsToken(h.Values("Connection"), "close"),
	}
	hosts, isChunked := h.count("Host"), h.count("Transfer-Encoding") > 0
	f.err = f.setLength(h)
	switch {
	case f.err != nil:
	case hosts > 1:
		f.err = badRequest("several Host fields")
	case !httpguts.ValidHostHeader(f.host):
		f.err = badRequest("malformed Host")
	case !f.isContinue && h.count("Expect") > 0:
		f.err = &refusal{http.StatusExpectationFailed, "only Expect: 100-continue"}
	}
	f.err10 = f.err
	if f.err == nil && hosts == 0 {
		f.err = badRequest("no Host")
	}
	if f.err10 == nil && isChunked {
		f.err10 = badRequest("Transfer-Encoding in HTTP/1.0")
	}
	return f
}

// setLength sets how long the body is.
func (f *framing) setLength(h *header) *refusal {
	lengths, codings := h.count("Content-Length"), h.count("Transfer-Encoding")
	switch {
	case lengths > 0 && codings > 0:
		return badRequest("Content-Length beside Transfer-Encoding")
	case lengths > 1:
		return badRequest("several Content-Length fields")
	case codings > 1, codings == 1 && !strings.EqualFold(h.Get("Transfer-Encoding"), "chunked"):
		return &refusal{http.StatusNotImplemented, "only Transfer-Encoding: chunked"}
	case codings == 1:
		f.contentLength = -1
	case lengths == 1:
		n, err := strconv.ParseUint(h.Get("Content-Length"), 10, 63)
		if err != nil {
			return badRequest("malformed Content-Length")
		}
		f.contentLength = int64(n)
	}
	return nil
}

// keepsAlive reports whether the client may send another request on the connection. One of HTTP/1.0 may not, as with net/http, which
// does not see where a body in chunks ends there.
func (h *head) keepsAlive() bool { return h.isHTTP11 && !h.framing.isClose }
