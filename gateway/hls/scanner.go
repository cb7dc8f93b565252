package hls

import (
	"fmt"
	"strings"
)

// place is where a URI stands in the playlist, and what it leads to.
type place struct {
	start, end int
	within     context
	playlist   bool
}

// context is what a URI stands in; it decides which characters would end it.
type context uint8

const (
	onLine context = iota
	inQuotes
	inValue
)

// scanner walks a playlist line by line: it gathers the Info and hands every URI to the rewriter.
type scanner struct {
	text string
	info Info
	// uris takes the URIs and the variables; nil: nobody wants them.
	uris *rewriter
	// variant says that the next URI line follows an EXT-X-STREAM-INF.
	variant bool
}

// scan walks the whole text.
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
		if start, stop := trim(s.text, pos, end); start < stop {
			s.line(start, stop)
		}
		if s.uris != nil && len(s.uris.out) > 2*MaxBytes {
			return fmt.Errorf("%w: template beyond twice MaxBytes=%d at line %d", ErrTooLarge, MaxBytes, line)
		}
		pos = end + 1
	}
	return nil
}

// line takes one line that is not blank.
func (s *scanner) line(start, end int) {
	line := s.text[start:end]
	switch {
	case line[0] != '#':
		s.uriLine(start, end)
	case strings.HasPrefix(line, "#EXTINF:"): // the commonest tag, and of no interest
	case strings.HasPrefix(line, "#EXT-X-"):
		name, _, _ := strings.Cut(line[len("#EXT-X-"):], ":")
		from := min(start+len("#EXT-X-")+len(name)+1, end)
		s.tag(name, attributes{text: s.text, pos: from, end: end})
	}
}

// uriLine takes a line that is a URI: a variant's playlist or a segment.
func (s *scanner) uriLine(start, end int) {
	if !s.variant {
		s.info.Segments++
		s.info.Parts = 0
	}
	if s.uris != nil {
		s.uris.rewrite(place{start: start, end: end, playlist: s.variant})
	}
	s.variant = false
}

// tag takes an EXT-X tag by its name and what follows the colon.
func (s *scanner) tag(name string, list attributes) {
	switch name {
	case "TARGETDURATION":
		s.info.TargetDuration = seconds(list.text[list.pos:list.end])
	case "MEDIA-SEQUENCE":
		s.info.MediaSequence = count(list.text[list.pos:list.end])
	case "ENDLIST":
		s.info.HasEndList = true
	case "SERVER-CONTROL":
		s.info.control(list)
	case "PART-INF":
		value, _ := find(list, "PART-TARGET")
		s.info.PartTarget = seconds(value)
	case "SKIP":
		value, _ := find(list, "SKIPPED-SEGMENTS")
		s.info.Skipped = int(min(count(value), MaxLines))
	case "STREAM-INF":
		s.info.IsMultivariant, s.variant = true, true
	case "DEFINE":
		if s.uris != nil {
			s.uris.variables.define(list)
		}
	default:
		s.uriTag(name, list)
	}
}

// uriTag takes a tag that may hold URIs among its attributes.
func (s *scanner) uriTag(name string, list attributes) {
	holds, playlist := "URI", false
	switch name {
	case "PART":
		s.info.Parts++
	case "KEY", "SESSION-KEY", "MAP", "PRELOAD-HINT", "SESSION-DATA":
	case "RENDITION-REPORT":
		playlist = true
	case "MEDIA", "I-FRAME-STREAM-INF", "IMAGE-STREAM-INF":
		s.info.IsMultivariant, playlist = true, true
	case "CONTENT-STEERING":
		holds = "SERVER-URI"
	case "DATERANGE":
		holds = "X-ASSET-URI X-ASSET-LIST"
	default:
		return
	}
	if s.uris == nil {
		return
	}
	for a, ok := list.next(); ok; a, ok = list.next() {
		if !named(a.name, holds) {
			continue
		}
		p := place{start: a.start, end: a.end, within: inValue, playlist: playlist}
		if a.quoted {
			p.within = inQuotes
		}
		s.uris.rewrite(p)
	}
}

// named reports whether name is one of the words of names.
func named(name, names string) bool {
	first, second, _ := strings.Cut(names, " ")
	return name == first || (name == second && second != "")
}

// find gives the value of the first attribute of that name.
func find(list attributes, name string) (value string, found bool) {
	for a, ok := list.next(); ok; a, ok = list.next() {
		if a.name == name {
			return list.text[a.start:a.end], true
		}
	}
	return "", false
}
