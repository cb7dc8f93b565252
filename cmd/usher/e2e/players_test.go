package e2e

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestPlayers_PlayPackagedStreams plays every kind of playlist that ffmpeg makes through a node, with ffmpeg and with hls.js
// in Chromium. nginx is the origin. It runs alone, because it measures the times of players.
func TestPlayers_PlayPackagedStreams(t *testing.T) {
	origin := startLive(t)
	n := startNode(t, setup{origin: origin.url, middleware: startMiddleware(t).URL()})
	channels := slices.Sorted(maps.Keys(liveChannels(origin.url)))
	t.Run("by ffmpeg", func(t *testing.T) {
		t.Parallel()
		for _, channel := range channels {
			t.Run(channel, func(t *testing.T) {
				t.Parallel()
				playByFFmpeg(t, origin, n, channel)
			})
		}
	})
	t.Run("by hls.js", func(t *testing.T) {
		t.Parallel()
		playByBrowser(t, origin, n, channels)
	})
}

// playByFFmpeg plays ten seconds through the node, and the same time and more from the origin. The frames must be the same.
func playByFFmpeg(t *testing.T, origin *liveOrigin, n *node, channel string) {
	t.Helper()
	rec := origin.record(t, n)
	path := "/play/" + channel + "/index.m3u8"
	direct := startFrames(t, origin.url+path, "-live_start_index", "0")
	eventually(t, waitTimeout, "the player at the origin plays", func() error { return direct.hasBegun() })

	through := startFrames(t, rec.url+path+"?token=good-ffmpeg", "-t", "10")
	if code := through.wait(t); code != 0 {
		t.Fatalf("ffmpeg ended with %d", code)
	}
	for stream, least := range map[string]int{"video": 95, "audio": 400} { // 10 frames a second; 1024 samples of 44,100
		got := through.frames(stream)
		if len(got) < least {
			t.Fatalf("%d frames of %s through the gateway, want %d at least", len(got), stream, least)
		}
		eventually(t, waitTimeout, "the player at the origin has played the same "+stream, func() error {
			return findPart(direct.frames(stream), got)
		})
	}
	direct.signal(syscall.SIGKILL)
	direct.wait(t)
	origin.wantProtected(t, n, rec.list(nil), ticketFor(t, n, other(channel)))
}

// other returns another channel.
func other(channel string) string {
	if channel == "ts" {
		return "fmp4"
	}
	return "ts"
}

// ticketFor returns a ticket from the channel's playlist.
func ticketFor(t *testing.T, n *node, channel string) string {
	t.Helper()
	v := &viewer{source: n.public + "/play/" + channel + "/index.m3u8?token=good-other", client: n.client}
	media, err := v.load(t.Context())
	if err != nil || len(media.list) == 0 {
		t.Fatalf("load the playlist of %s: %v", channel, err)
	}
	u, err := url.Parse(media.list[0])
	if err != nil {
		t.Fatal(err)
	}
	ticket, _ := splitTicket(u.EscapedPath())
	if ticket == "" {
		t.Fatalf("no ticket in %s", u)
	}
	return ticket
}

// frames is an ffmpeg that writes a hash of each frame. Video is decoded; audio is not, because its decoded frames depend on
// where the decoder started.
type frames struct{ *process }

// startFrames plays a source. Options that begin with "-t" are for the output, others for the source.
func startFrames(t *testing.T, source string, options ...string) frames {
	t.Helper()
	args := []string{"-nostdin", "-v", "error"}
	var output []string
	if len(options) > 0 && options[0] == "-t" {
		output = options
	} else {
		args = append(args, options...)
	}
	args = append(args, "-i", source, "-map", "0:v:0", "-map", "0:a:0")
	args = append(append(args, output...), "-c:a", "copy", "-fps_mode", "passthrough", "-flush_packets", "1", "-f", "framemd5", "-")
	return frames{start(t, tool(t, "ffmpeg", "ffmpeg"), args...)}
}

// hasBegun returns an error unless there is a frame of each stream.
func (f frames) hasBegun() error {
	if f.ended() {
		return fmt.Errorf("it has ended: %s", f.errs)
	}
	if len(f.frames("video")) == 0 || len(f.frames("audio")) == 0 {
		return fmt.Errorf("no frames yet: %s", f.errs)
	}
	return nil
}

// frames returns the hashes of a stream's frames so far.
func (f frames) frames(stream string) []string {
	index := slices.Index([]string{"video", "audio"}, stream)
	var hashes []string
	text := f.out.String()
	text = text[:strings.LastIndexByte(text, '\n')+1] // the last line may be incomplete
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if strings.HasPrefix(line, "#") || len(fields) < 6 || fields[0] != strconv.Itoa(index) {
			continue
		}
		hashes = append(hashes, strings.TrimSpace(fields[5]))
	}
	return hashes
}

// findPart returns an error unless part is a contiguous part of all.
func findPart(all, part []string) error {
	best := 0
	for i := range all {
		n := 0
		for n < len(part) && i+n < len(all) && all[i+n] == part[n] {
			n++
		}
		if n == len(part) {
			return nil
		}
		best = max(best, n)
	}
	return fmt.Errorf("of %d frames at most %d are contiguous in the %d", len(part), best, len(all))
}
