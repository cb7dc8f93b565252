package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"usher/backends/backendtest/testtls"
	"usher/cmd/usher/config"
)

// way is one of the ways in which a node takes requests.
type way struct {
	name string
	dial func(t *testing.T) net.Conn
}

// target is a node under attack, with an origin and a middleware that write down what reaches them.
type target struct {
	way
	origin, middleware *witness
	log                *lockedBuffer
}

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// witness is a server that keeps every request as it came.
type witness struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func newWitness(t *testing.T, answer http.HandlerFunc) *witness {
	t.Helper()
	w := new(witness)
	w.Server = httptest.NewServer(http.HandlerFunc(func(resp http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Clone(t.Context()))
		w.mu.Unlock()
		answer(resp, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// seen returns all requests since the last call.
func (w *witness) seen() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.requests
	w.requests = nil
	return all
}

const (
	attackPlaylist = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:17\n#EXTINF:6,\nseg-17.ts\n"
	attackSegment  = "the seventeenth segment"
	operatorSecret = "what only the operator may see"
)

// careless answers as an origin that reads paths as leniently as any does: it unescapes again and again, takes backslashes for
// slashes, and drops parameters of segments. Nothing but /live is for viewers. It sets a cookie, and says what it was sent.
func careless(w http.ResponseWriter, r *http.Request) {
	at := r.URL.EscapedPath()
	for range 4 {
		if plain, err := url.PathUnescape(at); err == nil {
			at = plain
		}
	}
	at = strings.NewReplacer("\\", "/", "\xc0\xae", ".", "\xc0\xaf", "/", "\x00", "").Replace(at)
	segments := strings.Split(at, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	at = path.Clean("/" + strings.Join(segments, "/"))
	w.Header().Add("Set-Cookie", "origin=of-whoever-came-first")
	switch {
	case !strings.HasPrefix(at, "/live/"):
		_, _ = io.WriteString(w, operatorSecret)
	case strings.HasSuffix(at, ".m3u8"):
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		_, _ = io.WriteString(w, attackPlaylist)
	case strings.HasSuffix(at, "echo.ts"):
		_ = r.Write(w)
	default:
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(attackSegment))
	}
}

// allowsGood allows viewers who show the token "good", or one that begins so.
func allowsGood(w http.ResponseWriter, r *http.Request) {
	for _, token := range r.URL.Query()["token"] {
		if strings.HasPrefix(token, "good") {
			return
		}
	}
	w.WriteHeader(http.StatusForbidden)
}

// attackSettings has a route of every kind.
func attackSettings(origin, middleware string) string {
	return fmt.Sprintf(`
identity: { secret: "7f3a9c1e5b8d2046" }
tickets: { keys: [ { id: a, secret: "7f3a9c1e5b8d2046" } ] }
cors: { allowed_origins: [ "https://tv.example.com" ] }
origins: { stage: { url: %q } }
backends: { portal: { kind: httprequest, address: %q, timeout: 30s, answer_deadline: 20s, breaker: { interval: 3m } } }
routes:
  - { path: "/play/{channel}/*", origin: stage, origin_path: "/live/{channel}/*", backend: portal, required: [ token ] }
  - { path: "/deep/{channel...}/index.m3u8", origin: stage, origin_path: "/live/{channel...}/index.m3u8", media: [ { path: "/deep/{channel...}/*", origin_path: "/live/{channel...}/*" } ], backend: portal }
  - { path: "/query/{channel}/*", origin: stage, origin_path: "/live/{channel}/*", backend: portal, ticket_in: query }
  - { path: "/cookie/{channel}/*", origin: stage, origin_path: "/live/{channel}/*", backend: portal, ticket_in: cookie }
  - { path: "/open/{channel}/*", origin: stage, origin_path: "/live/{channel}/*", backend: portal, ticket_in: none }
  - { path: "/nginx", backend: portal, edge: { dialect: nginx, networks: [ 127.0.0.1/32 ], viewer_path: "/live/{channel}/*" } }
  - { path: "/forward", backend: portal, edge: { dialect: forward-auth, networks: [ 127.0.0.1/32 ], viewer_path: "/live/{channel}/*" } }
`, origin, middleware+"/check")
}

// targets starts a node for each front.
func targets(t *testing.T) []*target {
	t.Helper()
	ca := testtls.NewAuthority(t)
	id := ca.Issue(t, "tv.example.com", nil)
	var all []*target
	for name, extra := range map[string]string{
		"plain": "", "TLS": fmt.Sprintf("tls: { cert_file: %q, key_file: %q }\n", id.CertFile, id.KeyFile),
	} {
		a := &target{way: way{name: name}, origin: newWitness(t, careless), middleware: newWitness(t, allowsGood), log: new(lockedBuffer)}
		s := defaultSettings()
		if _, err := config.Parse("usher.yaml", []byte(extra+attackSettings(a.origin.URL, a.middleware.URL)), s, config.Environment{}); err != nil {
			t.Fatal(err)
		}
		s.Gateway.Drain.ReadinessDelay = 0
		logger := slog.New(slog.NewJSONHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		address := runTarget(t, s, logger)
		a.dial = func(t *testing.T) net.Conn {
			t.Helper()
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if extra != "" {
				return tls.Client(conn, &tls.Config{RootCAs: ca.Pool, ServerName: "tv.example.com", NextProtos: []string{"http/1.1"}})
			}
			return conn
		}
		all = append(all, a)
	}
	return all
}

// runTarget runs a node until the test ends, and returns the address of its public listener.
func runTarget(t *testing.T, s *settings, logger *slog.Logger) string {
	t.Helper()
	_, address, _ := launchSettings(t, s, logger, sdktrace.NewTracerProvider())
	return strings.TrimPrefix(address, "http://")
}

// exchange sends bytes as they are, and returns the responses until the node closes the connection. Whatever is sent asks for
// that, or has it happen.
func (a *target) exchange(t *testing.T, raw string) (responses []*http.Response, bodies []string, all string) {
	t.Helper()
	conn := a.dial(t)
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // only of a test that fails
	if _, err := io.WriteString(conn, raw); err != nil {
		return nil, nil, "" // it was closed before all was sent
	}
	text, err := io.ReadAll(conn)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Errorf("the connection stays open after %q", raw)
	}
	r := bufio.NewReader(bytes.NewReader(text))
	for {
		method := http.MethodGet
		if strings.HasPrefix(raw, http.MethodHead) {
			method = http.MethodHead
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return responses, bodies, string(text)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		responses, bodies = append(responses, resp), append(bodies, string(body))
	}
}

// get sends one sound request with further header lines.
func (a *target) get(t *testing.T, target string, lines ...string) (*http.Response, string) {
	t.Helper()
	fields := ""
	for _, l := range lines {
		fields += l + "\r\n"
	}
	responses, bodies, _ := a.exchange(t, "GET "+target+" HTTP/1.1\r\nHost: tv.example.com\r\n"+fields+"Connection: close\r\n\r\n")
	if len(responses) != 1 {
		t.Fatalf("GET %s: %d responses, want one", target, len(responses))
	}
	return responses[0], bodies[0]
}

// smuggling is what an attacker sends through a proxy that reads it otherwise than the node might.
func smuggling() map[string]struct {
	raw  string
	want []int // the statuses of the one response that may come
} {
	const (
		line     = "GET /play/a001/index.m3u8?token=good HTTP/1.1\r\n"
		host     = "Host: tv.example.com\r\n"
		hidden   = "GET /play/a001/index.m3u8?token=good-smuggled HTTP/1.1\r\nHost: tv.example.com\r\nConnection: close\r\n\r\n"
		closing  = "Connection: close\r\n\r\n"
		chunked  = "Transfer-Encoding: chunked\r\n"
		noChunks = "\r\n0\r\n\r\n"
	)
	served, refused := []int{200, 400}, []int{400, 501}
	return map[string]struct {
		raw  string
		want []int
	}{
		"a length and chunks":                {line + host + "Content-Length: 5\r\n" + chunked + noChunks + hidden, served},
		"chunks and a length":                {line + host + chunked + "Content-Length: 5\r\n" + noChunks + hidden, served},
		"a length that hides it":             {line + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden, served},
		"chunks in HTTP/1.0":                 {"GET /play/a001/index.m3u8?token=good HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n" + chunked + noChunks + hidden, served},
		"two lengths that differ":            {line + host + "Content-Length: 0\r\nContent-Length: 99\r\n\r\n" + hidden, refused},
		"a list of lengths":                  {line + host + "Content-Length: 0, 99\r\n\r\n" + hidden, refused},
		"a length with a sign":               {line + host + "Content-Length: +0\r\n\r\n" + hidden, refused},
		"a negative length":                  {line + host + "Content-Length: -1\r\n\r\n" + hidden, refused},
		"a hexadecimal length":               {line + host + "Content-Length: 0x0\r\n\r\n" + hidden, refused},
		"an empty length":                    {line + host + "Content-Length:\r\nContent-Length: 99\r\n\r\n" + hidden, refused},
		"a space before the colon":           {line + host + "Transfer-Encoding : chunked\r\n" + noChunks + hidden, refused},
		"a length with a space before":       {line + host + "Content-Length : 99\r\n\r\n" + hidden, refused},
		"chunked twice":                      {line + host + chunked + "Transfer-Encoding: identity\r\n" + noChunks + hidden, refused},
		"chunked not last":                   {line + host + "Transfer-Encoding: chunked, identity\r\n" + noChunks + hidden, refused},
		"chunked behind another":             {line + host + "Transfer-Encoding: gzip, chunked\r\n" + noChunks + hidden, refused},
		"an unknown coding":                  {line + host + "Transfer-Encoding: xchunked\r\n" + noChunks + hidden, refused},
		"a vertical tab":                     {line + host + "Transfer-Encoding: \x0bchunked\r\n" + noChunks + hidden, refused},
		"quotes":                             {line + host + "Transfer-Encoding: \"chunked\"\r\n" + noChunks + hidden, refused},
		"a folded coding":                    {line + host + "Transfer-Encoding:\r\n chunked\r\n" + noChunks + hidden, served},
		"a folded field":                     {line + host + "X-A: b\r\n Content-Length: 99\r\n" + closing + hidden, served},
		"a folded first field":               {line + " X-A: b\r\n" + host + closing, refused},
		"bare line feeds":                    {strings.ReplaceAll(line+host+"X-A: b\r\n", "\r\n", "\n") + "Content-Length: 0\n" + closing + hidden, served},
		"a carriage return within":           {line + host + "X-A: b\rContent-Length: 99\r\n" + closing + hidden, refused},
		"a NUL in a value":                   {line + host + "X-A: b\x00c\r\n" + closing, refused},
		"a NUL in a name":                    {line + host + "X\x00A: b\r\n" + closing, refused},
		"a NUL in the path":                  {"GET /play/a001\x00/index.m3u8?token=good HTTP/1.1\r\n" + host + closing, refused},
		"an empty name":                      {line + host + ": b\r\n" + closing, refused},
		"no colon":                           {line + host + "X-A\r\n" + closing, refused},
		"a chunk's size that is none":        {line + host + chunked + "\r\nG\r\n\r\n" + hidden, served},
		"a chunk's extension with line feed": {line + host + chunked + "\r\n0;a\nb\r\n\r\n" + hidden, served},
		"a chunk that is too short":          {line + host + chunked + "\r\n1\r\nabc\r\n0\r\n\r\n" + hidden, served},
		"a size that overflows":              {line + host + chunked + "\r\nfffffffffffffffff0\r\n" + hidden, served},
		"two hosts":                          {line + host + "Host: evil.example.com\r\n" + closing, refused},
		"no host":                            {line + closing, refused},
		"a host with a path":                 {line + "Host: tv.example.com/evil\r\n" + closing, refused},
		"a host with a user":                 {line + "Host: tv@evil.example.com\r\n" + closing, []int{400, 200}},
		"a host with a space":                {line + "Host: tv.example.com evil\r\n" + closing, refused},
		"a target with a tab":                {"GET /play/a001/index.m3u8?token=good\tx HTTP/1.1\r\n" + host + closing, refused},
		"two spaces":                         {"GET  /play/a001/index.m3u8?token=good HTTP/1.1\r\n" + host + closing, refused},
		"a relative target":                  {"GET play/a001/index.m3u8?token=good HTTP/1.1\r\n" + host + closing, refused},
		"an escape that is none":             {"GET /play/%zz/index.m3u8?token=good HTTP/1.1\r\n" + host + closing, refused},
		"no version":                         {"GET /play/a001/index.m3u8?token=good\r\n\r\n", []int{400, 505}},
		"HTTP/2 in clear":                    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 404, 405, 505}},
		"an unknown version":                 {"GET /play/a001/index.m3u8?token=good HTTP/9.9\r\n" + host + closing, []int{400, 505}},
		"an unknown expectation":             {line + host + "Expect: x\r\n" + closing, []int{417, 200}},
		"a tunnel":                           {"CONNECT tv.example.com:443 HTTP/1.1\r\n" + host + closing, []int{400, 404, 405}},
		"a change of protocol":               {line + host + "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n", []int{200}},
		"a body of another method":           {strings.Replace(line, "GET", "POST", 1) + host + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(hidden)) + hidden, []int{405}},
	}
}

// TestNode_Smuggling has no byte that may be a body, or of another request, taken for a request.
func TestNode_Smuggling(t *testing.T) {
	t.Parallel()
	for _, a := range targets(t) {
		t.Run(a.name, func(t *testing.T) {
			// What hides a request is of use only where the same bytes would be one.
			const two = "GET /play/a001/index.m3u8?token=good HTTP/1.1\r\nHost: tv.example.com\r\n\r\n" +
				"GET /play/a001/index.m3u8?token=good-smuggled HTTP/1.1\r\nHost: tv.example.com\r\nConnection: close\r\n\r\n"
			if responses, _, _ := a.exchange(t, two); len(responses) != 2 || !a.sawSmuggled() {
				t.Fatalf("two requests in a row: %d responses, want both served", len(responses))
			}
			cases := smuggling()
			for _, name := range slices.Sorted(maps.Keys(cases)) {
				c := cases[name]
				responses, _, all := a.exchange(t, c.raw)
				if len(responses) > 1 {
					t.Errorf("%s: %d responses, want at most one:\n%s", name, len(responses), all)
				}
				if len(responses) == 1 && !slices.Contains(c.want, responses[0].StatusCode) {
					t.Errorf("%s: status %d, want one of %v", name, responses[0].StatusCode, c.want)
				}
				if a.sawSmuggled() {
					t.Errorf("%s: the hidden request was served", name)
				}
			}
		})
	}
}

// sawSmuggled reports whether the middleware was asked about the hidden request's token.
func (a *target) sawSmuggled() bool {
	return slices.ContainsFunc(a.middleware.seen(), func(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "smuggled") })
}

// TestNode_AbsoluteTarget has the host of an absolute target be the request's host everywhere.
func TestNode_AbsoluteTarget(t *testing.T) {
	t.Parallel()
	for _, a := range targets(t) {
		t.Run(a.name, func(t *testing.T) {
			resp, _ := a.get(t, "http://other.example.com/play/a001/index.m3u8?token=good")
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("status %d", resp.StatusCode)
			}
			for _, r := range a.middleware.seen() {
				if got := r.Header.Get("X-Real-Host"); got != "other.example.com" {
					t.Errorf("the middleware was told host %q", got)
				}
			}
		})
	}
}
