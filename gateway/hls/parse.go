package hls

import (
	"errors"
	"fmt"
	"strings"
)

// The bounds of a playlist. A week of six-second segments stays below them; beyond them the origin is broken.
const (
	// MaxBytes is the largest playlist that is accepted. A template may grow to twice as much.
	MaxBytes = 16 << 20
	// MaxLines is the largest number of lines that is accepted.
	MaxLines = 1 << 19
)

// byteOrderMark may stand before a playlist in UTF-8; the standard forbids it, servers write it.
const byteOrderMark = "\ufeff"

// What Parse and Scan refuse.
var (
	// ErrNotPlaylist means that the body does not begin with #EXTM3U: an error page, a segment, nothing at all.
	ErrNotPlaylist = errors.New("not a playlist: no #EXTM3U")
	// ErrTooLarge means that MaxBytes or MaxLines was reached; the error's text says which.
	ErrTooLarge = errors.New("playlist too large")
)

// Options says where a playlist came from, where the viewer found it, and how its URIs carry the ticket.
type Options struct {
	// Origin is the absolute URL that the playlist came from, after redirects: relative URIs are resolved against it.
	Origin string
	// Path is the path under which the viewer asked for this playlist, as he wrote it, without ticket and query.
	Path string
	// TicketIn is the route's carrying mode.
	TicketIn TicketTransport
	// UnderTicket says that the viewer asked below "/~<ticket>", so that relative URIs inherit the ticket. It matters
	// to TicketInPath and TicketInNone.
	UnderTicket bool
	// QueryParameter is the query parameter of TicketInQuery, which needs it; the other modes ignore it.
	QueryParameter string

	// Locate turns a reference on the origin (path-absolute, without dot segments and fragment, with its query, otherwise
	// as written) into the viewer's path for it, path-absolute, with query. False means that no route serves it: the URI
	// stays as it is, as it does if the answer is no path-absolute reference or could not stand in a playlist. Nil
	// serves nothing. It must give the same answer for the same reference.
	Locate func(originRef string) (viewerRef string, ok bool)
	// SameOrigin reports whether scheme and host are an origin of ours, one that Locate speaks of. Both come in lower
	// case, the host with its port unless that is the scheme's own. Nil: only Origin's own scheme and host are.
	SameOrigin func(scheme, host string) bool
}

// Parse scans a playlist once and prepares it for all its viewers. It keeps no reference to body. It fails if the body is
// not a playlist (ErrNotPlaylist), beyond a bound (ErrTooLarge), or if Origin or Parameter cannot be used.
func Parse(body []byte, o Options) (*Template, error) {
	text, err := accept(body)
	if err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	w, err := newRewriter(text, o)
	if err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	s := scanner{text: text, uris: w}
	if err := s.scan(); err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	return w.template(s.info), nil
}

// Scan reads what a playlist says about itself and rewrites nothing. It fails as Parse does.
func Scan(body []byte) (Info, error) {
	text, err := accept(body)
	if err != nil {
		return Info{}, fmt.Errorf("scan playlist: %w", err)
	}
	s := scanner{text: text}
	if err := s.scan(); err != nil {
		return Info{}, fmt.Errorf("scan playlist: %w", err)
	}
	return s.info, nil
}

// accept takes a copy of the body as text if it can be a playlist: #EXTM3U, perhaps after a byte order mark and white
// space, alone on its line or followed by white space.
func accept(body []byte) (string, error) {
	if len(body) > MaxBytes {
		return "", fmt.Errorf("%w: %d bytes, MaxBytes=%d", ErrTooLarge, len(body), MaxBytes)
	}
	text := string(body)
	head := strings.TrimLeft(strings.TrimPrefix(text, byteOrderMark), " \t\r\n")
	rest, found := strings.CutPrefix(head, "#EXTM3U")
	if !found || (rest != "" && strings.IndexByte(" \t\r\n", rest[0]) < 0) {
		return "", ErrNotPlaylist
	}
	return text, nil
}
