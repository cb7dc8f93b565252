package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"usher/backends/backendtest"
)

// edgesFolder holds a folder for each edge, with its configuration and its usher.yaml.
const edgesFolder = "../../../deploy/edges"

// edge is a third-party media server and the node that it asks, both with the sample's settings.
type edge struct {
	*node
	middleware *backendtest.Server
	url        string // of the edge
	server     *process
}

// sample reads a file of a sample, and replaces values of the sample, which it must contain, with the test's.
func sample(t *testing.T, name string, values ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(edgesFolder, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for i := 0; i < len(values); i += 2 {
		if !strings.Contains(text, values[i]) {
			t.Fatalf("%s has no %q", name, values[i])
		}
		text = strings.ReplaceAll(text, values[i], values[i+1])
	}
	return text
}

// startEdgeNode runs a node with the usher.yaml of that edge's sample. change is further YAML of the route's edge section.
func startEdgeNode(t *testing.T, name, change string) *edge {
	t.Helper()
	return startEdgeNodeOf(t, name, change, startMiddleware(t), "")
}

// startEdgeNodeOf is startEdgeNode for one of several nodes, which ask one middleware. more is further top-level YAML.
func startEdgeNodeOf(t *testing.T, name, change string, m *backendtest.Server, more string) *edge {
	t.Helper()
	listen, admin, folder := freePort(t), freePort(t), t.TempDir()
	for _, secret := range []string{"identity.key", "ticket.key"} {
		if err := os.WriteFile(filepath.Join(folder, secret), []byte("a secret of the test's own\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := sample(t, name+"/usher.yaml",
		"127.0.0.1:8080", listen, "https://auth.example.com/check", m.URL()+"/check", "      dialect:", "      "+change+"\n      dialect:")
	text += fmt.Sprintf("admin: { listen: %q, token: %q }\nlog: { level: debug }\ndrain: { readiness_delay: 0s }\n%s\n", admin, adminToken, more)
	e := &edge{middleware: m, node: &node{
		public: "http://" + listen, admin: "http://" + admin, client: newClient(t, ""),
		file: filepath.Join(folder, "usher.yaml"),
	}}
	if err := os.WriteFile(e.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.start(t)
	return e
}

// host returns an address without its scheme.
func host(address string) string {
	_, rest, _ := strings.Cut(address, "://")
	return rest
}

// startNginx runs nginx with the sample's configuration in front of an origin.
func startNginx(t *testing.T, origin *liveOrigin, change string) *edge {
	t.Helper()
	return startNginxOf(t, origin, change, false, startEdgeNode(t, "nginx", change))
}

// startNginxOf runs nginx with the sample's configuration in front of an origin. It asks each viewer's node, or all in turn, and is the edge
// of the first.
func startNginxOf(t *testing.T, origin *liveOrigin, change string, isInTurn bool, nodes ...*edge) *edge {
	t.Helper()
	var asked []string
	for _, one := range nodes {
		asked = append(asked, host(one.public))
	}
	e, listen, own := nodes[0], freePort(t), t.TempDir()
	servers := sample(t, "nginx/nginx.conf", "127.0.0.1:8080", strings.Join(asked, ";\n\tserver "), "127.0.0.1:8000", host(origin.url), "listen 80", "listen "+listen)
	config := filepath.Join(own, "nginx.conf")
	if strings.Contains(change, "match_by: cookie") {
		servers = strings.ReplaceAll(servers, "\t#set $", "\tset $")
	}
	if isInTurn {
		servers = strings.ReplaceAll(servers, "hash $remote_addr consistent;", "")
	}
	text := inNginx(own, servers)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.url, e.server = "http://"+listen, start(t, tool(t, "nginx", "nginx"), "-p", own, "-c", config, "-e", "stderr")
	e.await(t)
	return e
}

// inNginx returns the configuration of an nginx that keeps its files in a folder of its own, with servers.
func inNginx(own, servers string) string {
	return fmt.Sprintf(`
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	%[2]s
}
`, own, servers)
}

// startCaddy runs Caddy with the sample's configuration in front of an origin.
func startCaddy(t *testing.T, origin *liveOrigin, change string) *edge {
	t.Helper()
	e := startEdgeNode(t, "caddy", change)
	listen, own := freePort(t), t.TempDir()
	config := filepath.Join(own, "Caddyfile")
	// Without bind it would listen on all addresses, at a port that is the test's on 127.0.0.1 alone: a viewer of another
	// loopback address may have it.
	text := "{\n\tadmin off\n\tauto_https off\n}\n" + sample(t, "caddy/Caddyfile", "127.0.0.1:8080", host(e.public),
		"127.0.0.1:8000", host(origin.url), "http://:80 {", "http://"+listen+" {\n\tbind 127.0.0.1")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.url = "http://" + listen
	e.server = start(t, tool(t, "env", "coreutils"), "XDG_DATA_HOME="+own, "XDG_CONFIG_HOME="+own,
		tool(t, "caddy", "caddy"), "run", "--config", config, "--adapter", "caddyfile")
	e.await(t)
	return e
}

// await waits until the edge answers.
func (e *edge) await(t *testing.T) {
	t.Helper()
	eventually(t, waitTimeout, "the edge answers", func() error {
		if e.server.ended() {
			t.Fatalf("the edge ended by itself:\n%s", e.server.errs)
		}
		_, _, err := fetch(e.client, e.url+"/")
		return err
	})
}

// wantStatus requests a path from the edge, and requires the status.
func (e *edge) wantStatus(t *testing.T, client *http.Client, path string, want int) {
	t.Helper()
	status, body, err := fetch(client, e.url+path)
	if err != nil || status != want {
		t.Errorf("GET %s: %d %.200q, %v; want %d", path, status, body, err, want)
	}
}

// wantNoBypass requires the edge to refuse other spellings of an existing path that an origin may normalize.
func (e *edge) wantNoBypass(t *testing.T, client *http.Client, path string) {
	t.Helper()
	name := strings.TrimPrefix(path, "/play/")
	for _, odd := range []string{
		"/x/.." + path, "/" + path, "/./play/" + name, "/play/ts/../" + name, "/%70lay/" + name, "/play//" + name, "/x/%2e%2e" + path,
	} {
		if status, _, err := fetch(client, e.url+odd); err != nil || status == http.StatusOK {
			t.Errorf("GET %s: %d, %v; want a refusal", odd, status, err)
		}
	}
}

// TestEdges plays ffmpeg's streams through each edge of askingEdges, with its sample's configuration.
func TestEdges(t *testing.T) {
	t.Parallel()
	origin := startLive(t)
	for name, startEdge := range askingEdges() {
		t.Run(name+" with match_by address and agent", func(t *testing.T) {
			t.Parallel()
			wantAddressAgent(t, startEdge(t, origin, ""))
		})
		t.Run(name+" with match_by playlists-only", func(t *testing.T) {
			t.Parallel()
			wantPlaylistsOnly(t, startEdge(t, origin, "match_by: playlists-only"))
		})
	}
	for name, startEdge := range cookieEdges() {
		t.Run(name+" with match_by cookie", func(t *testing.T) {
			t.Parallel()
			wantCookie(t, startEdge(t, origin, "match_by: cookie"))
		})
		t.Run(name+" with match_by cookie, from two addresses", func(t *testing.T) {
			t.Parallel()
			wantSiblingAtEdge(t, startEdge(t, origin, "match_by: cookie"))
		})
	}
}

// wantAddressAgent plays with ffmpeg, which requests the media playlists without a token, before and during an outage of the
// middleware. There is one call a session.
func wantAddressAgent(t *testing.T, e *edge) {
	t.Helper()
	other := newClient(t, "127.0.0.9")
	segment := "/play/ts/" + firstSegment(t, e, "/play/ts/index.m3u8?token=good-first")
	e.wantStatus(t, e.client, segment, http.StatusOK)
	e.wantStatus(t, other, segment, http.StatusForbidden)
	e.wantStatus(t, other, "/play/ts/index.m3u8?token=bad", http.StatusForbidden)
	e.wantStatus(t, other, "/play/ts/index.m3u8", http.StatusForbidden)
	e.wantStatus(t, other, segment, http.StatusForbidden)
	e.wantNoBypass(t, other, segment)

	ffmpeg := startFrames(t, e.url+"/play/audio/index.m3u8?token=good-ffmpeg")
	eventually(t, waitTimeout, "ffmpeg plays", ffmpeg.hasBegun)
	awaitFrames(t, ffmpeg, 60)
	if got := e.middleware.Calls(); got != 3 { // good-first, bad, good-ffmpeg; without a token there is no check
		t.Errorf("%d calls of the middleware, want one for each of three sessions", got)
	}

	setMode(t, e.middleware, backendtest.Refuse())
	awaitFrames(t, ffmpeg, len(ffmpeg.frames("video"))+60)
	e.wantStatus(t, other, "/play/ts/index.m3u8?token=good-new", http.StatusOK) // nginx without Usher would respond 500
	e.wantStatus(t, other, "/play/ts/"+firstSegment(t, e, "/play/ts/index.m3u8?token=good-first"), http.StatusOK)
	if ffmpeg.ended() || ffmpeg.errs.String() != "" {
		t.Errorf("ffmpeg was disturbed: %s", ffmpeg.errs)
	}
	if free := e.sessions(t, "source=fail-open"); len(free) != 1 {
		t.Errorf("%d sessions by fail-open, want the one opened in the outage", len(free))
	}
}

// startEdgeNodes runs two nodes that share a Redis, with the settings of nginx's sample.
func startEdgeNodes(t *testing.T, m *backendtest.Server, redis *redisServer) (nodes []*edge) {
	t.Helper()
	for range 2 {
		nodes = append(nodes, startEdgeNodeOf(t, "nginx", "", m, fmt.Sprintf(
			"cluster: { redis: { %s }, redis_timeout: 400ms, encryption_keys: [ { id: a, secret: \"a secret of the cluster of the test\" } ] }",
			redis.standalone())))
	}
	return nodes
}

// TestEdges_SeveralNodes_RedisDown has nginx ask each viewer's node while Redis is frozen, and killed. It comes back empty.
func TestEdges_SeveralNodes_RedisDown(t *testing.T) {
	t.Parallel()
	m, redis := startMiddleware(t), startRedis(t)
	nodes := startEdgeNodes(t, m, redis)
	e := startNginxOf(t, startLive(t), "", false, nodes...)
	ffmpeg := startFrames(t, e.url+"/play/audio/index.m3u8?token=good-ffmpeg")
	eventually(t, waitTimeout, "ffmpeg plays", ffmpeg.hasBegun)
	play := func() { awaitFrames(t, ffmpeg, len(ffmpeg.frames("video"))+60) }
	play()
	redis.signal(syscall.SIGSTOP)
	play()
	e.wantStatus(t, e.client, "/play/ts/"+firstSegment(t, e, "/play/ts/index.m3u8?token=good"), http.StatusOK) // a new viewer
	redis.signal(syscall.SIGKILL)
	redis.process.wait(t)
	play()
	redis.start(t)
	play()
	if ffmpeg.ended() || ffmpeg.errs.String() != "" {
		t.Errorf("ffmpeg was disturbed: %s", ffmpeg.errs)
	}
}

// TestEdges_SeveralNodes_AnyKnowsTheViewer has nginx ask two nodes in turn, of which each is killed and started again. ffmpeg requests the
// media playlists and their segments without a token.
func TestEdges_SeveralNodes_AnyKnowsTheViewer(t *testing.T) {
	t.Parallel()
	m, redis := startMiddleware(t), startRedis(t)
	nodes := startEdgeNodes(t, m, redis)
	e, stranger := startNginxOf(t, startLive(t), "", true, nodes...), newClient(t, "127.0.0.9")
	ffmpeg := startFrames(t, e.url+"/play/audio/index.m3u8?token=good-ffmpeg")
	eventually(t, waitTimeout, "ffmpeg plays", ffmpeg.hasBegun)
	awaitFrames(t, ffmpeg, 60)
	segment := "/play/ts/" + firstSegment(t, e, "/play/ts/index.m3u8?token=good")
	for range 2 * len(nodes) {
		e.wantStatus(t, e.client, segment, http.StatusOK)
		e.wantStatus(t, stranger, segment, http.StatusForbidden)
	}
	for _, one := range nodes {
		one.signal(syscall.SIGKILL)
		one.process.wait(t)
		awaitFrames(t, ffmpeg, len(ffmpeg.frames("video"))+60)
		one.start(t)
		awaitFrames(t, ffmpeg, len(ffmpeg.frames("video"))+60)
	}
	if ffmpeg.ended() || ffmpeg.errs.String() != "" {
		t.Errorf("ffmpeg was disturbed: %s", ffmpeg.errs)
	}
	if got := m.Calls(); got != 2 { // good-ffmpeg and good
		t.Errorf("%d calls of the middleware, want one for each of two sessions", got)
	}
}

// wantPlaylistsOnly requires the edge to serve segments to any viewer, and playlists only to allowed ones.
func wantPlaylistsOnly(t *testing.T, e *edge) {
	t.Helper()
	segment := "/play/ts/" + firstSegment(t, e, "/play/ts/index.m3u8?token=good")
	other := newClient(t, "127.0.0.9")
	e.wantStatus(t, other, segment, http.StatusOK)
	e.wantStatus(t, other, "/play/ts/index.m3u8?token=bad", http.StatusForbidden)
	if got := e.middleware.Calls(); got != 2 {
		t.Errorf("%d calls of the middleware, want two", got)
	}
}

// wantCookie requires segments to need the ticket's cookie, even from the same address and player. A restarted node accepts
// the cookie.
func wantCookie(t *testing.T, e *edge) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := newClient(t, "")
	browser.Jar = jar
	e.wantStatus(t, browser, "/play/ts/index.m3u8?token=good", http.StatusOK)
	segment := "/play/ts/" + firstSegment(t, e, "/play/ts/index.m3u8?token=good-other")
	e.wantStatus(t, browser, segment, http.StatusOK)
	e.wantStatus(t, e.client, segment, http.StatusForbidden)
	e.wantStatus(t, browser, "/play/fmp4/index.m3u8", http.StatusForbidden) // another channel's ticket
	calls := e.middleware.Calls()
	e.signal(syscall.SIGKILL)
	e.process.wait(t)
	e.start(t)
	e.wantStatus(t, browser, "/play/ts/"+firstSegment(t, e, "/play/ts/index.m3u8?token=good-other"), http.StatusOK)
	if got := e.middleware.Calls() - calls; got != 1 { // for good-other's playlist
		t.Errorf("%d calls of the middleware after the restart, want one", got)
	}
}

// firstSegment returns the last segment's name in a media playlist, fetched by e.client.
func firstSegment(t *testing.T, e *edge, path string) string {
	t.Helper()
	status, body, err := fetch(e.client, e.url+path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d %v", path, status, err)
	}
	var last string
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			last = line
		}
	}
	if last == "" {
		t.Fatalf("no segment in %s", body)
	}
	return last
}

// awaitFrames waits until ffmpeg has played that many frames of video.
func awaitFrames(t *testing.T, f frames, want int) {
	t.Helper()
	eventually(t, waitTimeout, fmt.Sprintf("ffmpeg has played %d frames", want), func() error {
		if f.ended() {
			t.Fatalf("ffmpeg ended: %s", f.errs)
		}
		if got := len(f.frames("video")); got < want {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}

// startHAProxy runs HAProxy with the sample's configuration in front of an origin.
func startHAProxy(t *testing.T, origin *liveOrigin, change string) *edge {
	t.Helper()
	e := startEdgeNode(t, "haproxy", change)
	listen, own := freePort(t), t.TempDir()
	config := filepath.Join(own, "haproxy.cfg")
	for name, text := range map[string]string{
		"usher.lua": sample(t, "haproxy/usher.lua"),
		"haproxy.cfg": sample(t, "haproxy/haproxy.cfg", "127.0.0.1:8080", host(e.public), "127.0.0.1:8000", host(origin.url),
			"bind :80", "bind "+listen, "lua-load usher.lua", "lua-load "+filepath.Join(own, "usher.lua")),
	} {
		if strings.Contains(change, "match_by: cookie") {
			text = strings.ReplaceAll(text, "\t#http-after-response ", "\thttp-after-response ")
		}
		if err := os.WriteFile(filepath.Join(own, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.url, e.server = "http://"+listen, start(t, tool(t, "haproxy", "haproxy"), "-db", "-f", config)
	e.await(t)
	return e
}
