package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// oddCase is an origin that lists something odd.
type oddCase struct {
	// folder is the first folder of its paths, and the name of origin and route.
	folder string
	// origin and route are settings of these, as YAML in flow style. EDGE is the edge's host.
	origin, route string
	// isFlat says that channels have no folder.
	isFlat bool
	// codings are the Content-Encoding of playlists and segments, if any.
	codings [2]string
	// put puts a channel on the origin.
	put func(o *oddOrigin, channel string)
}

// pattern returns the path of the case's route.
func (c *oddCase) pattern() string {
	if c.isFlat {
		return "/" + c.folder + "/{channel}.m3u8"
	}
	return "/" + c.folder + "/{channel}/*"
}

// entry returns the path of a channel's multivariant playlist.
func (c *oddCase) entry(channel string) string {
	if c.isFlat {
		return "/" + c.folder + "/" + channel + ".m3u8"
	}
	return "/" + c.folder + "/" + channel + "/index.m3u8"
}

// oddOrigins returns the cases. Each channel has three segments of a second, or four.
func oddOrigins() map[string]oddCase {
	return map[string]oddCase{
		"a variant without an ending": oddCase{folder: "ending"}.grows("playlist/21?q=1", "seg/1", "seg/2", "seg/3"),
		"a variant in brackets": oddCase{folder: "brackets"}.grows("QualityLevels(1280000)/manifest(format=m3u8-aapl)",
			"Fragments(video=0,format=m3u8-aapl)", "Fragments(video=1,format=m3u8-aapl)", "Fragments(video=2,format=m3u8-aapl)"),
		"a script":                    oddCase{folder: "script"}.grows("list.php", "seg.php?n=1", "seg.php?n=2", "seg.php?n=3"),
		"escapes in names":            oddCase{folder: "escapes"}.lists("100%25/a%2Fb.m3u8", "c%2Fd%2E1.ts", "a%2Db%41.ts", "..part.ts"),
		"queries that players spell":  oddCase{folder: "queries"}.lists("v.m3u8?a=it's&b=ж", "1.ts?q='", "2.ts?ключ=знач", "3.ts?a=b&&c="),
		"doubled slashes":             oddCase{folder: "slashes"}.lists("hd//v.m3u8", "1.ts", "..//sd//2.ts", "/.//slashes//CHANNEL/3.ts"),
		"another channel's folder":    oddCase{folder: "neighbour"}.lists("../CHANNEL_720/v.m3u8", "1.ts", "../CHANNEL_1080/2.ts", "3.ts"),
		"a slate that channels share": oddCase{folder: "slate"}.lists("v.m3u8", "1.ts", "/shared/slate.ts", "2.ts"),
		"its own token": oddCase{folder: "token", route: "credentials: [ token ], required: [ token ]"}.
			lists("v.m3u8?token=origin", "1.ts?token=a", "2.ts?token=b", "3.ts?token="),
		"absolute URIs by a public name": oddCase{folder: "public", origin: `public_names: [ "localhost:*" ]`}.
			lists("http://localhost:PORT/public/CHANNEL/v.m3u8", "http://localhost:PORT/public/CHANNEL/1.ts", "http://localhost:PORT/elsewhere/2.ts?x=1", "3.ts"),
		"flat names": oddCase{folder: "flat", isFlat: true, route: `media: [ { path: "/flat-media/{channel}/*" } ]`}.
			lists("CHANNEL_low.m3u8", "CHANNEL_low_1.ts", "CHANNEL_low_2.ts", "CHANNEL.ts"),
		"content codings that are none": oddCase{folder: "codings", codings: [2]string{"aws-chunked", "UTF-8"}}.lists("v.m3u8", "1.ts", "2.ts", "3.ts"),
		"a ring of segments":            {folder: "ring", origin: "reuses_names: true", put: putRing},
		"a redirect to the edge that has the segments": {
			folder: "redirect", origin: `redirect_hosts: [ "EDGE" ], allowed_networks: [ 127.0.0.0/8 ]`, put: putRedirected,
		},
	}
}

// lists returns the case with a complete media playlist.
func (c oddCase) lists(variant string, segments ...string) oddCase {
	c.put = func(o *oddOrigin, channel string) {
		o.putListed(&c, channel, variant, segments, func(playlist *oddFile, listed []string) {
			playlist.versions = []string{media(0, true, listed...)}
		})
	}
	return c
}

// grows returns the case with a media playlist that lists the first segment, and all of them once that was asked for. A node
// that keeps its first version never gets to the end.
func (c oddCase) grows(variant string, segments ...string) oddCase {
	c.put = func(o *oddOrigin, channel string) {
		o.putListed(&c, channel, variant, segments, func(playlist *oddFile, listed []string) {
			playlist.versions = []string{media(0, false, listed[0]), media(0, true, listed...)}
			playlist.needs = playlist.segments[:1]
		})
	}
	return c
}

// putListed puts a channel's files on the origin. complete sets the versions of the media playlist, of which it gets the segments'
// URIs. In the URIs CHANNEL is the channel's name.
func (o *oddOrigin) putListed(
	c *oddCase, channel, variant string, segments []string, complete func(playlist *oddFile, listed []string),
) {
	name := strings.NewReplacer("CHANNEL", channel, "PORT", port(host(o.url)))
	entry := o.url + c.entry(channel)
	o.put(entry, &oddFile{versions: []string{master(name.Replace(variant))}})
	at := joinURL(entry, name.Replace(variant))
	playlist := &oddFile{}
	var listed []string
	for i, s := range segments {
		listed = append(listed, name.Replace(s))
		f := &oddFile{versions: []string{o.media[i]}, isMedia: true}
		o.put(joinURL(at, listed[i]), f)
		playlist.segments = append(playlist.segments, f)
	}
	complete(playlist, listed)
	o.put(at, playlist)
}

// putRedirected puts playlists on the origin that are redirected to the edge, which alone has the segments.
func putRedirected(o *oddOrigin, channel string) {
	from, to := o.url+"/redirect/"+channel, o.edge+"/e7/"+channel
	for _, name := range []string{"/index.m3u8", "/v.m3u8"} {
		o.put(from+name, &oddFile{location: to + name + "?session=1"})
	}
	o.put(to+"/index.m3u8?session=1", &oddFile{versions: []string{master(from + "/v.m3u8")}})
	o.put(to+"/v.m3u8?session=1", &oddFile{versions: []string{media(0, true, "1.ts", "2.ts?session=1", o.edge+"/slate.ts")}})
	for i, address := range []string{to + "/1.ts", to + "/2.ts?session=1", o.edge + "/slate.ts"} {
		o.put(address, &oddFile{versions: []string{o.media[i]}, isMedia: true})
	}
}

// putRing puts a channel on the origin that uses its two names again.
func putRing(o *oddOrigin, channel string) {
	folder := o.url + "/ring/" + channel + "/"
	o.put(folder+"index.m3u8", &oddFile{versions: []string{master("v.m3u8")}})
	playlist := &oddFile{versions: []string{media(7, false, "a.ts", "b.ts"), media(9, true, "a.ts", "b.ts")}}
	for i, name := range []string{"a.ts", "b.ts"} {
		f := &oddFile{versions: []string{o.media[i], o.media[i+2]}, isMedia: true}
		o.put(folder+name, f)
		playlist.segments = append(playlist.segments, f)
	}
	playlist.needs = playlist.segments
	o.put(folder+"v.m3u8", playlist)
}

// master returns a multivariant playlist.
func master(variant string) string {
	return "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=200000\n" + variant + "\n"
}

// media returns a media playlist from that sequence number on.
func media(sequence int, isComplete bool, segments ...string) string {
	text := fmt.Sprintf("#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:%d\n", sequence)
	for _, s := range segments {
		text += "#EXTINF:1,\n" + s + "\n"
	}
	if isComplete {
		text += "#EXT-X-ENDLIST\n"
	}
	return text
}

// oddOrigin is an origin and its edge.
type oddOrigin struct {
	url, edge string
	media     []string // the segments
	codings   [2]string

	mu    sync.Mutex
	files map[string]*oddFile // by key
	asked []string            // keys
}

// oddFile is what an origin has at a URL. A playlist gets its next version, and its segments with it, once those that it needs
// were asked for.
type oddFile struct {
	// location is where the file is; empty: here.
	location        string
	versions        []string
	version         int
	isMedia         bool
	isAsked         bool
	segments, needs []*oddFile
}

// startOddOrigin runs the case's origin and edge with these segments.
func startOddOrigin(t *testing.T, c *oddCase, segments []string) *oddOrigin {
	t.Helper()
	o := &oddOrigin{media: segments, codings: c.codings, files: map[string]*oddFile{}}
	origin, edge := httptest.NewUnstartedServer(o), httptest.NewUnstartedServer(o)
	o.url = "http://" + origin.Listener.Addr().String()
	o.edge = "http://127.0.0.2:" + port(host(o.url)) // a pathway has its base's port
	edge.Listener = listenOn(t, edge.Listener, host(o.edge))
	for _, server := range []*httptest.Server{origin, edge} {
		server.Start()
		t.Cleanup(server.Close)
	}
	return o
}

// key identifies a URL by its server, its path as it is on the wire, and its query however players spell it.
func (o *oddOrigin) key(name string, u *url.URL) string {
	server := "origin "
	if name == host(o.edge) {
		server = "edge "
	}
	return server + u.EscapedPath() + "?" + u.Query().Encode()
}

// put puts a file at a URL. It must not be changed afterwards.
func (o *oddOrigin) put(address string, f *oddFile) {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // a case is written wrong
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[o.key(u.Host, u)] = f
}

// ServeHTTP answers with a file.
func (o *oddOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, body := o.find(r)
	switch {
	case f == nil:
		http.Error(w, "no file at "+r.RequestURI, http.StatusNotFound)
		return
	case f.location != "":
		http.Redirect(w, r, f.location, http.StatusFound)
		return
	case f.isMedia:
		w.Header().Set("Content-Type", "video/mp2t")
		setCoding(w, o.codings[1])
	default:
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		setCoding(w, o.codings[0])
	}
	_, _ = w.Write([]byte(body))
}

func setCoding(w http.ResponseWriter, coding string) {
	if coding != "" {
		w.Header().Set("Content-Encoding", coding)
	}
}

// find returns the file of a request and its current version.
func (o *oddOrigin) find(r *http.Request) (*oddFile, string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := o.key(r.Host, r.URL)
	o.asked = append(o.asked, key)
	f := o.files[key]
	if f == nil || f.location != "" {
		return f, ""
	}
	f.isAsked = true
	isMissing := func(needed *oddFile) bool { return !needed.isAsked }
	if !f.isMedia && f.version+1 < len(f.versions) && !slices.ContainsFunc(f.needs, isMissing) {
		f.version++
		for _, s := range f.segments {
			s.version = min(f.version, len(s.versions)-1)
		}
	}
	return f, f.versions[f.version]
}

// askedOf returns what was asked for in a channel, sorted and without repetitions.
func (o *oddOrigin) askedOf(channel string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, address := range o.asked {
		if before, after, found := strings.Cut(address, "/"+channel+"/"); found {
			all = append(all, before+"/CHANNEL/"+after)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// joinURL resolves a reference as players do.
func joinURL(base, reference string) string {
	u, err := url.Parse(base)
	if err == nil {
		u, err = u.Parse(reference)
	}
	if err != nil {
		panic(err) // a case is written wrong
	}
	return u.String()
}

// packageSegments returns four segments of a second that ffmpeg makes.
func packageSegments(t *testing.T) []string {
	t.Helper()
	folder := t.TempDir()
	code, _, errs := runToEnd(t, tool(t, "ffmpeg", "ffmpeg"), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10",
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
		"-g", "10", "-keyint_min", "10", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "48k", "-ac", "1", "-f", "hls", "-hls_time", "1",
		"-hls_list_size", "0", "-hls_segment_filename", filepath.Join(folder, "%d.ts"), filepath.Join(folder, "index.m3u8"))
	if code != 0 {
		t.Fatalf("ffmpeg ended with %d: %s", code, errs)
	}
	var segments []string
	for i := range 4 {
		body, err := os.ReadFile(filepath.Join(folder, fmt.Sprintf("%d.ts", i)))
		if err != nil {
			t.Fatal(err)
		}
		segments = append(segments, string(body))
	}
	return segments
}
