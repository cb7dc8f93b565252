package flussonic

import (
	"strconv"
	"strings"
	"time"

	"usher/backends"
	"usher/backends/httpbackend"
)

// What a call may hold of a viewer's words: of each fact, as he said it, and of all together, as they stand in the
// address. Servers take 8 KiB of request line by default, and some break the connection over more: a failure that a
// viewer could bring about.
const (
	maxValueBytes  = 4 << 10
	maxViewerBytes = 7 << 10
)

// parameters is what the middleware is told, in the order of Flussonic's documentation.
func (b *Backend) parameters(r *backends.Request, token string, now time.Time) []httpbackend.Parameter {
	f := parameterList{list: make([]httpbackend.Parameter, 0, 16), budget: maxViewerBytes}
	ofChannel, all := b.viewerCount(r.Channel)
	requestType, number := requestStage(r)

	f.addFromViewer("name", r.Channel)
	if r.Address.IsValid() {
		f.add("ip", r.Address.Unmap().WithZone("").String())
	}
	f.add("proto", "hls")
	f.add("request_type", requestType)
	f.add("request_number", strconv.Itoa(number))
	f.add("session_id", r.Session.UUID())
	f.add("stream_clients", strconv.Itoa(ofChannel))
	f.add("total_clients", strconv.Itoa(all))
	f.addFromViewer("token", token)
	if requestType == updateSession {
		if !r.Opened.IsZero() {
			f.add("duration", strconv.FormatInt(max(0, int64(now.Sub(r.Opened)/time.Second)), 10))
		}
		f.add("bytes", strconv.FormatInt(r.Bytes, 10))
	}
	f.addFromViewer("qs", r.Query)
	f.addFromViewer("user_agent", r.UserAgent)
	f.addFromViewer("referer", r.Referer)
	f.addFromViewer("host", r.Host)
	if isArchive(r.Path, r.Channel) {
		f.add("dvr", "true")
	}
	return f.list
}

const newSession, updateSession = "new_session", "update_session"

// requestStage is where the session stands for the middleware: the request's type and number. The two always agree, because
// middlewares tell a session's beginning by either. Our own number cannot be taken as it is, since it counts checks
// that nobody answered, some of which never went out.
func requestStage(r *backends.Request) (requestType string, number int) {
	switch r.Current.Source {
	case backends.FromBackend, backends.FromCached, backends.FromLimit: // a limit on the user that it named
		return updateSession, max(1, r.Number)
	default: // nobody, a stopgap, or somebody who is not the middleware
		return newSession, 0
	}
}

// parameterList collects parameters. Room is what is left for the viewer's words, in bytes once they are escaped.
type parameterList struct {
	list []httpbackend.Parameter
	budget int
}

// add takes what is ours, and short.
func (f *parameterList) add(name, value string) {
	f.list = append(f.list, httpbackend.Parameter{Name: name, Value: value})
}

// addFromViewer takes what the viewer said, as much as fits. Nothing is taken out of it: escaped, it can do no harm on the
// wire, and a channel or a token without its strange characters would be another one.
func (f *parameterList) addFromViewer(name, value string) {
	value = value[:min(len(value), maxValueBytes)]
	for i := range len(value) {
		if f.budget -= escapedLength(value[i]); f.budget < 0 {
			value, f.budget = value[:i], 0
			break
		}
	}
	if value != "" {
		f.add(name, value)
	}
}

// escapedLength is how many bytes of an address a byte of a value takes: RFC 3986's unreserved ones stand as they are.
func escapedLength(c byte) int {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
		return 1
	default:
		return 3
	}
}
