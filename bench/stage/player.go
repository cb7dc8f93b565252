package stage

import (
	"bytes"
	"embed"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// page is the demo's player page. hls.min.js is hls.js 1.7.4 as its authors publish it, hls.LICENSE.txt its licence.
//
//go:embed player
var page embed.FS

// contentSecurity lets the page run and fetch what its own host serves, and nothing else. hls.js plays through blob:
// URLs that it makes itself.
const contentSecurity = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Player serves the demo's page: a player (hls.js, from the binary) beside what the gateway thinks of its viewers and
// of the middleware. Mount it under any path with a slash at its end. The page plays ?src=, or what status.json names.
//
// Two more resources are the caller's, beside the page: GET status.json, which the page asks for each second, and
// POST middleware, which it sends {"mode":"refuse"} to; [Status] and [Switch] are their bodies.
//
// The handler is safe for concurrent use. Like [NewOrigin] it panics if the binary lacks its files.
func Player() http.Handler {
	files, err := loadPage()
	if err != nil {
		panic(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		if strings.HasSuffix(r.URL.Path, "/") || r.URL.Path == "" {
			name = "index.html"
		}
		body, found := files[name]
		if !found {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentType(name))
		h.Set("Content-Security-Policy", contentSecurity)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

func loadPage() (map[string][]byte, error) {
	entries, err := page.ReadDir("player")
	if err != nil {
		return nil, fmt.Errorf("read the embedded page: %w", err)
	}
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if files[e.Name()], err = page.ReadFile("player/" + e.Name()); err != nil {
			return nil, fmt.Errorf("read the embedded page: %w", err)
		}
	}
	return files, nil
}

// contentType depends on no table of the machine's.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "text/plain; charset=utf-8"
	}
}
