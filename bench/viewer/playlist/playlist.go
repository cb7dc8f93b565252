package playlist

import (
	"bytes"
	"errors"
	"time"
)

// ErrNotPlaylist is returned for a text that does not begin as a playlist.
var ErrNotPlaylist = errors.New("the text is no playlist: it does not begin with #EXTM3U")

// Playlist is a multivariant or a media playlist. Its texts belong to the text that was read.
type Playlist struct {
	// Variants are those of a multivariant playlist, in its order. A media playlist has none.
	Variants []Variant
	// Target is the target duration, zero if the playlist has none.
	Target time.Duration
	// Sequence is the media sequence number of the first segment.
	Sequence int64
	Segments []Segment
	// Init is the initialization section of the last segment; its URI is nil if there is none.
	Init Resource
	// HasEnded reports that no segment will be added.
	HasEnded bool
}

// Variant is a variant stream.
type Variant struct {
	URI []byte
	// Bandwidth is the peak in bits a second.
	Bandwidth int64
}

// Resource is what a URI names, or a range of it.
type Resource struct {
	URI []byte
	// Offset and Length are the range in bytes; a Length of zero is the whole.
	Offset, Length int64
}

// Segment is a media segment.
type Segment struct {
	Resource
	// Gap reports that the segment is absent, and not to be fetched.
	Gap bool
}

// Reset makes the playlist empty and keeps its memory.
func (p *Playlist) Reset() { *p = Playlist{Variants: p.Variants[:0], Segments: p.Segments[:0]} }

// scan is what the tags before a URI say of it.
type scan struct {
	isVariant, isSegment, isGap bool
	bandwidth                   int64
	offset, length              int64
	// next is where the last byte range ended.
	next int64
	// skipped is how many segments a delta update leaves out.
	skipped int64
}

// Read reads a playlist into p, which it resets first.
func (p *Playlist) Read(text []byte) error {
	p.Reset()
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(bytes.TrimRight(first, " \t\r")) != "#EXTM3U" {
		return ErrNotPlaylist
	}
	var s scan
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		line = bytes.TrimSpace(line)
		switch {
		case len(line) == 0:
		case line[0] != '#':
			p.addURI(&s, line)
		case bytes.HasPrefix(line, []byte("#EXT")):
			name, value, _ := bytes.Cut(line, []byte(":"))
			p.readTag(&s, name, value)
		}
	}
	p.Sequence = addSaturated(p.Sequence, s.skipped)
	return nil
}

func (p *Playlist) addURI(s *scan, uri []byte) {
	switch {
	case s.isVariant:
		p.Variants = append(p.Variants, Variant{URI: uri, Bandwidth: s.bandwidth})
	case s.isSegment:
		r := Resource{URI: uri, Offset: s.offset, Length: s.length}
		p.Segments = append(p.Segments, Segment{Resource: r, Gap: s.isGap})
		if s.length > 0 {
			s.next = addSaturated(s.offset, s.length)
		}
	}
	*s = scan{next: s.next, skipped: s.skipped}
}

func (p *Playlist) readTag(s *scan, name, value []byte) {
	switch string(name) {
	case "#EXTINF":
		s.isSegment = true
	case "#EXT-X-STREAM-INF":
		s.isVariant = true
		s.bandwidth, _ = number(attribute(value, "BANDWIDTH"))
	case "#EXT-X-TARGETDURATION":
		seconds, _ := number(value)
		p.Target = time.Duration(min(seconds, maxTarget)) * time.Second
	case "#EXT-X-MEDIA-SEQUENCE":
		p.Sequence, _ = number(value)
	case "#EXT-X-BYTERANGE":
		s.offset, s.length = byteRange(value, s.next)
	case "#EXT-X-MAP":
		p.Init = Resource{URI: attribute(value, "URI")}
		p.Init.Offset, p.Init.Length = byteRange(attribute(value, "BYTERANGE"), 0)
	case "#EXT-X-SKIP":
		s.skipped, _ = number(attribute(value, "SKIPPED-SEGMENTS"))
	case "#EXT-X-GAP":
		s.isGap = true
	case "#EXT-X-ENDLIST":
		p.HasEnded = true
	}
}

// maxTarget bounds a target duration in seconds.
const maxTarget = 3600

// attribute returns the value of an attribute without its quotes, or nil.
func attribute(list []byte, name string) []byte {
	for len(list) > 0 {
		key, rest, found := bytes.Cut(list, []byte("="))
		if !found {
			return nil
		}
		var value []byte
		if quoted, isQuoted := bytes.CutPrefix(rest, []byte(`"`)); isQuoted {
			value, rest, _ = bytes.Cut(quoted, []byte(`"`))
			_, list, _ = bytes.Cut(rest, []byte(","))
		} else {
			value, list, _ = bytes.Cut(rest, []byte(","))
		}
		if string(bytes.TrimSpace(key)) == name {
			return value
		}
	}
	return nil
}

// byteRange reads length[@offset]. Without an offset the range begins where the last one ended.
func byteRange(text []byte, next int64) (offset, length int64) {
	length, rest := number(text)
	if after, found := bytes.CutPrefix(rest, []byte("@")); found {
		offset, _ = number(after)
		return offset, length
	}
	return next, length
}

// number reads the decimal number at the text's start, as far as it fits, and returns what follows it.
func number(text []byte) (n int64, rest []byte) {
	text = bytes.TrimSpace(text)
	for len(text) > 0 && text[0] >= '0' && text[0] <= '9' {
		if n < 1<<59 {
			n = 10*n + int64(text[0]-'0')
		}
		text = text[1:]
	}
	return n, text
}

func addSaturated(a, b int64) int64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return 1<<63 - 1
}

// Lowest returns the variant with the lowest bandwidth, the first of several. There must be one.
func (p *Playlist) Lowest() Variant {
	lowest := p.Variants[0]
	for _, v := range p.Variants[1:] {
		if v.Bandwidth < lowest.Bandwidth {
			lowest = v
		}
	}
	return lowest
}
