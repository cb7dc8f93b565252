package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestDemo_PrintedCommandsWork runs the commands that the demo prints.
func TestDemo_PrintedCommandsWork(t *testing.T) {
	t.Parallel()
	tool(t, "curl", "curl")
	demo := start(t, binary(t), "demo", "--listen", freePort(t))
	eventually(t, waitTimeout, "the demo has printed its commands", func() error {
		if !strings.Contains(demo.out.String(), "Ctrl-C ends the demo.") {
			return fmt.Errorf("so far:\n%s%s", demo.out, demo.errs)
		}
		return nil
	})
	wantCurl(t, demo, "200", "HTTP/1.1 200 OK")
	wantCurl(t, demo, "403", "HTTP/1.1 403 Forbidden")

	link := regexp.MustCompile(`ffplay '([^']+)'`).FindStringSubmatch(demo.out.String())
	if link == nil {
		t.Fatalf("no ffplay line:\n%s", demo.out)
	}
	player := startFrames(t, link[1], "-t", "3")
	if code := player.wait(t); code != 0 || len(player.frames("video")) < 70 {
		t.Errorf("ffmpeg ended with %d after %d frames of %s:\n%s", code, len(player.frames("video")), link[1], player.errs)
	}

	wantCurl(t, demo, "stop", "middleware: refuse")
	eventually(t, waitTimeout, "mallory is admitted", func() error { return curl(demo, "403", "HTTP/1.1 200 OK") })
	wantCurl(t, demo, "start", "middleware: healthy")
	eventually(t, waitTimeout, "mallory is denied", func() error { return curl(demo, "403", "HTTP/1.1 403 Forbidden") })

	demo.signal(syscall.SIGINT)
	if code := demo.wait(t); code != 0 {
		t.Errorf("the demo ended with %d, want 0", code)
	}
}

// wantCurl runs the command that the demo printed with a label, and checks the beginning of its output.
func wantCurl(t *testing.T, demo *process, label, want string) {
	t.Helper()
	if err := curl(demo, label, want); err != nil {
		t.Error(err)
	}
}

func curl(demo *process, label, want string) error {
	line := regexp.MustCompile(`(?m)^  ` + label + ` +(curl .*?)(?: {3,}or .*)?$`).FindStringSubmatch(demo.out.String())
	if line == nil {
		return fmt.Errorf("the demo printed no curl line for %q:\n%s", label, demo.out)
	}
	out, err := exec.Command("sh", "-c", line[1]+" --silent --show-error").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), want) {
		return fmt.Errorf("%s: %w\n%.300s\nwant %s", line[1], err, out, want)
	}
	return nil
}
