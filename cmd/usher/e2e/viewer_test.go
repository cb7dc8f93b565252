package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// newClient returns a client whose connections come from that loopback address; "" leaves the choice to the system.
func newClient(t *testing.T, from string) *http.Client {
	t.Helper()
	dialer := &net.Dialer{Timeout: requestTimeout}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	transport := trustAll(&http.Transport{DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConnsPerHost: 64})
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: requestTimeout}
}

// viewer plays a channel as players do: it follows the playlists, and fetches each new segment, key and init section once.
// It records every problem, and tries again.
type viewer struct {
	source string
	client *http.Client

	mu       sync.Mutex
	segments int
	newest   time.Time // when the last segment came
	problems []string
	playlist string // the media playlist's address, once known
}

// newViewer returns a viewer of that playlist with its own address.
func newViewer(t *testing.T, number int, source string) *viewer {
	t.Helper()
	return &viewer{source: source, client: newClient(t, fmt.Sprintf("127.0.%d.%d", 10+number/200, 1+number%200))}
}

// startWatching lets viewers play until the test ends or stop is called. stop waits for them.
func startWatching(t *testing.T, viewers []*viewer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, v := range viewers {
		watching.Go(func() { v.watch(ctx) })
	}
	stop = func() {
		cancel()
		watching.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// watch plays until ctx ends.
func (v *viewer) watch(ctx context.Context) {
	got := map[string]bool{}
	for ctx.Err() == nil {
		pause, err := v.round(ctx, got)
		if err != nil && ctx.Err() == nil {
			v.note(err)
			pause = time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// round fetches the playlist and what is new in it, and returns the time until the next round.
func (v *viewer) round(ctx context.Context, got map[string]bool) (time.Duration, error) {
	media, err := v.load(ctx)
	if err != nil {
		return 0, err
	}
	for _, address := range media.uris(got) {
		if _, err := v.get(ctx, address); err != nil {
			return 0, err
		}
		got[address] = true
		v.mu.Lock()
		v.segments, v.newest = v.segments+1, time.Now()
		v.mu.Unlock()
	}
	return media.target / 2, nil
}

// load fetches the media playlist, through the multivariant playlist if there is one.
func (v *viewer) load(ctx context.Context) (mediaPlaylist, error) {
	v.mu.Lock()
	address := cmp.Or(v.playlist, v.source)
	v.mu.Unlock()
	for {
		body, err := v.get(ctx, address)
		if err != nil {
			return mediaPlaylist{}, err
		}
		p, err := readPlaylist(address, body)
		if err != nil {
			return mediaPlaylist{}, err
		}
		if p.variant == "" {
			v.mu.Lock()
			v.playlist = address
			v.mu.Unlock()
			return p, nil
		}
		address = p.variant
	}
}

// get fetches a URL, and returns an error unless the status is 200.
func (v *viewer) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := v.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return nil, fmt.Errorf("%s: the body broke off: %w", address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &refusedError{address, resp.StatusCode, strings.TrimSpace(body.String())}
	}
	return body.Bytes(), nil
}

// refusedError is a response whose status is not 200.
type refusedError struct {
	address string
	status  int
	why     string
}

func (e *refusedError) Error() string { return fmt.Sprintf("%s: %d: %s", e.address, e.status, e.why) }

// statusOf returns the status of a refusal, or 0.
func statusOf(err error) int {
	if refused, ok := errors.AsType[*refusedError](err); ok {
		return refused.status
	}
	return 0
}

func (v *viewer) note(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.problems = append(v.problems, time.Now().Format("05.000 ")+err.Error())
}

// progress returns the number of fetched segments, and the problems.
func (v *viewer) progress() (segments int, problems []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.segments, append([]string(nil), v.problems...)
}

// lastSegment returns when the viewer got the last segment.
func (v *viewer) lastSegment() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.newest
}

// watchFor plays what the address lists for that time, or until ctx ends.
func (v *viewer) watchFor(ctx context.Context, d time.Duration, source string) {
	v.mu.Lock()
	v.source, v.playlist = source, ""
	v.mu.Unlock()
	watching, leave := context.WithTimeout(ctx, d)
	defer leave()
	v.watch(watching)
}

// awaitSegments waits until each viewer has fetched that many more segments.
func awaitSegments(t *testing.T, viewers []*viewer, more int) {
	t.Helper()
	before := make([]int, len(viewers))
	for i, v := range viewers {
		before[i], _ = v.progress()
	}
	for i, v := range viewers {
		eventually(t, waitTimeout, fmt.Sprintf("viewer %d gets %d segments more", i, more), func() error {
			if now, problems := v.progress(); now < before[i]+more {
				return fmt.Errorf("%d of them; problems: %q", now-before[i], problems)
			}
			return nil
		})
	}
}

// wantNoProblems fails the test if a viewer had a problem.
func wantNoProblems(t *testing.T, viewers []*viewer) {
	t.Helper()
	for i, v := range viewers {
		if _, problems := v.progress(); len(problems) > 0 {
			t.Errorf("viewer %d had problems:\n%s", i, strings.Join(problems, "\n"))
		}
	}
}

// mediaPlaylist is the part of a playlist that a viewer uses.
type mediaPlaylist struct {
	target  time.Duration
	variant string // set if it is a multivariant playlist: the first variant
	extras  []string
	list    []string
}

// startBack is how many segments before the end of a playlist a player starts.
const startBack = 3

// uris returns the addresses to fetch, in order: those that got lacks, at the start only the last few segments.
func (p mediaPlaylist) uris(got map[string]bool) []string {
	list := p.list
	if len(got) == 0 {
		list = list[max(0, len(list)-startBack):]
	}
	var wanted []string
	for _, address := range append(append([]string(nil), p.extras...), list...) {
		if !got[address] {
			wanted = append(wanted, address)
		}
	}
	return wanted
}

// readPlaylist parses the playlist fetched from that address.
func readPlaylist(address string, body []byte) (mediaPlaylist, error) {
	var p mediaPlaylist
	base, err := url.Parse(address)
	if err != nil {
		return p, err
	}
	uri := regexp.MustCompile(`URI="([^"]+)"`)
	isVariant := false
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		seconds, isTarget := strings.CutPrefix(line, "#EXT-X-TARGETDURATION:")
		switch {
		case isTarget:
			n, err := strconv.Atoi(seconds)
			if err != nil {
				return p, fmt.Errorf("%s: %w", address, err)
			}
			p.target = time.Duration(n) * time.Second
		case strings.HasPrefix(line, "#EXT-X-STREAM-INF:"):
			isVariant = true
		case strings.HasPrefix(line, "#EXT-X-KEY:"), strings.HasPrefix(line, "#EXT-X-MAP:"):
			if m := uri.FindStringSubmatch(line); m != nil {
				p.extras = append(p.extras, resolve(base, m[1]))
			}
		case line == "" || line[0] == '#':
		case isVariant && p.variant == "":
			p.variant = resolve(base, line)
		default:
			p.list = append(p.list, resolve(base, line))
		}
	}
	if p.variant == "" && p.target == 0 {
		return p, fmt.Errorf("%s: no playlist: %.100q", address, body)
	}
	return p, nil
}

func resolve(base *url.URL, reference string) string {
	u, err := base.Parse(reference)
	if err != nil {
		return reference
	}
	return u.String()
}
