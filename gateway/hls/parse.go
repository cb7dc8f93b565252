package hls

import (
	"errors"
	"fmt"
	"strconv"
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
	// QueryParameter is the query parameter of the ticket. TicketInQuery requires it; the others ignore it.
	QueryParameter string

	// Query is the query of the playlist's URI as its origin was asked, raw: the values of EXT-X-DEFINE:QUERYPARAM.
	Query string
	// IsViewersQuery reports that a viewer chose some of Query. In what the playlist lists, and in what is listed there in turn, their
	// values can be single names in a path, and parts of a query, but no host and no way to another folder.
	IsViewersQuery bool
	// Variables are those of the playlist that lists this one, as a [Listed] told them: the values of EXT-X-DEFINE:IMPORT.
	Variables string

	// Locate maps what a playlist lists to the viewer's path for it, path-absolute, with query. If it returns false the
	// URI stays unchanged, also if the result is not path-absolute or cannot be written in a playlist. Nil locates
	// nothing. It must return the same result for the same argument.
	Locate func(Listed) (viewerRef string, ok bool)
	// Pathway returns the value of [HostParameter] for the host and the parameters (PARAMS, as a query) of a pathway that a
	// steering manifest names, either of which may be empty. It returns "" if there is nothing to tell. The value must be safe
	// in a query and in JSON. Nil: all are "".
	Pathway func(host, query string) string
}

// Role is what a URI is, by the tag that lists it.
type Role uint8

// The roles.
const (
	// Media is a segment, a part, an initialization section, or data that the gateway does not read.
	Media Role = iota
	// Playlist is a multivariant or media playlist.
	Playlist
	// Key is a decryption key.
	Key
	// Document is a JSON document that lists URIs: an asset list, a schedule of date ranges or a steering manifest.
	Document
)

// String returns the name of the role.
func (r Role) String() string {
	if names := [...]string{"media", "playlist", "key", "document"}; int(r) < len(names) {
		return names[r]
	}
	return "role " + strconv.Itoa(int(r))
}

// Listed is what a playlist or a document says of a URI.
type Listed struct {
	Role Role
	// Scheme is http or https.
	Scheme string
	// Host is in lower case and has its port unless that is the scheme's default.
	Host string
	// Ref is path-absolute, without dot segments and fragment, with its query, otherwise as written. Variables are
	// replaced by their values; an unknown one is left.
	Ref string
	// Version changes if a playlist lists a URI again for other bytes: under another sequence number or another key. It is
	// the same in every reload that lists the same. It is zero where the playlist tells neither. Versions of different
	// playlists do not compare.
	Version uint64
	// MayGrow reports that the file may get longer while it is listed so: the tag names a range of it, or announces it.
	MayGrow bool
	// Variables are what a listed playlist may import, or the playlists that a listed document names. It is encoded; see
	// [Options].
	Variables string
}

// IsKnown reports whether Ref has no variable of unknown value.
func (l *Listed) IsKnown() bool { return !strings.Contains(l.Ref, "{$") }

// Parse scans a playlist once and prepares it for all its viewers. It keeps no reference to body. It returns
// ErrNotPlaylist, ErrTooLarge, or an error about an unusable Origin or QueryParameter.
func Parse(body []byte, o Options) (*Template, error) {
	text, err := playlistText(body)
	if err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	w, err := newRewriter(text, o)
	if err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	s := scanner{text: text, rewriter: w, info: Info{MediaSequence: lateSequence(text)}}
	if err := s.scan(); err != nil {
		return nil, fmt.Errorf("parse playlist: %w", err)
	}
	return w.buildTemplate(s.info), nil
}

// lateSequence returns the number of the first segment if the playlist tells it only after a segment.
func lateSequence(text string) uint64 {
	before, _, found := strings.Cut(text, "#EXT-X-MEDIA-SEQUENCE:")
	if !found {
		return 0
	}
	head, whole := scanner{text: before}, scanner{text: text}
	if head.scan() != nil || head.info.Segments+head.info.Parts == 0 || whole.scan() != nil {
		return 0 // the scan that follows says what is too large
	}
	return whole.info.MediaSequence
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
