package hls

import (
	"fmt"
	"strings"
)

// uriSpan locates a URI in the playlist.
type uriSpan struct {
	start, end int
	within     uriContext
	role       Role
	imports    importSource
	// version and mayGrow are as in Listed.
	version uint64
	mayGrow bool
	// standsAlone reports that players may resolve the URI against nothing, so that an absolute one must stay absolute.
	standsAlone bool
	// keepsHost reports that the host of a pathway does not apply to the URI.
	keepsHost bool
}

// importSource is where a listed playlist imports its variables from. It is zero for what is no playlist, and for one that
// has a multivariant playlist of its own.
type importSource uint8

const (
	// importsOwn is of those that a multivariant playlist lists: they import what it defines.
	importsOwn importSource = iota + 1
	// importsInherited is of siblings: they import what this playlist may import.
	importsInherited
)

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
	// keys are those that apply to the next segment.
	keys keySet
	// prefetched counts the segments that are announced after the last whole one.
	prefetched uint64
	// isAfterStreamInf reports that the next URI line belongs to an EXT-X-STREAM-INF.
	isAfterStreamInf bool
	// isByteRange reports that the next URI line belongs to an EXT-X-BYTERANGE.
	isByteRange bool
}

// scan reads the whole text. It returns ErrTooLarge beyond a bound.
func (s *scanner) scan() error {
	pos := len(s.text) - len(strings.TrimPrefix(s.text, byteOrderMark))
	hasReturns := strings.IndexByte(s.text, '\r') >= 0
	newline := -1 // where the next one is, at pos or after it; it is looked for once, however many returns are before it
	for line := 1; pos < len(s.text); line++ {
		if line > MaxLines {
			return fmt.Errorf("%w: MaxLines=%d reached", ErrTooLarge, MaxLines)
		}
		if newline < pos {
			newline = pos + indexOrEnd(s.text[pos:], "\n")
		}
		end := newline
		if hasReturns {
			end = beforeReturn(s.text, pos, end)
		}
		if start, stop := trimSpan(s.text, pos, end); start < stop {
			s.scanLine(start, stop)
		}
		if s.rewriter != nil && s.rewriter.isTooLarge() {
			return fmt.Errorf("%w: template beyond twice MaxBytes=%d at line %d", ErrTooLarge, MaxBytes, line)
		}
		pos = end + 1
	}
	return nil
}

// beforeReturn returns the end of a line that a carriage return alone ends, as most players read it, or the given end.
func beforeReturn(text string, start, end int) int {
	if i := strings.IndexByte(text[start:end], '\r'); i >= 0 && start+i < end-1 {
		return start + i
	}
	return end
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
		s.rewrite(uriSpan{start: start, end: end, role: Playlist, imports: importsOwn})
		s.isAfterStreamInf = false
		return
	}
	if s.rewriter != nil {
		span := uriSpan{start: start, end: end, version: s.segmentVersion()}
		if s.isByteRange { // one file has many sequence numbers
			span.version, span.mayGrow = s.fileVersion(), true
		}
		s.rewrite(span)
	}
	s.info.Segments++
	s.info.Parts = 0
	s.prefetched, s.isByteRange = 0, false
}

// rewrite rewrites a URI, and reports whether it leads away from the gateway.
func (s *scanner) rewrite(span uriSpan) (leadsAway bool) {
	return s.rewriter != nil && s.rewriter.rewrite(s.text[span.start:span.end], span)
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
	case "BYTERANGE":
		s.isByteRange = true
	case "STREAM-INF":
		s.info.IsMultivariant, s.isAfterStreamInf = true, true
	default:
		s.scanURITag(name, list)
	}
}

// scanURITag reads a tag that concerns URIs: it holds one, a variable or a key.
func (s *scanner) scanURITag(name string, list attributes) {
	switch name {
	case "PART":
		s.rewriteURI(list, s.partSpan(list, "BYTERANGE"))
		s.info.Parts++
	case "PRELOAD-HINT":
		s.rewritePreloadHint(list)
	case "PREFETCH", "TWITCH-PREFETCH":
		s.rewritePrefetch(list)
	case "MAP":
		s.rewriteURI(list, uriSpan{version: s.fileVersion(), mayGrow: hasAttribute(list, "BYTERANGE")})
	case "KEY":
		s.rewriteURI(list, uriSpan{role: Key, version: s.readKey(list)})
	case "DATERANGE":
		class, _ := findAttribute(list, "CLASS")
		s.rewriteAttributes(list, uriSpan{standsAlone: true}, dateRangeURIs(class)...)
	case "RENDITION-REPORT":
		s.rewriteURI(list, uriSpan{role: Playlist, imports: importsInherited})
	case "DEFINE":
		if s.rewriter != nil {
			s.rewriter.define(list)
		}
	default:
		s.scanMultivariantTag(name, list)
	}
}

// scanMultivariantTag reads a tag of multivariant playlists that holds a URI.
func (s *scanner) scanMultivariantTag(name string, list attributes) {
	switch name {
	case "MEDIA", "I-FRAME-STREAM-INF", "IMAGE-STREAM-INF":
		s.info.IsMultivariant = true
		s.rewriteURI(list, uriSpan{role: Playlist, imports: importsOwn})
	case "CONTENT-STEERING":
		s.rewriteSteering(list)
	case "SESSION-KEY":
		s.rewriteURI(list, uriSpan{role: Key})
	case "SESSION-DATA":
		s.rewriteURI(list, uriSpan{role: Media})
	}
}

// rewriteSteering rewrites the URI of a steering manifest. One from elsewhere names the pathways' hosts to players, who would take their
// ticket there. So the tag is renamed then, and they do not steer.
func (s *scanner) rewriteSteering(list attributes) {
	tag := list.pos - len("CONTENT-STEERING:")
	for a, ok := list.next(); ok; a, ok = list.next() {
		span := attributeSpan(uriSpan{imports: importsOwn}, &a, Document)
		switch {
		case a.name != "SERVER-URI" || !s.rewrite(span):
		case s.rewriter.copied > tag: // behind another one
			s.rewriter.replaceURI(span, "")
		default:
			s.rewriter.replaceURI(uriSpan{start: tag, end: tag}, "X-")
		}
	}
}

// rewritePreloadHint rewrites the URI of what is listed next: a part, an initialization section or a key.
func (s *scanner) rewritePreloadHint(list attributes) {
	span := s.partSpan(list, "BYTERANGE-START", "BYTERANGE-LENGTH")
	span.mayGrow = true
	switch kind, _ := findAttribute(list, "TYPE"); kind {
	case "MAP":
		span.version = s.fileVersion()
	case "KEY":
		span = uriSpan{role: Key, version: hashText(list.text[list.pos:list.end])}
	}
	s.rewriteURI(list, span)
}

// rewritePrefetch rewrites the URI of a segment that is not complete yet. It is the tag's whole value.
func (s *scanner) rewritePrefetch(list attributes) {
	if start, end := trimSpan(s.text, list.pos, list.end); start < end {
		s.rewrite(uriSpan{start: start, end: end, version: s.segmentVersion(), mayGrow: true})
		s.prefetched++
	}
}

// uriAttribute names an attribute that holds a URI.
type uriAttribute struct {
	name string
	role Role
}

// dateRangeURIs returns the attributes of a date range that hold URIs, also where a document writes it as an object. What X-URI is depends on
// the class: a schedule of more date ranges, or what is to be loaded before its time. In other classes it is the application's own.
func dateRangeURIs(class string) []uriAttribute {
	uris := []uriAttribute{{"X-ASSET-URI", Playlist}, {"X-ASSET-LIST", Document}}
	if class == "com.apple.hls.daterange-schedule" || class == "com.apple.hls.preload" {
		uris = append(uris, uriAttribute{"X-URI", Document})
	}
	return uris
}

// rewriteURI rewrites the attribute URI of a tag. like says what it is.
func (s *scanner) rewriteURI(list attributes, like uriSpan) {
	s.rewriteAttributes(list, like, uriAttribute{"URI", like.role})
}

// rewriteAttributes rewrites the URIs in the attributes of a tag, in the order of the text.
func (s *scanner) rewriteAttributes(list attributes, like uriSpan, uris ...uriAttribute) {
	if s.rewriter == nil {
		return
	}
	for a, ok := list.next(); ok; a, ok = list.next() {
		for _, uri := range uris {
			if a.name != uri.name {
				continue
			}
			s.rewrite(attributeSpan(like, &a, uri.role))
		}
	}
}

// attributeSpan returns where the URI in an attribute is. like says what it is.
func attributeSpan(like uriSpan, a *attribute, role Role) uriSpan {
	like.start, like.end, like.role, like.within = a.start, a.end, role, inUnquotedValue
	if a.isQuoted {
		like.within = inQuotes
	}
	return like
}

// hasAttribute reports whether there is an attribute with one of the names.
func hasAttribute(list attributes, names ...string) bool {
	for _, name := range names {
		if _, found := findAttribute(list, name); found {
			return true
		}
	}
	return false
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
