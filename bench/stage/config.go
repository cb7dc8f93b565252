package stage

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// URIStyle is the form of the URIs in playlists.
type URIStyle uint8

// The styles of real origins. Absolute URIs have the scheme and Host of the request.
const (
	Relative     URIStyle = iota // high-17.ts
	RootRelative                 // /play/a001/high-17.ts
	Absolute                     // http://origin:8000/play/a001/high-17.ts
)

// Config configures an [Origin]. The zero value is a usual origin: two-second segments, ten of them in a playlist,
// relative URIs, no compression, the system clock.
type Config struct {
	// SegmentDuration is the length of a segment and the target duration: whole seconds that divide 12. Zero is 2 s.
	SegmentDuration time.Duration
	// Window is how many segments a playlist lists, at least 3. Zero is 10. Delta updates of the low-latency channels skip
	// segments from 7 on.
	Window int
	// URIs is the style of all URIs. The zero value is Relative.
	URIs URIStyle
	// Gzip compresses playlists for clients that accept it.
	Gzip bool
	// StuffTo is the size in bytes to which null packets fill MPEG-TS segments, at most 16 MiB; zero means none. The
	// segments stay playable, so that a benchmark can choose their size.
	StuffTo int
	// Hook wraps the whole origin, so that a test can delay, fail or inspect requests. Nil means none. Requests are counted
	// before they reach it.
	Hook func(http.Handler) http.Handler
	// Now is the clock; nil is time.Now. Blocked responses wait by real timers and then read this clock again, so a stopped
	// clock ends them with 503 after three segment durations.
	Now func() time.Time
}

const maxStuffedSize = 16 << 20

// Validate reports every invalid field.
func (c Config) Validate() error {
	var errs []error
	if d := c.SegmentDuration; d != 0 && (d < time.Second || loopSeconds*time.Second%d != 0 || d%time.Second != 0) {
		errs = append(errs, fmt.Errorf("stage.segment_duration: %s is not 1, 2, 3, 4, 6 or 12 s", d))
	}
	if c.Window != 0 && (c.Window < 3 || c.Window > 1000) {
		errs = append(errs, fmt.Errorf("stage.window: %d is not between 3 and 1000", c.Window))
	}
	if c.URIs > Absolute {
		errs = append(errs, fmt.Errorf("stage.uris: %d is not a style", c.URIs))
	}
	if c.StuffTo < 0 || c.StuffTo > maxStuffedSize {
		errs = append(errs, fmt.Errorf("stage.stuff_to: %d is not between 0 and %d", c.StuffTo, maxStuffedSize))
	}
	return errors.Join(errs...)
}

// timeline returns the timeline of the config with its defaults.
func (c Config) timeline() timeline {
	t := timeline{segmentDuration: c.SegmentDuration, window: int64(c.Window)}
	if t.segmentDuration == 0 {
		t.segmentDuration = 2 * time.Second
	}
	if t.window == 0 {
		t.window = 10
	}
	return t
}
