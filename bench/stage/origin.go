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

// Origin is a live HLS origin, an http.Handler. The package says which paths it has. It is safe for concurrent use,
// starts no goroutines and needs no closing.
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

// NewOrigin makes an origin that is on air at once. It panics if cfg is not valid: configs of origins stand in
// programs, not in files.
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
	o.variants = []variant{o.variant(high, "640x360"), o.variant(low, "320x180")}
	o.handler = http.HandlerFunc(o.route)
	if cfg.Hook != nil {
		o.handler = cfg.Hook(o.handler)
	}
	return o
}

// ServeHTTP counts the request and serves it.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.count(r.URL.Path)
	o.handler.ServeHTTP(w, r)
}

// OtherPaths is where requests are counted when too many different paths have been asked for to keep each.
const OtherPaths = "*"

// maxCountedPaths bounds the counters, so that an origin can run for months.
const maxCountedPaths = 1 << 16

func (o *Origin) count(path string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total++
	if _, known := o.requests[path]; !known && len(o.requests) >= maxCountedPaths {
		path = OtherPaths
	}
	o.requests[path]++
}

// Requests is how often each path has been asked for, with any outcome, as a copy. Past 65,536 different paths the
// new ones are counted together under [OtherPaths].
func (o *Origin) Requests() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.requests)
}

// Total is how many requests there have been.
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
		http.Error(w, "the stage has /play/{channel}/, /single/{channel}/ and /ll/{channel}/", http.StatusNotFound)
		return
	}
	kind, file := parts[0], parts[2]
	base := o.base(r, kind, parts[1])
	switch {
	case kind == "ll":
		o.routeLowLatency(w, r, base, file)
	case kind == "play" && file == "index.m3u8":
		o.writePlaylist(w, r, multivariant(base, o.variants))
	case kind == "single" && file == "index.m3u8", kind == "play" && file == "high.m3u8":
		o.writePlaylist(w, r, o.timeline.mediaPlaylist(base, high, o.now()))
	case kind == "play" && file == "low.m3u8":
		o.writePlaylist(w, r, o.timeline.mediaPlaylist(base, low, o.now()))
	case kind == "single" || kind == "play":
		o.routeSegment(w, r, file)
	default:
		notOnAir(w)
	}
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
	notOnAir(w)
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
		notOnAir(w)
		return
	}
	if !isPart {
		o.serveSegment(w, r, lowLatency, "video/mp4", number)
		return
	}
	segment, err := parseNumber(number)
	part, err2 := parseNumber(index)
	if err != nil || err2 != nil {
		notOnAir(w)
		return
	}
	o.servePart(w, r, segment, part)
}

func (o *Origin) serveSegment(w http.ResponseWriter, r *http.Request, rd rendition, contentType, number string) {
	now := o.now()
	n, err := parseNumber(number)
	oldest := o.timeline.oldest(now)
	if err != nil || n < oldest || n >= o.timeline.live(now) {
		notOnAir(w)
		return
	}
	o.serveMedia(w, r, contentType, o.cache.get(rd, n, oldest).bytes)
}

// serveMedia serves bytes that never change, ranges of them too.
func (o *Origin) serveMedia(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	setMediaHeaders(w, contentType)
	if r.Method != http.MethodGet || r.Header.Get("Range") != "" {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	}
	// The usual case in one write, past ServeContent's copying by 32 kB.
	w.Header().Set("Accept-Ranges", "bytes")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func setMediaHeaders(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "public, max-age=60")
}

// writePlaylist answers with a playlist, compressed if that is wanted and understood.
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

// base is what stands before a file's name in a URI, in the configured style.
func (o *Origin) base(r *http.Request, kind, channel string) string {
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

// notOnAir refuses what no playlist lists: a wrong name, or a segment that is not yet or no longer there.
func notOnAir(w http.ResponseWriter) { http.Error(w, "not on air", http.StatusNotFound) }
