package e2e

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/bench/stage"
)

// edgeSettings are the settings of an origin that redirects to edges on this machine.
const edgeSettings = `redirect_hosts: [ "127.0.0.1:*" ], allowed_networks: [ 127.0.0.0/8 ]`

// startEdges runs three edges, each with a folder of its own, and an origin that redirects the playlists of a channel to one
// of them. The origin has nothing else.
func startEdges(t *testing.T) (origin string) {
	t.Helper()
	channels := stage.NewOrigin(stage.Config{SegmentDuration: time.Second, Window: 20})
	var edges []string
	for i := range 3 {
		folder := fmt.Sprintf("/edge-%d", i+1)
		edge := httptest.NewServer(http.StripPrefix(folder, channels))
		t.Cleanup(edge.Close)
		edges = append(edges, edge.URL+folder)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Ext(r.URL.Path) != ".m3u8" {
			http.NotFound(w, r)
			return
		}
		sum := fnv.New32a()
		_, _ = sum.Write([]byte(path.Dir(r.URL.Path)))
		http.Redirect(w, r, edges[sum.Sum32()%uint32(len(edges))]+r.URL.RequestURI(), http.StatusFound)
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// TestPlayers_RedirectedToAnEdge_PlayAsDirect plays a channel whose playlists are redirected to the one server that has its
// segments: with ffmpeg, again after the node was killed, and from a node that has never seen the playlist.
func TestPlayers_RedirectedToAnEdge_PlayAsDirect(t *testing.T) {
	t.Parallel()
	s := setup{origin: startEdges(t), middleware: startMiddleware(t).URL(), upstream: edgeSettings}
	n, other := startNode(t, s), startNode(t, s)
	const file = "/play/a001/index.m3u8"
	direct := startFrames(t, s.origin+file, "-live_start_index", "0")
	eventually(t, waitTimeout, "the player at the origin plays", direct.hasBegun)
	for _, token := range []string{"?token=good-1", "?token=good-2"} {
		through := startFrames(t, n.public+file+token, "-t", "3")
		if code := through.wait(t); code != 0 {
			t.Fatalf("ffmpeg ended with %d", code)
		}
		for _, stream := range []string{"video", "audio"} {
			got := through.frames(stream)
			if len(got) == 0 {
				t.Fatalf("no frames of %s through the gateway", stream)
			}
			eventually(t, waitTimeout, "the player at the origin has played the same "+stream, func() error {
				return findPart(direct.frames(stream), got)
			})
		}
		wantSegmentsOnAnother(t, n, other)
		n.signal(syscall.SIGKILL)
		n.wait(t)
		n.start(t)
	}
	direct.signal(syscall.SIGKILL)
	direct.wait(t)
}

// wantSegmentsOnAnother requires a node to serve what a playlist of another one lists.
func wantSegmentsOnAnother(t *testing.T, n, other *node) {
	t.Helper()
	v := &viewer{source: n.public + "/play/a001/index.m3u8?token=good-other", client: n.client}
	media, err := v.load(t.Context())
	if err != nil || len(media.list) == 0 {
		t.Fatalf("load the playlist: %v", err)
	}
	for _, address := range media.list {
		u, err := url.Parse(address)
		if err != nil || !strings.HasPrefix(address, n.public+"/~") {
			t.Fatalf("the playlist lists %s, want it below the node and a ticket", address)
		}
		if status, body, err := fetch(other.client, other.public+u.RequestURI()); err != nil || status != http.StatusOK || len(body) == 0 {
			t.Fatalf("%s from another node: %d, %d bytes, %v", u.Path, status, len(body), err)
		}
	}
}

// TestCluster_RedirectedToEdges_NodeKilled_NoViewerError plays channels of three edges on three nodes, one of which is killed.
func TestCluster_RedirectedToEdges_NodeKilled_NoViewerError(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	c := startCluster(t, 3, clusterSetup{
		origin: startEdges(t), upstream: edgeSettings, redis: redis.standalone(), backend: "timeout: 10s, answer_deadline: 10s, breaker: { interval: 50s }",
	})
	viewers, stop := c.watch(t, 20)
	awaitSegments(t, viewers, 3)
	c.nodes[1].signal(syscall.SIGKILL)
	c.nodes[1].wait(t)
	awaitSegments(t, viewers, 5)
	stop()
	c.wantNoRefusal(t)
	for i, v := range viewers {
		_, problems := v.progress()
		for _, p := range problems {
			if !strings.Contains(p, "broke off") { // the balancer cannot resend a response that a killed node has begun
				t.Errorf("viewer %d: %s", i, p)
			}
		}
	}
}
