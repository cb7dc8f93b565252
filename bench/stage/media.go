package stage

import (
	"embed"
	"fmt"
	"time"
)

// mediaFiles holds the loop. media/make.sh generates it.
//
//go:embed media/*.ts media/ll.mp4
var mediaFiles embed.FS

const (
	// loopSeconds is the duration of the loop, and the number of its pieces.
	loopSeconds = 12
	// PartDuration is the duration of a part on the low-latency channels, as media/make.sh cuts them.
	PartDuration   = 200 * time.Millisecond
	partsPerSecond = int(time.Second / PartDuration)
)

// rendition is one encoding of the loop.
type rendition uint8

const (
	high rendition = iota
	low
	lowLatency
)

// String returns the rendition's name in URIs.
func (r rendition) String() string { return [...]string{"high", "low", "ll"}[r] }

// loops holds the three encodings of the loop.
type loops struct {
	high, low  *tsLoop
	lowLatency *fmp4Loop
}

// loadMedia reads the embedded media. It fails only if the binary was built from broken files.
func loadMedia() (*loops, error) {
	var l loops
	var err error
	if l.high, err = loadTS(high); err != nil {
		return nil, err
	}
	if l.low, err = loadTS(low); err != nil {
		return nil, err
	}
	file, err := mediaFiles.ReadFile("media/ll.mp4")
	if err != nil {
		return nil, fmt.Errorf("read the embedded loop: %w", err)
	}
	if l.lowLatency, err = newFMP4Loop(file); err != nil {
		return nil, fmt.Errorf("read media/ll.mp4: %w", err)
	}
	if got, want := len(l.lowLatency.fragments), loopSeconds*partsPerSecond; got != want {
		return nil, fmt.Errorf("read media/ll.mp4: %d fragments, want %d", got, want)
	}
	return &l, nil
}

func loadTS(r rendition) (*tsLoop, error) {
	var seconds [loopSeconds][]byte
	for i := range seconds {
		var err error
		if seconds[i], err = mediaFiles.ReadFile(fmt.Sprintf("media/%s-%02d.ts", r, i)); err != nil {
			return nil, fmt.Errorf("read the embedded loop: %w", err)
		}
	}
	l, err := newTSLoop(seconds)
	if err != nil {
		return nil, fmt.Errorf("read media/%s-*.ts: %w", r, err)
	}
	return l, nil
}
