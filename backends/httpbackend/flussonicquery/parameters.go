package flussonicquery

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// Bounds of viewer input in a call: maxValueBytes for each value, unescaped, and maxViewerBytes for all together, as
// escaped in the address. Servers accept 8 KiB of request line by default, and some break the connection beyond that: a
// failure that a viewer could cause.
const (
	maxValueBytes  = 4 << 10
	maxViewerBytes = 7 << 10
	// maxEdgeBytes bounds each value that an edge chooses.
	maxEdgeBytes = 128
)

// Parameters returns the facts of a request as Flussonic's contract names them, in the order of its documentation.
// The viewer's query is one of them, so none of its parameters can be taken for another. viewerCount is that of
// [httpbackend.Deps] and may be nil.
func Parameters(
	r *backends.Request, token string, viewerCount func(channel string) (ofChannel, all int), now time.Time,
) []httpbackend.Parameter {
	p := parameterList{list: make([]httpbackend.Parameter, 0, 16), budget: maxViewerBytes}
	ofChannel, all := 0, 0
	if viewerCount != nil {
		ofChannel, all = viewerCount(r.Channel)
	}
	requestType, number := requestStage(r)

	p.addFromViewer("name", r.Channel)
	if r.Address.IsValid() {
		p.add("ip", r.Address.Unmap().WithZone("").String())
	}
	e := r.Edge
	if e == nil {
		e = &backends.EdgeReport{IsArchive: isArchive(r.Path, r.Channel)}
	}
	p.add("proto", cmp.Or(e.Protocol[:min(len(e.Protocol), maxEdgeBytes)], "hls"))
	p.add("request_type", requestType)
	p.add("request_number", strconv.Itoa(number))
	p.add("session_id", cmp.Or(e.FlussonicSession[:min(len(e.FlussonicSession), maxEdgeBytes)], r.Session.UUID()))
	p.add("stream_clients", strconv.Itoa(ofChannel))
	p.add("total_clients", strconv.Itoa(all))
	p.addFromViewer("token", token)
	if requestType == updateSession {
		if !r.Opened.IsZero() {
			p.add("duration", strconv.FormatInt(max(0, int64(now.Sub(r.Opened)/time.Second)), 10))
		}
		p.add("bytes", strconv.FormatInt(r.Bytes, 10))
	}
	p.addFromViewer("qs", r.Query)
	p.addFromViewer("user_agent", r.UserAgent)
	p.addFromViewer("referer", r.Referer)
	p.addFromViewer("host", r.Host)
	if e.IsArchive {
		p.add("dvr", "true")
	}
	return p.list
}

const newSession, updateSession = "new_session", "update_session"

// requestStage returns the request's type and number: the session's progress from the middleware's view. The two always
// agree, because middlewares recognise a new session by either. The check's own number does not serve, since it also
// counts unanswered checks, some of which were never sent.
func requestStage(r *backends.Request) (requestType string, number int) {
	switch r.Current.Source {
	case backends.FromBackend, backends.FromCached, backends.FromLimit: // a limit on the user named by the middleware
		return updateSession, max(1, r.Number)
	default: // pending, a fallback, or a source other than the middleware
		return newSession, 0
	}
}

// parameterList collects parameters.
type parameterList struct {
	list   []httpbackend.Parameter
	budget int // bytes left for viewer input, escaped
}

// add appends a short value of our own.
func (p *parameterList) add(name, value string) {
	p.list = append(p.list, httpbackend.Parameter{Name: name, Value: value})
}

// addFromViewer appends viewer input, cut to what fits. It strips no characters: escaped, they are harmless on the wire,
// and a channel or token without its unusual characters would be a different one.
func (p *parameterList) addFromViewer(name, value string) {
	value = value[:min(len(value), maxValueBytes)]
	for i := range len(value) {
		if p.budget -= escapedLength(value[i]); p.budget < 0 {
			value, p.budget = value[:i], 0
			break
		}
	}
	if value != "" {
		p.add(name, value)
	}
}

// escapedLength returns how many bytes of an address one byte of a value takes: RFC 3986's unreserved ones stay
// unescaped.
func escapedLength(c byte) int {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
		return 1
	default:
		return 3
	}
}
