package stage

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Origin is a live HLS origin. It is an http.Handler; the package comment lists its paths. It is safe for concurrent use,
// starts no goroutines and needs no Close.
type Origin struct {
	cfg      Config
	timeline timeline
	now      func() time.Time
	loops    *loops
	variants []variant
	cache    *segmentCache
	handler  http.Handler

	mu       sync.Mutex
	requests map[string]int
	total    int
}

// NewOrigin returns a live origin. It panics if cfg is invalid, because the config comes from code and not from a file.
func NewOrigin(cfg Config) *Origin {
	if err := cfg.Validate(); err != nil {
		panic(err)
	}
	l, err := loadMedia()
	if err != nil {
		panic(err)
	}
	o := &Origin{cfg: cfg, timeline: cfg.timeline(), now: cfg.Now, loops: l, requests: make(map[string]int)}
	if o.now == nil {
		o.now = time.Now
	}
	o.cache = newSegmentCache(o.build)
	o.variants = []variant{o.measureVariant(high, "640x360"), o.measureVariant(low, "320x180")}
	o.handler = http.HandlerFunc(o.route)
	if cfg.Hook != nil {
		o.handler = cfg.Hook(o.handler)
	}
	return o
}

// ServeHTTP counts and serves the request.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.countRequest(r.URL.Path)
	o.handler.ServeHTTP(w, r)
}

// OtherPaths is the path under which requests are counted once there are too many different paths.
const OtherPaths = "*"

// maxCountedPaths bounds the number of counters.
const maxCountedPaths = 1 << 16

func (o *Origin) countRequest(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total++
	if _, known := o.requests[path]; !known && len(o.requests) >= maxCountedPaths {
		path = OtherPaths
	}
	o.requests[path]++
}

// Requests returns a copy of the number of requests for each path, with any status. Beyond 65,536 paths new ones are
// counted together under [OtherPaths].
func (o *Origin) Requests() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.requests)
}

// Total returns the number of all requests.
func (o *Origin) Total() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total
}

// route serves /{kind}/{channel}/{file}.
func (o *Origin) route(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(parts) != 3 || parts[1] == "" {
		http.Error(w, "the origin serves /play/{channel}/, /single/{channel}/ and /ll/{channel}/", http.StatusNotFound)
		return
	}
	kind, file := parts[0], parts[2]
	prefix := o.uriPrefix(r, kind, parts[1])
	switch kind {
	case "ll":
		o.routeLowLatency(w, r, prefix, file)
	case "play":
		o.routePlay(w, r, prefix, file)
	case "single":
		o.routeSingle(w, r, prefix, file)
	default:
		writeNotFound(w)
	}
}

// routePlay serves a channel with two variants.
func (o *Origin) routePlay(w http.ResponseWriter, r *http.Request, prefix, file string) {
	switch file {
	case "index.m3u8":
		o.writePlaylist(w, r, multivariant(prefix, o.variants))
	case "high.m3u8":
		o.writePlaylist(w, r, o.timeline.mediaPlaylist(prefix, high, o.now()))
	case "low.m3u8":
		o.writePlaylist(w, r, o.timeline.mediaPlaylist(prefix, low, o.now()))
	default:
		o.routeSegment(w, r, file)
	}
}

// routeSingle serves a channel without variants.
func (o *Origin) routeSingle(w http.ResponseWriter, r *http.Request, prefix, file string) {
	if file == "index.m3u8" {
		o.writePlaylist(w, r, o.timeline.mediaPlaylist(prefix, high, o.now()))
		return
	}
	o.routeSegment(w, r, file)
}

// routeSegment serves {high|low}-{seq}.ts.
func (o *Origin) routeSegment(w http.ResponseWriter, r *http.Request, file string) {
	for _, rendition := range []rendition{high, low} {
		number, ok := strings.CutPrefix(file, rendition.String()+"-")
		if !ok {
			continue
		}
		if number, ok = strings.CutSuffix(number, ".ts"); ok {
			o.serveSegment(w, r, rendition, "video/mp2t", number)
			return
		}
	}
	writeNotFound(w)
}

// routeLowLatency serves index.m3u8, init.mp4, {seq}.m4s and {seq}.{part}.m4s.
func (o *Origin) routeLowLatency(w http.ResponseWriter, r *http.Request, base, file string) {
	switch file {
	case "index.m3u8":
		o.serveLowLatencyPlaylist(w, r, base)
		return
	case "init.mp4":
		o.serveMedia(w, r, "video/mp4", o.loops.lowLatency.init)
		return
	}
	name, ok := strings.CutSuffix(file, ".m4s")
	number, index, isPart := strings.Cut(name, ".")
	if !ok {
		writeNotFound(w)
		return
	}
	if !isPart {
		o.serveSegment(w, r, lowLatency, "video/mp4", number)
		return
	}
	segment, err := parseNumber(number)
	part, err2 := parseNumber(index)
	if err != nil || err2 != nil {
		writeNotFound(w)
		return
	}
	o.servePart(w, r, segment, part)
}

func (o *Origin) serveSegment(w http.ResponseWriter, r *http.Request, rd rendition, contentType, number string) {
	now := o.now()
	n, err := parseNumber(number)
	oldest := o.timeline.oldestServed(now)
	if err != nil || n < oldest || n >= o.timeline.nextSegment(now) {
		writeNotFound(w)
		return
	}
	o.serveMedia(w, r, contentType, o.cache.get(rd, n, oldest).bytes)
}

// serveMedia serves immutable bytes and ranges of them.
func (o *Origin) serveMedia(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	setMediaHeaders(w, contentType)
	if r.Method != http.MethodGet || r.Header.Get("Range") != "" {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	}
	// The usual case is one write; ServeContent would copy in blocks of 32 kB.
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func setMediaHeaders(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=60")
}

// writePlaylist responds with a playlist. It is compressed if the config says so and the client accepts it.
func (o *Origin) writePlaylist(w http.ResponseWriter, r *http.Request, text string) {
	h := w.Header()
	h.Set("Content-Type", "application/vnd.apple.mpegurl")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "max-age=1")
	}
	if o.cfg.Gzip {
		h.Set("Vary", "Accept-Encoding")
	}
	if !o.cfg.Gzip || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
		return
	}
	h.Set("Content-Encoding", "gzip")
	if r.Method == http.MethodHead {
		return
	}
	z := gzip.NewWriter(w)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
}

// uriPrefix returns the text before a file name in a URI, in the configured style.
func (o *Origin) uriPrefix(r *http.Request, kind, channel string) string {
	root := "/" + kind + "/" + url.PathEscape(channel) + "/"
	switch {
	case o.cfg.URIs == Relative:
		return ""
	case o.cfg.URIs == RootRelative:
		return root
	case r.TLS != nil:
		return "https://" + r.Host + root
	default:
		return "http://" + r.Host + root
	}
}

// writeNotFound responds with 404 to a wrong name, or to a segment outside the live window.
func writeNotFound(w http.ResponseWriter) {
	http.Error(w, "not found in the live window", http.StatusNotFound)
}
