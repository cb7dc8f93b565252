package hls

import (
	"errors"
	"fmt"
	"strings"
)

// The bounds of a playlist. A week of six-second segments stays below them; a playlist beyond them means a broken
// origin.
const (
	// MaxBytes is the largest playlist that is accepted. A template may grow to twice as much.
	MaxBytes = 16 << 20
	// MaxLines is the largest number of lines that is accepted.
	MaxLines = 1 << 19
)

// byteOrderMark may precede a playlist in UTF-8. The standard forbids it, and some servers write it.
const byteOrderMark = "\ufeff"

// The errors of Parse and Scan.
var (
	// ErrNotPlaylist means that the body does not begin with #EXTM3U: it is an error page, a segment or empty.
	ErrNotPlaylist = errors.New("not a playlist: no #EXTM3U")
	// ErrTooLarge means that the playlist exceeds MaxBytes or MaxLines; the error's text says which.
	ErrTooLarge = errors.New("playlist too large")
)

// Options describe where a playlist came from, where the viewer requested it, and how its URIs transport the ticket.
type Options struct {
	// Origin is the absolute URL that the playlist came from, after redirects: relative URIs are resolved against it.
	Origin string
	// Path is the path of the viewer's request for this playlist, as sent, without ticket and query.
	Path string
	// TicketIn is how the route transports tickets.
	TicketIn TicketTransport
	// UnderTicket reports that the viewer's request was below "/~<ticket>", so that relative URIs inherit the ticket.
	// Only TicketInPath and TicketInNone use it.
	UnderTicket bool
	// Parameter is the query parameter of the ticket. TicketInQuery requires it; the others ignore it.
	QueryParameter string

	// Locate maps a reference on the origin (path-absolute, without dot segments and fragment, with its query, otherwise
	// as written) to the viewer's path for it, path-absolute, with query. False means that no route serves it. The URI
	// then stays unchanged, also if the result is not path-absolute or cannot be written in a playlist. Nil serves
	// nothing. It must return the same result for the same reference.
	Locate func(originRef string) (viewerRef string, ok bool)
	// TicketScope returns the scope of the ticket that a viewer's reference needs, as Locate returned it, if the playlist's
	// own ticket does not open it; else "". The text has a meaning for the caller only. URIs that need another ticket are
	// written with it, also below a ticket. Nil: the playlist's own ticket opens everything. It must return the same result
	// for the same reference.
	TicketScope func(viewerRef string) string
	// SameOrigin reports whether scheme and host belong to the origin whose references Locate maps. Both are in lower
	// case; the host has its port unless that is the scheme's default. Nil accepts only the scheme and host of Origin.
	SameOrigin func(scheme, host string) bool
}

// Parse scans a playlist once and prepares it for all its viewers. It keeps no reference to body. It returns
// ErrNotPlaylist, ErrTooLarge, or an error about an unusable Origin or Parameter.
func Parse(body []byte, o Options) (*Template, error) {
	text, err := playlistText(body)
	if err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	w, err := newRewriter(text, o)
	if err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	s := scanner{text: text, rewriter: w}
	if err := s.scan(); err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	return w.buildTemplate(s.info), nil
}

// Scan reads the Info of a playlist and rewrites nothing. It returns ErrNotPlaylist or ErrTooLarge.
func Scan(body []byte) (Info, error) {
	text, err := playlistText(body)
	if err != nil {
		return Info{}, fmt.Errorf("scan playlist: %w", err)
	}
	s := scanner{text: text}
	if err := s.scan(); err != nil {
		return Info{}, fmt.Errorf("scan playlist: %w", err)
	}
	return s.info, nil
}

// playlistText returns a copy of the body as text if it can be a playlist: it begins with #EXTM3U, possibly after a byte
// order mark and white space, alone on its line or followed by white space.
func playlistText(body []byte) (string, error) {
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
