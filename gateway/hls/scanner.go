package hls

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
)

// uriSpan locates a URI in the playlist.
type uriSpan struct {
	start, end int
	within     uriContext
	role       Role
	// version is as in Listed.
	version uint64
}

// uriContext is what surrounds a URI. It decides which characters would end the URI.
type uriContext uint8

const (
	inLine uriContext = iota
	inQuotes
	inUnquotedValue
	inJSON
)

// scanner reads a playlist line by line. It collects the Info and passes every URI to the rewriter.
type scanner struct {
	text string
	info Info
	// rewriter receives the URIs and the variables; nil means that only the Info is wanted.
	rewriter *rewriter
	// key is the text of the EXT-X-KEY that applies.
	key string
	// isAfterStreamInf reports that the next URI line belongs to an EXT-X-STREAM-INF.
	isAfterStreamInf bool
}

// scan reads the whole text. It returns ErrTooLarge beyond a bound.
func (s *scanner) scan() error {
	pos := len(s.text) - len(strings.TrimPrefix(s.text, byteOrderMark))
	for line := 1; pos < len(s.text); line++ {
		if line > MaxLines {
			return fmt.Errorf("%w: MaxLines=%d reached", ErrTooLarge, MaxLines)
		}
		end := len(s.text)
		if i := strings.IndexByte(s.text[pos:], '\n'); i >= 0 {
			end = pos + i
		}
		if start, stop := trimSpan(s.text, pos, end); start < stop {
			s.scanLine(start, stop)
		}
		if s.rewriter != nil && len(s.rewriter.out) > 2*MaxBytes {
			return fmt.Errorf("%w: template beyond twice MaxBytes=%d at line %d", ErrTooLarge, MaxBytes, line)
		}
		pos = end + 1
	}
	return nil
}

// scanLine reads one line that is not blank.
func (s *scanner) scanLine(start, end int) {
	line := s.text[start:end]
	switch {
	case line[0] != '#':
		s.scanURILine(start, end)
	case strings.HasPrefix(line, "#EXTINF:"): // the most common tag; nothing in it matters here
	case strings.HasPrefix(line, "#EXT-X-"):
		name, _, _ := strings.Cut(line[len("#EXT-X-"):], ":")
		from := min(start+len("#EXT-X-")+len(name)+1, end)
		s.scanTag(name, attributes{text: s.text, pos: from, end: end})
	}
}

// scanURILine reads a line that is a URI: a variant's playlist or a segment.
func (s *scanner) scanURILine(start, end int) {
	if s.isAfterStreamInf {
		s.rewrite(uriSpan{start: start, end: end, role: Playlist})
		s.isAfterStreamInf = false
		return
	}
	s.rewrite(uriSpan{start: start, end: end, version: s.version()})
	s.info.Segments++
	s.info.Parts = 0
}

func (s *scanner) rewrite(span uriSpan) {
	if s.rewriter != nil {
		s.rewriter.rewrite(span, s.info.IsMultivariant)
	}
}

// version returns the version of the segment that is listed next, and of its parts.
func (s *scanner) version() uint64 {
	if s.rewriter == nil {
		return 0
	}
	sequence, _ := s.info.Next()
	return versionOf(sequence, s.key)
}

// versionOf hashes a sequence number and the tag of a key. It is the same on every node, and never zero.
func versionOf(sequence uint64, key string) uint64 {
	h := fnv.New64a()
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], sequence)
	_, _ = h.Write(number[:])
	_, _ = h.Write([]byte(key))
	return max(1, h.Sum64())
}

// scanTag reads an EXT-X tag, given its name and the text after the colon.
func (s *scanner) scanTag(name string, list attributes) {
	switch name {
	case "TARGETDURATION":
		s.info.TargetDuration = parseSeconds(list.text[list.pos:list.end])
	case "MEDIA-SEQUENCE":
		s.info.MediaSequence = parseCount(list.text[list.pos:list.end])
	case "ENDLIST":
		s.info.HasEndList = true
	case "SERVER-CONTROL":
		s.info.readServerControl(list)
	case "PART-INF":
		value, _ := findAttribute(list, "PART-TARGET")
		s.info.PartTarget = parseSeconds(value)
	case "SKIP":
		value, _ := findAttribute(list, "SKIPPED-SEGMENTS")
		s.info.Skipped = int(min(parseCount(value), MaxLines))
	case "STREAM-INF":
		s.info.IsMultivariant, s.isAfterStreamInf = true, true
	case "DEFINE":
		if s.rewriter != nil {
			s.rewriter.definitions.define(list)
			s.rewriter.isEncoded = false
		}
	default:
		s.scanURITag(name, list)
	}
}

// scanURITag reads a tag that may hold URIs among its attributes.
func (s *scanner) scanURITag(name string, list attributes) {
	switch name {
	case "PART":
		s.rewriteAttributes(list, s.version(), listedBy{"URI": Media})
		s.info.Parts++
	case "PRELOAD-HINT":
		s.rewriteAttributes(list, s.version(), listedBy{"URI": Media})
	case "KEY":
		s.key = list.text[list.pos:list.end]
		s.rewriteAttributes(list, versionOf(0, s.key), listedBy{"URI": Key})
	case "SESSION-KEY":
		s.rewriteAttributes(list, 0, listedBy{"URI": Key})
	case "MAP":
		s.rewriteAttributes(list, versionOf(0, s.key), listedBy{"URI": Media})
	case "SESSION-DATA":
		s.rewriteAttributes(list, 0, listedBy{"URI": Media})
	case "RENDITION-REPORT":
		s.rewriteAttributes(list, 0, listedBy{"URI": Playlist})
	case "MEDIA", "I-FRAME-STREAM-INF", "IMAGE-STREAM-INF":
		s.info.IsMultivariant = true
		s.rewriteAttributes(list, 0, listedBy{"URI": Playlist})
	case "CONTENT-STEERING":
		s.rewriteAttributes(list, 0, listedBy{"SERVER-URI": Document})
	case "DATERANGE":
		s.rewriteAttributes(list, 0, listedBy{"X-ASSET-URI": Playlist, "X-ASSET-LIST": Document})
	case "PREFETCH": // a URI without attribute, as Twitch writes it
		if start, end := trimSpan(s.text, list.pos, list.end); start < end {
			s.rewrite(uriSpan{start: start, end: end})
		}
	}
}

// listedBy gives the role of the URIs in attributes by the attributes' names.
type listedBy map[string]Role

// rewriteAttributes rewrites the URIs in the attributes of a tag.
func (s *scanner) rewriteAttributes(list attributes, version uint64, roles listedBy) {
	if s.rewriter == nil {
		return
	}
	for a, ok := list.next(); ok; a, ok = list.next() {
		role, isURI := roles[a.name]
		if !isURI {
			continue
		}
		span := uriSpan{start: a.start, end: a.end, within: inUnquotedValue, role: role, version: version}
		if a.isQuoted {
			span.within = inQuotes
		}
		s.rewrite(span)
	}
}

// findAttribute returns the value of the first attribute with the name.
func findAttribute(list attributes, name string) (value string, found bool) {
	for a, ok := list.next(); ok; a, ok = list.next() {
		if a.name == name {
			return list.text[a.start:a.end], true
		}
	}
	return "", false
}
