package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/bench/stage"
)

// TestCluster_RedirectingOrigin_ViewersContinue has an origin that redirects each playlist request to the next of three edges,
// which alone have the segments. Viewers and ffmpeg play through three nodes, of which one is killed and started again: the
// node that serves a segment is seldom the one that read its playlist, and never asks another edge for it.
func TestCluster_RedirectingOrigin_ViewersContinue(t *testing.T) {
	t.Parallel()
	o := startRedirectingOrigin(t)
	c := startCluster(t, 3, clusterSetup{
		origin: o.url, upstream: o.settings(), redis: startRedis(t).standalone(), binary: plainBinary(t), backend: "validity: 1h",
	})
	viewers, stop := c.watch(t, 12)
	ffmpeg := startFrames(t, c.url+"/play/a001/low.m3u8?token=good-ffmpeg")
	eventually(t, waitTimeout, "ffmpeg plays", ffmpeg.hasBegun)
	awaitSegments(t, viewers, 3)

	killed := c.nodes[1]
	killed.signal(syscall.SIGKILL)
	killed.wait(t)
	awaitFrames(t, ffmpeg, len(ffmpeg.frames("video"))+100)
	killed.start(t)
	awaitFrames(t, ffmpeg, len(ffmpeg.frames("video"))+100)
	awaitSegments(t, viewers, 3)
	ffmpeg.signal(syscall.SIGKILL)
	ffmpeg.wait(t)
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
	if errs := ffmpeg.errs.String(); strings.Contains(errs, "HTTP error") {
		t.Errorf("ffmpeg was refused: %s", errs)
	}
	o.wantAllAsked(t)
}

// redirectingOrigin is an origin that has playlists at three edges only.
type redirectingOrigin struct {
	url   string
	edges [3]string
	// playlists and segments count the requests to each edge. strays are those for what a server does not have.
	playlists, segments [3]atomic.Int64
	strays              atomic.Int64
}

// startRedirectingOrigin runs the origin and its edges.
func startRedirectingOrigin(t *testing.T) *redirectingOrigin {
	t.Helper()
	o := &redirectingOrigin{}
	live := stage.NewOrigin(stage.Config{SegmentDuration: time.Second, Window: 20})
	for i := range o.edges {
		folder := fmt.Sprintf("/edge-%d", i)
		edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			count := &o.segments[i]
			if isPlaylist(r.URL.Path) {
				count = &o.playlists[i]
			}
			if !strings.HasPrefix(r.URL.Path, folder+"/") {
				count = &o.strays
			}
			count.Add(1)
			http.StripPrefix(folder, live).ServeHTTP(w, r)
		}))
		t.Cleanup(edge.Close)
		o.edges[i] = edge.URL + folder
	}
	var next atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isPlaylist(r.URL.Path) {
			o.strays.Add(1)
			http.NotFound(w, r)
			return
		}
		http.Redirect(w, r, o.edges[next.Add(1)%3]+r.URL.RequestURI(), http.StatusFound)
	}))
	t.Cleanup(origin.Close)
	o.url = origin.URL
	return o
}

// settings returns the settings of an origin that redirects, as YAML in flow style.
func (o *redirectingOrigin) settings() string {
	var hosts []string
	for _, edge := range o.edges {
		name, _, _ := strings.Cut(host(edge), "/")
		hosts = append(hosts, fmt.Sprintf("%q", name))
	}
	return "redirect_hosts: [ " + strings.Join(hosts, ", ") + " ], allowed_networks: [ 127.0.0.0/8 ]"
}

// wantAllAsked fails the test unless every edge was asked for playlists and segments, and no server for what it does not have.
func (o *redirectingOrigin) wantAllAsked(t *testing.T) {
	t.Helper()
	for i := range o.edges {
		playlists, segments := o.playlists[i].Load(), o.segments[i].Load()
		t.Logf("edge %d: %d requests for playlists, %d for segments", i, playlists, segments)
		if playlists == 0 || segments == 0 {
			t.Errorf("edge %d was not asked for both", i)
		}
	}
	if n := o.strays.Load(); n > 0 {
		t.Errorf("%d requests to a server that does not have the file", n)
	}
}
