package peers_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/backends/backendtest"
	"usher/bench/peers"
	"usher/bench/stage"
)

// timeout bounds the start and the end of a peer. Only a failing test reaches it.
const timeout = 30 * time.Second

// harnessVariable makes this test binary a harness that starts the yardstick, prints its URL, and waits to be killed.
const harnessVariable = "PEERS_TEST_HARNESS"

func TestMain(m *testing.M) {
	if os.Getenv(harnessVariable) != "" {
		p, err := peers.Start(context.Background(), peers.Yardstick, peers.Options{
			Origin: "http://127.0.0.1:1", Auth: "http://127.0.0.1:1/auth", Workers: 2,
		})
		if err != nil {
			panic(err)
		}
		fmt.Println(p.URL)
		select {}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

// playlist and segment are what viewers request. The origin's clock is stopped, so they do not change.
const (
	playlist = "/single/ch1/index.m3u8"
	segment  = "/single/ch1/high-499999999.ts"
)

// fixture is an origin, a middleware that allows tokens that begin with "good", and a folder with the origin's files.
type fixture struct {
	origin     *httptest.Server
	stage      *stage.Origin
	middleware *backendtest.Server
	options    peers.Options
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	stopped := time.Unix(1_000_000_000, 0)
	media := stage.NewOrigin(stage.Config{Now: func() time.Time { return stopped }})
	f := &fixture{
		origin: httptest.NewServer(media), stage: media,
		middleware: backendtest.New(backendtest.Config{Address: "127.0.0.1:0", Lookup: func(token string) (backendtest.User, bool) {
			return backendtest.User{}, strings.HasPrefix(token, "good")
		}}),
	}
	t.Cleanup(f.origin.Close)
	if err := f.middleware.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.middleware.Close)
	folder := t.TempDir()
	if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{playlist, segment} {
		file := filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(f.want(t, path)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f.options = peers.Options{Origin: f.origin.URL, Auth: f.middleware.URL() + "/auth", Folder: folder, Workers: 1}
	return f
}

// want returns the origin's bytes of a path.
func (f *fixture) want(t *testing.T, path string) string {
	t.Helper()
	status, body := get(t, f.origin.URL+path)
	if status != http.StatusOK || body == "" {
		t.Fatalf("the origin answers %d to %s, with %d bytes", status, path, len(body))
	}
	return body
}

func (f *fixture) start(t *testing.T, name string) *peers.Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	p, err := peers.Start(ctx, name, f.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
	return p
}

// get requests a URL. header has names and values in turn.
func get(t *testing.T, url string, header ...string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// installed are the peers whose programs the tests require. The others are tested where they are installed.
func installed() []string {
	return slices.DeleteFunc(peers.Names(), func(name string) bool { return name == "nginx-lua" || name == "varnish" })
}

// TestStart_Recipes requires of each recipe what makes its figures comparable: the origin's bytes for an allowed viewer, a
// refusal for others, and as many calls of the middleware as it says.
func TestStart_Recipes(t *testing.T) {
	t.Parallel()
	for _, name := range peers.Names() {
		if _, err := peers.Find(name); err != nil && !slices.Contains(installed(), name) {
			if !errors.Is(err, peers.ErrMissing) {
				t.Errorf("find %s: %v", name, err)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.start(t, name)
			wantMedia(t, f, p)
			if p.Asks != peers.Never {
				wantRefusal(t, f, p)
			}
			if p.AuthURL != "" {
				wantAuth(t, f, p)
			}
		})
	}
}

func wantMedia(t *testing.T, f *fixture, p *peers.Peer) {
	t.Helper()
	paths := []string{playlist, playlist, segment, segment}
	wanted := map[string]string{playlist: f.want(t, playlist), segment: f.want(t, segment)}
	before, fetched := f.middleware.Calls(), f.stage.Requests()[segment] // Start has requested something, too
	for _, path := range paths {
		status, body := get(t, p.Request(path, "good-1"))
		if status != http.StatusOK || body != wanted[path] {
			t.Errorf("GET %s: %d and %d bytes, want the origin's bytes", path, status, len(body))
		}
	}
	wantFetches := 1
	switch p.Name {
	case "nginx-static":
		wantFetches = 0
	case "caddy":
		wantFetches = 2
	}
	if got := f.stage.Requests()[segment] - fetched; got != wantFetches {
		t.Errorf("%d requests to the origin for two of a segment, want %d", got, wantFetches)
	}
	want := map[peers.Asks]uint64{peers.Never: 0, peers.EachTime: uint64(len(paths)), peers.WhenUnsure: 1}[p.Asks]
	if got := f.middleware.Calls() - before; got != want {
		t.Errorf("%d calls of the middleware for %d requests of one viewer, want %d: it asks %s", got, len(paths), want, p.Asks)
	}
}

func wantRefusal(t *testing.T, f *fixture, p *peers.Peer) {
	t.Helper()
	before := f.middleware.Calls()
	for _, path := range []string{playlist, segment} { // both are in the cache
		if status, body := get(t, p.Request(path, "bad-1")); status != http.StatusForbidden || body == f.want(t, path) {
			t.Errorf("GET %s with a refused token: %d, want %d", path, status, http.StatusForbidden)
		}
	}
	if f.middleware.Calls() == before {
		t.Error("the middleware was not asked about another token")
	}
}

func wantAuth(t *testing.T, f *fixture, p *peers.Peer) {
	t.Helper()
	question := func(token string) int {
		status, _ := get(t, p.AuthURL, "X-Original-URI", playlist+"?token="+token, "X-Real-IP", "192.0.2.7")
		return status
	}
	before := f.middleware.Calls()
	for range 2 {
		if status := question("good-2"); status/100 != 2 {
			t.Errorf("an edge's question about an allowed viewer: %d, want 2xx", status)
		}
	}
	want := map[peers.Asks]uint64{peers.Never: 0, peers.EachTime: 2, peers.WhenUnsure: 1}[p.Asks]
	if got := f.middleware.Calls() - before; got != want {
		t.Errorf("%d calls of the middleware for two questions about one viewer, want %d", got, want)
	}
	if status := question("bad-2"); p.Asks != peers.Never && status != http.StatusForbidden {
		t.Errorf("an edge's question about a refused viewer: %d, want %d", status, http.StatusForbidden)
	}
}

func TestStart_AuthTTL_AsksAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.options.AuthTTL = time.Second
	p := f.start(t, peers.Yardstick)
	deadline := time.Now().Add(timeout)
	for before := f.middleware.Calls(); f.middleware.Calls() < before+2; {
		if status, _ := get(t, p.Request(playlist, "good")); status != http.StatusOK {
			t.Fatalf("GET: %d", status)
		}
		if time.Now().After(deadline) {
			t.Fatal("the middleware was asked once only")
		}
	}
}

func TestStart_SecureLink_ForgedLink_Forbidden(t *testing.T) {
	t.Parallel()
	p := newFixture(t).start(t, "nginx-securelink")
	link := p.Request(playlist, "good")
	for _, url := range []string{
		p.URL + playlist,
		strings.Replace(link, "expires=", "expires=1", 1),
		strings.Replace(link, "/ch1/", "/ch2/", 1),
	} {
		if status, _ := get(t, url); status != http.StatusForbidden {
			t.Errorf("GET %s: %d, want %d", url, status, http.StatusForbidden)
		}
	}
}

// TestStart_FailOpen_MiddlewareRefuses_AdmitsNewViewers shows what sets the recipe apart from the yardstick.
func TestStart_FailOpen_MiddlewareRefuses_AdmitsNewViewers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	open, closed := f.start(t, "nginx-failopen"), f.start(t, peers.Yardstick)
	get(t, open.Request(playlist, "good"))
	if status, _ := get(t, open.Request(playlist, "bad")); status != http.StatusForbidden {
		t.Errorf("a refused viewer: %d, want %d", status, http.StatusForbidden)
	}
	if err := f.middleware.SetMode(backendtest.Refuse()); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]int{"good": http.StatusOK, "new": http.StatusOK, "bad": http.StatusForbidden} {
		if status, _ := get(t, open.Request(playlist, token)); status != want {
			t.Errorf("during the outage, token %s: %d, want %d", token, status, want)
		}
	}
	if status, _ := get(t, closed.Request(playlist, "new")); status != http.StatusInternalServerError {
		t.Errorf("the yardstick answers %d to a new viewer during the outage, want %d", status, http.StatusInternalServerError)
	}
}

func TestPeer_Close_EndsAndRemovesAll(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for _, name := range []string{peers.Yardstick, "haproxy", "caddy"} {
		p := newFixture(t).start(t, name)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if answer, err := http.Get(p.URL); err == nil {
			answer.Body.Close()
			t.Errorf("%s still listens", name)
		}
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "usher-peer-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// TestStart_HarnessKilled_PeerEnds kills a harness, and requires nginx's master and its workers to end.
func TestStart_HarnessKilled_PeerEnds(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	harness := exec.CommandContext(t.Context(), self)
	harness.Env = append(os.Environ(), harnessVariable+"=1", "TMPDIR="+t.TempDir())
	output, err := harness.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := harness.Start(); err != nil {
		t.Fatal(err)
	}
	url, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(strings.TrimSpace(url), "http://")
	if err := harness.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = harness.Wait() // it was killed
	for deadline := time.Now().Add(timeout); ; {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("nginx still listens")
		}
	}
}

func TestFind_NotInstalled_NamesPackage(t *testing.T) {
	t.Setenv("PATH", "")
	for _, name := range peers.Names() {
		r, err := peers.Find(name)
		if !errors.Is(err, peers.ErrMissing) || !strings.Contains(err.Error(), "apt-get install -y "+r.Package) {
			t.Errorf("find %s: %v, want the package %s", name, err, r.Package)
		}
		if _, err := peers.Start(t.Context(), name, peers.Options{}); !errors.Is(err, peers.ErrMissing) {
			t.Errorf("start %s: %v", name, err)
		}
	}
}

func TestFind_PathWithoutSbin_Found(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	if _, err := peers.Find(peers.Yardstick); err != nil {
		t.Error(err)
	}
}

func TestFind_Unknown_ListsNames(t *testing.T) {
	t.Parallel()
	if _, err := peers.Find("apache"); !errors.Is(err, peers.ErrUnknown) || !strings.Contains(err.Error(), "varnish") {
		t.Errorf("find apache: %v", err)
	}
}

func TestStart_Errors(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	good := newFixture(t).options
	for name, change := range map[string]func(*peers.Options){
		"origin without a port": func(o *peers.Options) { o.Origin = "http://127.0.0.1" },
		"middleware by TLS":     func(o *peers.Options) { o.Auth = "https://127.0.0.1:1/auth" },
		"auth TTL too short":    func(o *peers.Options) { o.AuthTTL = time.Millisecond },
		"a bad configuration":   func(o *peers.Options) { o.Folder = "{" },
	} {
		o := good
		change(&o)
		if _, err := peers.Start(t.Context(), "nginx-static", o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if left, err := filepath.Glob(filepath.Join(temporary, "usher-peer-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}
