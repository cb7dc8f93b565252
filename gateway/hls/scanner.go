package hls

import (
	"fmt"
	"strings"
)

// uriSpan locates a URI in the playlist.
type uriSpan struct {
	start, end int
	within     uriContext
	// isPlaylist reports that the URI names a playlist, by the tag that holds it.
	isPlaylist bool
}

// uriContext is what surrounds a URI. It decides which characters would end the URI.
type uriContext uint8

const (
	inLine uriContext = iota
	inQuotes
	inUnquotedValue
)

// scanner reads a playlist line by line. It collects the Info and passes every URI to the rewriter.
type scanner struct {
	text string
	info Info
	// rewriter receives the URIs and the variables; nil means that only the Info is wanted.
	rewriter *rewriter
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
	if !s.isAfterStreamInf {
		s.info.Segments++
		s.info.Parts = 0
	}
	if s.rewriter != nil {
		s.rewriter.rewrite(uriSpan{start: start, end: end, isPlaylist: s.isAfterStreamInf})
	}
	s.isAfterStreamInf = false
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
			s.rewriter.variables.define(list)
		}
	default:
		s.scanURITag(name, list)
	}
}

// scanURITag reads a tag that may hold URIs among its attributes.
func (s *scanner) scanURITag(name string, list attributes) {
	uriAttributes, isPlaylist := "URI", false
	switch name {
	case "PART":
		s.info.Parts++
	case "KEY", "SESSION-KEY", "MAP", "PRELOAD-HINT", "SESSION-DATA":
	case "RENDITION-REPORT":
		isPlaylist = true
	case "MEDIA", "I-FRAME-STREAM-INF", "IMAGE-STREAM-INF":
		s.info.IsMultivariant, isPlaylist = true, true
	case "CONTENT-STEERING":
		uriAttributes = "SERVER-URI"
	case "DATERANGE":
		uriAttributes = "X-ASSET-URI X-ASSET-LIST"
	default:
		return
	}
	if s.rewriter == nil {
		return
	}
	for a, ok := list.next(); ok; a, ok = list.next() {
		if !isOneOf(a.name, uriAttributes) {
			continue
		}
		span := uriSpan{start: a.start, end: a.end, within: inUnquotedValue, isPlaylist: isPlaylist}
		if a.isQuoted {
			span.within = inQuotes
		}
		s.rewriter.rewrite(span)
	}
}

// isOneOf reports whether name is one of the one or two space-separated names.
func isOneOf(name, names string) bool {
	first, second, _ := strings.Cut(names, " ")
	return name == first || (name == second && second != "")
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
