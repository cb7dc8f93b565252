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

// playerFiles holds the demo's player page. hls.min.js is the published hls.js 1.7.4, hls.LICENSE.txt its licence.
//
//go:embed player
var playerFiles embed.FS

// contentSecurityPolicy allows the page to run and fetch only what its own host serves. hls.js plays through its own blob:
// URLs.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Player returns the handler of the demo's page: an embedded hls.js player beside the state of the gateway's sessions and
// of the middleware. Mount it under any path that ends with a slash. The page plays ?src=, or the source of status.json.
//
// The caller serves three more resources beside the page: GET status.json?src=, which the page fetches every second for the
// source that it plays and whose body is [Status], POST middleware, whose body is [Switch], and POST kick, whose body is
// [Kick] and whose answer is that of the admin API to the kick of a session.
//
// The handler is safe for concurrent use. Like [NewOrigin], Player panics if the binary lacks its files.
func Player() http.Handler {
	files, err := loadPlayerFiles()
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
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

func loadPlayerFiles() (map[string][]byte, error) {
	entries, err := playerFiles.ReadDir("player")
	if err != nil {
		return nil, fmt.Errorf("read the embedded page: %w", err)
	}
	files := make(map[string][]byte, len(entries))
	for _, e := range entries {
		if files[e.Name()], err = playerFiles.ReadFile("player/" + e.Name()); err != nil {
			return nil, fmt.Errorf("read the embedded page: %w", err)
		}
	}
	return files, nil
}

// contentType returns the content type of a file without the system's tables.
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
