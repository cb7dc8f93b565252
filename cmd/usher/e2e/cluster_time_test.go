package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"usher/bench/stage"
)

// The durations of tests about time itself.
var (
	nodesFor    = flag.Duration("nodes-for", time.Minute, "how long nodes are killed while viewers play")
	hopFor      = flag.Duration("hop-for", 20*time.Second, "how long a viewer plays on all nodes")
	siblingsFor = flag.Duration("siblings-for", 25*time.Second, "how long a viewer plays at several addresses")
	frozenFor   = flag.Duration("frozen-for", 6*time.Second, "how long Redis is frozen while streams are limited")
	outageFor   = flag.Duration("outage-for", 30*time.Second, "how long Redis is stopped or frozen")
)

// pause waits. Only tests about time itself use it.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// startSlowStage runs the stage's origin with segments of four seconds, so that many viewers send fewer requests.
func startSlowStage(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(stage.NewOrigin(stage.Config{SegmentDuration: 4 * time.Second, Window: 6}))
	t.Cleanup(server.Close)
	return server.URL
}

// startWideStage runs the stage's origin with segments that stay available for twenty minutes.
func startWideStage(t *testing.T, listen string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(stage.NewOrigin(stage.Config{SegmentDuration: time.Second, Window: 600}))
	if listen != "" {
		server.Listener = listenOn(t, server.Listener, listen)
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// command runs `usher sessions` against the node.
func (m *clusterNode) command(args ...string) (string, error) {
	line := append([]string{"sessions"}, args...)
	cmd := exec.Command(m.binary, append(line, "--admin", m.admin, "--token", adminToken)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("usher %s: %w: %s", strings.Join(line, " "), err, errs.String())
	}
	return string(out), nil
}

// openedSession is a session that a test has opened.
type openedSession struct {
	token, session string
	segment        string // the path of a segment, with the ticket in it
}

// open opens a session through a node, and returns it with a segment's path.
func (m *clusterNode) open(token, channel string) (openedSession, error) {
	w := openedSession{token: token}
	address := fmt.Sprintf("%s/play/%s/low.m3u8?token=%s", m.public, channel, token)
	status, body, err := fetch(m.client, address)
	if err != nil || status != http.StatusOK {
		return w, fmt.Errorf("%s: %d %s: %w", address, status, bytes.TrimSpace(body), err)
	}
	p, err := readPlaylist(address, body)
	if err != nil || len(p.list) == 0 {
		return w, fmt.Errorf("%s: %d segments: %w", address, len(p.list), err)
	}
	u, err := url.Parse(p.list[len(p.list)-1])
	if err != nil {
		return w, err
	}
	w.segment = u.RequestURI()
	return w, nil
}

// serves requests the session's segment from the node, and returns the status.
func (m *clusterNode) serves(w openedSession) (int, error) {
	status, _, err := fetch(m.client, m.public+w.segment)
	return status, err
}
