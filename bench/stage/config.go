package stage

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// URIStyle is how playlists write the URIs of what they list.
type URIStyle uint8

// The styles that origins in the field use. Absolute URIs carry the scheme and Host of the request.
const (
	Relative     URIStyle = iota // high-17.ts
	RootRelative                 // /play/a001/high-17.ts
	Absolute                     // http://origin:8000/play/a001/high-17.ts
)

// Config says how an [Origin] behaves. The zero value is a good origin: two-second segments, ten of them in a
// playlist, relative URIs, no compression, the machine's clock.
type Config struct {
	// SegmentDuration is the length of a segment and the target duration: whole seconds that divide 12. Zero is 2 s.
	SegmentDuration time.Duration
	// Window is how many segments a playlist lists, 3 at least. Zero is 10. Delta updates of the low-latency channels
	// leave something out from 7 on.
	Window int
	// URIs is the style of all URIs. The zero value is Relative.
	URIs URIStyle
	// Gzip compresses playlists for clients that accept it.
	Gzip bool
	// StuffTo, if not zero, fills MPEG-TS segments up to so many bytes with null packets, 16 MiB at most. They stay
	// playable; a benchmark gets segments of the size that it wants.
	StuffTo int
	// Hook, if not nil, wraps the whole origin. A test holds, fails or looks at requests with it. Requests are
	// counted before they reach it.
	Hook func(http.Handler) http.Handler
	// Now is the clock; nil is time.Now. Held answers wait by real timers and then look at this clock again, so a
	// clock that stands still ends them with 503 after three segment durations.
	Now func() time.Time
}

const maxStuffing = 16 << 20

// Validate reports everything that is wrong with c, or nil.
func (c Config) Validate() error {
	var errs []error
	if d := c.SegmentDuration; d != 0 && (d < time.Second || loopSeconds*time.Second%d != 0 || d%time.Second != 0) {
		errs = append(errs, fmt.Errorf("stage.segment_duration: %s is not 1, 2, 3, 4, 6 or 12 s", d))
	}
	if c.Window != 0 && (c.Window < 3 || c.Window > 1000) {
		errs = append(errs, fmt.Errorf("stage.window: %d is not between 3 and 1000", c.Window))
	}
	if c.URIs > Absolute {
		errs = append(errs, fmt.Errorf("stage.uris: %d is no style", c.URIs))
	}
	if c.StuffTo < 0 || c.StuffTo > maxStuffing {
		errs = append(errs, fmt.Errorf("stage.stuff_to: %d is not between 0 and %d", c.StuffTo, maxStuffing))
	}
	return errors.Join(errs...)
}

// timeline is what the config says of time, the zeros filled in.
func (c Config) timeline() timeline {
	t := timeline{segment: c.SegmentDuration, window: int64(c.Window)}
	if t.segment == 0 {
		t.segment = 2 * time.Second
	}
	if t.window == 0 {
		t.window = 10
	}
	return t
}
