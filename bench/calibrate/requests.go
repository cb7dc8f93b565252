package calibrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"usher/bench/load"
	"usher/bench/rig"
)

const (
	connections = 64 // of a closed loop, as wrk's
	channels    = 500
	// The first bytes of a playlist and of MPEG-TS.
	firstPlaylist = '#'
	firstSegment  = 0x47
)

// playlistTarget is what a viewer requests.
func playlistTarget(token string, i int) string {
	return fmt.Sprintf("/single/ch%03d/index.m3u8?token=%s", i%channels, token)
}

// plainToken returns the 64 characters of a viewer's token. Users of limitedToken have a stream limit.
func plainToken(i int) string   { return fmt.Sprintf("viewer-%057d", i) }
func limitedToken(i int) string { return fmt.Sprintf("limited-%056d", i) }

// host returns the address of the rig's node.
func host(g *rig.Rig) string { return strings.TrimPrefix(g.Nodes[0].Public, "http://") }

// playlistOf returns requests for the playlists of one viewer after another, the first one for n = 0.
func playlistOf(g *rig.Rig, token func(int) string) func(i int) load.Request {
	return func(i int) load.Request {
		return load.Request{Head: load.Get(host(g), playlistTarget(token(i), i)), First: firstPlaylist}
	}
}

// once returns Options.Next that makes each request once over all connections.
func once(request func(i int) load.Request) func(connection, n int) load.Request {
	return func(connection, n int) load.Request { return request(n*connections + connection) }
}

// repeated returns Options.Next for prepared requests again and again. Connections begin at places far from each other.
func repeated(requests []load.Request) func(connection, n int) load.Request {
	const apart = 7919
	return func(connection, n int) load.Request { return requests[(connection*apart+n)%len(requests)] }
}

// prepare makes n requests.
func prepare(n int, request func(i int) load.Request) []load.Request {
	requests := make([]load.Request, n)
	for i := range requests {
		requests[i] = request(i)
	}
	return requests
}

// authQuestion is an edge's question about a known viewer.
func authQuestion(g *rig.Rig) func(i int) load.Request {
	return func(i int) load.Request {
		path := strings.Replace(playlistTarget(plainToken(i), i), "/single/", "/play/", 1)
		return load.Request{Head: load.Get(host(g), g.AuthPath(), "X-Original-URI", path, "X-Original-Method", "GET",
			"X-Real-IP", "127.0.0.1", "X-Forwarded-Proto", "http")}
	}
}

var errPlaylist = errors.New("the playlist lists no segments")

// segments returns requests for the newest segments in the playlists of some viewers, of the lower of two variants, whose
// segments are small.
func segments(ctx context.Context, g *rig.Rig) ([]load.Request, error) {
	const viewers, each = connections, 4
	var requests []load.Request
	for i := range viewers {
		path := fmt.Sprintf("/play/ch%03d/low.m3u8", i%channels)
		text, err := fetch(ctx, g.Nodes[0].Public+path+"?token="+plainToken(i))
		if err != nil {
			return nil, err
		}
		base := &url.URL{Path: path}
		var listed []load.Request
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			u, err := base.Parse(line)
			if err != nil {
				return nil, err
			}
			listed = append(listed, load.Request{Head: load.Get(host(g), u.RequestURI()), First: firstSegment})
		}
		if len(listed) < each {
			return nil, fmt.Errorf("%w: %.200s", errPlaylist, text)
		}
		requests = append(requests, listed[len(listed)-each:]...)
	}
	return requests, nil
}

// fetch requests a URL and requires 200.
func fetch(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", answer.StatusCode, text)
	}
	return string(text), err
}
