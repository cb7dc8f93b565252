package stage

import (
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"usher/backends/backendtest/testproc"
)

// requireTool returns the path of a program of ffmpeg. The test fails without it, because these tests need real players.
func requireTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: the test plays the stage with it (apt-get install ffmpeg)", err)
	}
	return path
}

// thirtySeconds are the channels. Each has a window of more than 30 s, which crosses the end of the loop at least twice.
func thirtySeconds() map[string]struct {
	path       string
	videoTicks int64
	audioTicks int64
} {
	return map[string]struct {
		path       string
		videoTicks int64
		audioTicks int64
	}{
		"two variants":   {"/play/x/index.m3u8", videoTicks, audioTicks},
		"single variant": {"/single/x/index.m3u8", videoTicks, audioTicks},
		"low latency":    {"/ll/x/index.m3u8", 512, 1024},
	}
}

func TestOrigin_FFmpegPlaysAcrossLoop(t *testing.T) {
	t.Parallel()
	ffmpeg := requireTool(t, "ffmpeg")
	for name, test := range thirtySeconds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, origin := serveOrigin(t, Config{Now: noon, Window: 20})
			var errors bytes.Buffer
			run := exec.CommandContext(t.Context(), ffmpeg, "-nostdin", "-v", "warning", "-live_start_index", "0",
				"-i", origin+test.path, "-t", "30", "-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-")
			run.Stderr = &errors
			err := testproc.Run(run)
			if warnings := withoutReloadNotice(errors.String()); err != nil || warnings != "" {
				t.Fatalf("%v\n%s", err, warnings)
			}
		})
	}
}

// withoutReloadNotice removes what ffmpeg prints when it reloads a live playlist with EXT-X-MAP: it reads the map again, and
// skips it. On a busy machine 30 s of video take longer than the time to a reload.
func withoutReloadNotice(warnings string) string {
	var kept strings.Builder
	isNotice := false
	for line := range strings.Lines(warnings) {
		isNotice = strings.Contains(line, "Found duplicated MOOV Atom. Skipped it") ||
			isNotice && strings.Contains(line, "Last message repeated")
		if !isNotice {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func TestOrigin_FFprobeTimestampsGrow(t *testing.T) {
	t.Parallel()
	ffprobe := requireTool(t, "ffprobe")
	for name, test := range thirtySeconds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, origin := serveOrigin(t, Config{Now: noon, Window: 20})
			run := exec.CommandContext(t.Context(), ffprobe, "-v", "error", "-live_start_index", "0",
				"-read_intervals", "%+30", "-select_streams", "v:0", "-show_entries", "packet=dts", "-of", "csv=p=0",
				origin+test.path)
			requireSteps(t, run, test.videoTicks, 25*30)
			run = exec.CommandContext(t.Context(), ffprobe, "-v", "error", "-live_start_index", "0",
				"-read_intervals", "%+30", "-select_streams", "a:0", "-show_entries", "packet=dts", "-of", "csv=p=0",
				origin+test.path)
			requireSteps(t, run, test.audioTicks, 31*30)
		})
	}
}

// requireSteps expects one number per line, each greater than the previous one by step, and a minimum number of lines.
func requireSteps(t *testing.T, run *exec.Cmd, step int64, atLeast int) {
	t.Helper()
	var out, errs strings.Builder
	run.Stdout, run.Stderr = &out, &errs
	if err := testproc.Run(run); err != nil {
		t.Fatalf("%v: %v\n%s", run.Args, err, errs.String())
	}
	var last int64
	count := 0
	for line := range strings.Lines(out.String()) {
		field := strings.Trim(line, ",\n")
		if field == "" {
			continue
		}
		dts, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			t.Fatalf("read packet %d: %v", count, err)
		}
		if count > 0 && dts-last != step {
			t.Fatalf("packet %d: time steps by %d ticks, want %d", count, dts-last, step)
		}
		last = dts
		count++
	}
	if count < atLeast-2 {
		t.Fatalf("%d packets, want %d at least", count, atLeast-2)
	}
}
