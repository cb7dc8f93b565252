package table

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"usher/bench/load"
)

// playlist is what viewers open. The first bytes are those of a playlist and of MPEG-TS.
const (
	playlist      = "/single/ch1/index.m3u8"
	firstPlaylist = '#'
	firstSegment  = 0x47
)

func knownToken(i int) string { return fmt.Sprintf("good-%06d", i) }

// shuffled returns Options.Next for requests in an order that is random but the same each time. Connections begin at places
// far from each other.
func shuffled(requests []load.Request) func(int, int) load.Request {
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	const apart = 7919
	return func(connection, n int) load.Request { return requests[(connection*apart+n)%len(requests)] }
}

// playlistRequests requests the playlist for each of n known viewers.
func playlistRequests(t *target, n int) []load.Request {
	requests := make([]load.Request, n)
	for i := range requests {
		requests[i] = load.Request{Head: load.Get(t.address, t.request(playlist, knownToken(i))), First: firstPlaylist}
	}
	return requests
}

// ticketRequests requests the playlist for each known viewer below the ticket that their playlist lists; of peers, which have none, by
// its original URL.
func ticketRequests(ctx context.Context, t *target) ([]load.Request, error) {
	requests := playlistRequests(t, tokens)
	if t.name != usherName {
		return requests, nil
	}
	for i := range requests {
		uris, err := listed(ctx, t, playlist, knownToken(i))
		if err != nil {
			return nil, err
		}
		below, hasTicket := strings.CutPrefix(uris[0], "/~")
		if !hasTicket {
			return nil, fmt.Errorf("the playlist of %s lists no ticket: %s", t.name, uris[0])
		}
		ticket, _, _ := strings.Cut(below, "/")
		requests[i].Head = load.Get(t.address, "/~"+ticket+playlist)
	}
	return requests, nil
}

// authRequests are an edge's questions about known viewers.
func authRequests(t *target) []load.Request {
	requests := make([]load.Request, tokens)
	for i := range requests {
		requests[i].Head = load.Get(t.address, t.authPath, "X-Original-URI", playlist+"?token="+knownToken(i),
			"X-Original-Method", "GET", "X-Real-IP", "127.0.0.1", "X-Forwarded-Proto", "http")
	}
	return requests
}

// perViewer is how many segments each viewer requests.
const perViewer = 4

// knownViewer returns the playlist and the token of a known viewer.
func knownViewer(i int) (path, token string) { return playlist, knownToken(i) }

// segmentRequests requests the newest segments for each of a thousand viewers, by the URIs of their own playlist.
func segmentRequests(ctx context.Context, t *target, viewer func(i int) (path, token string)) ([]load.Request, error) {
	var requests []load.Request
	for i := range tokens {
		path, token := viewer(i)
		uris, err := listed(ctx, t, path, token)
		if err != nil {
			return nil, err
		}
		for k := range perViewer {
			uri := uris[len(uris)-1-(i*perViewer+k)%(len(uris)/2)]
			requests = append(requests, load.Request{Head: load.Get(t.address, uri), First: firstSegment})
		}
	}
	return requests, nil
}

// listed returns the segments of a viewer's playlist as targets of requests.
func listed(ctx context.Context, t *target, path, token string) ([]string, error) {
	text, err := fetch(ctx, "http://"+t.address+t.request(path, token))
	if err != nil {
		return nil, err
	}
	base := &url.URL{Path: path}
	var uris []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		u, err := base.Parse(line)
		if err != nil {
			return nil, err
		}
		if !strings.ContainsAny(line, "/?") { // as the origin wrote it: the player has to show the token again
			uris = append(uris, t.request(u.Path, token))
		} else {
			uris = append(uris, u.RequestURI())
		}
	}
	if len(uris) < segmentWindow {
		return nil, fmt.Errorf("the playlist of %s lists %d segments: %.200s", t.name, len(uris), text)
	}
	return uris, nil
}

// fetch requests a URL and requires 200.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", answer.StatusCode, text)
	}
	return text, err
}

// newViewerRequests returns Options.Next for the playlist with a new token each time.
func (b *bed) newViewerRequests(t *target, connections int) func(int, int) load.Request {
	const mark = "good-new-"
	before, after, _ := bytes.Cut(load.Get(t.address, t.request(playlist, mark)), []byte(mark))
	buffers := make([][]byte, connections)
	return func(connection, _ int) load.Request {
		head := append(append(buffers[connection][:0], before...), mark...)
		head = append(strconv.AppendUint(head, b.serial.Add(1), 10), after...)
		buffers[connection] = head
		return load.Request{Head: head, First: firstPlaylist}
	}
}
