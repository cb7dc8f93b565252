package stage

import (
	"strconv"
	"strings"
	"time"
)

const (
	// codecs is H.264 Main, level 3.0, and AAC-LC, as media/make.sh encodes them.
	codecs = "avc1.4d401e,mp4a.40.2"
	// partHoldBack is how far from the end players stay. The draft requires three parts; with five a busy machine plays
	// without a stall.
	partHoldBack = 5 * PartDuration
	// segmentsWithParts is how many segments at the end have their parts listed, as the draft requires.
	segmentsWithParts = 3
)

// playlist builds the text of a playlist. uriPrefix precedes every URI.
type playlist struct {
	strings.Builder
	uriPrefix string
}

func newPlaylist(base, version string) *playlist {
	p := &playlist{uriPrefix: base}
	p.Grow(4 << 10)
	p.line("#EXTM3U")
	p.line("#EXT-X-VERSION:", version)
	p.line("#EXT-X-INDEPENDENT-SEGMENTS")
	return p
}

func (p *playlist) line(words ...string) {
	for _, w := range words {
		p.WriteString(w)
	}
	p.WriteByte('\n')
}

// variant is a rendition in a multivariant playlist.
type variant struct {
	rendition     rendition
	peak, average int // bits per second
	resolution    string
}

// multivariant returns the multivariant playlist.
func multivariant(base string, variants []variant) string {
	p := newPlaylist(base, "3")
	for _, v := range variants {
		p.line("#EXT-X-STREAM-INF:BANDWIDTH=", strconv.Itoa(v.peak), ",AVERAGE-BANDWIDTH=", strconv.Itoa(v.average),
			`,CODECS="`, codecs, `",RESOLUTION=`, v.resolution, ",FRAME-RATE=25.000")
		p.line(base, v.rendition.String(), ".m3u8")
	}
	return p.String()
}

// mediaPlaylist returns the live window of a channel with whole segments only.
func (t timeline) mediaPlaylist(base string, r rendition, now time.Time) string {
	p := newPlaylist(base, "3")
	p.line("#EXT-X-TARGETDURATION:", decimal(t.seconds()))
	p.line("#EXT-X-MEDIA-SEQUENCE:", decimal(t.firstListed(now)))
	for n := t.firstListed(now); n < t.nextSegment(now); n++ {
		p.programDateTime(t.start(n))
		p.line("#EXTINF:", decimal(t.seconds()), ".000,")
		p.line(base, r.String(), "-", decimal(n), ".ts")
	}
	return p.String()
}

// lowLatencyPlaylist returns the live window with its parts, or a delta update with its newer end.
func (t timeline) lowLatencyPlaylist(base string, now time.Time, delta bool) string {
	p := newPlaylist(base, "9")
	p.line("#EXT-X-TARGETDURATION:", decimal(t.seconds()))
	p.line("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=", seconds(partHoldBack),
		",CAN-SKIP-UNTIL=", seconds(t.skipUntil()))
	p.line("#EXT-X-PART-INF:PART-TARGET=", seconds(PartDuration))
	p.line("#EXT-X-MEDIA-SEQUENCE:", decimal(t.firstListed(now)))
	n := t.firstListed(now)
	if skip := t.skippable(now); delta && skip > 0 {
		// The map is a tag of the first segment, so it is skipped together with that.
		p.line("#EXT-X-SKIP:SKIPPED-SEGMENTS=", decimal(skip))
		n += skip
	} else {
		p.line(`#EXT-X-MAP:URI="`, base, `init.mp4"`)
	}
	for live := t.nextSegment(now); n < live; n++ {
		p.programDateTime(t.start(n))
		if n >= live-segmentsWithParts {
			p.parts(n, t.parts())
		}
		p.line("#EXTINF:", decimal(t.seconds()), ".000,")
		p.line(base, decimal(n), ".m4s")
	}
	complete := t.nextPart(now) % t.parts()
	if complete > 0 {
		p.programDateTime(t.start(n))
	}
	p.parts(n, complete)
	p.line(`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="`, base, decimal(n), ".", decimal(complete), `.m4s"`)
	return p.String()
}

// parts lists the first parts of a segment.
func (p *playlist) parts(segment, count int64) {
	for i := range count {
		independent := ""
		if i%int64(partsPerSecond) == 0 {
			independent = ",INDEPENDENT=YES"
		}
		p.line("#EXT-X-PART:DURATION=", seconds(PartDuration), `,URI="`, p.uriPrefix, decimal(segment), ".", decimal(i), `.m4s"`,
			independent)
	}
}

func (p *playlist) programDateTime(at time.Time) {
	p.line("#EXT-X-PROGRAM-DATE-TIME:", at.UTC().Format("2006-01-02T15:04:05.000Z"))
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// seconds formats a duration as a decimal number of seconds.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }
