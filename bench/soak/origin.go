package soak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"usher/bench/soak/netns"
	"usher/bench/stage"
)

const nginxSettings = `daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[1]s/error.log crit;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }
	server { listen 8000; root %[1]s/www; }
}
`

// packager writes live channels to files, which nginx serves.
type packager struct {
	origin  *stage.Origin
	folder  string
	written map[string]bool
}

// routes are the first parts of the channels' paths, one for each middleware.
func routes() []string { return []string{"play", "live"} }

const (
	channels        = 4
	segmentDuration = 2 * time.Second
	segmentWindow   = 6
)

func channel(number int) string { return fmt.Sprintf("ch%d", number%channels+1) }

func newPackager(folder string) *packager {
	return &packager{
		origin: stage.NewOrigin(stage.Config{SegmentDuration: segmentDuration, Window: segmentWindow}),
		folder: folder, written: map[string]bool{},
	}
}

// get returns what the stage has under a path.
func (p *packager) get(ctx context.Context, path string) (string, error) {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
	if p.origin.ServeHTTP(w, r); w.Code != http.StatusOK {
		return "", fmt.Errorf("package %s: status %d", path, w.Code)
	}
	return w.Body.String(), nil
}

// write writes what the channels list now, playlists last.
func (p *packager) write(ctx context.Context) error {
	var errs []error
	for number := range channels {
		for _, list := range []string{"low.m3u8", "high.m3u8", "index.m3u8"} {
			text, err := p.get(ctx, "/play/"+channel(number)+"/"+list)
			errs = append(errs, err, p.writeListed(ctx, channel(number), text), p.store(channel(number), list, text))
		}
	}
	return errors.Join(errs...)
}

// writeListed writes the segments that a playlist lists, but those that were written before.
func (p *packager) writeListed(ctx context.Context, channel, playlist string) error {
	for line := range strings.Lines(playlist) {
		name := strings.TrimSpace(line)
		if !strings.HasSuffix(name, ".ts") || p.written[channel+name] {
			continue
		}
		p.written[channel+name] = true // tried once: the next playlist is soon
		text, err := p.get(ctx, "/play/"+channel+"/"+name)
		if err = errors.Join(err, p.store(channel, name, text)); err != nil {
			return err
		}
	}
	return nil
}

// store writes a file of a channel for all routes. Readers see the old one or the new one.
func (p *packager) store(channel, name, text string) error {
	for _, route := range routes() {
		file := filepath.Join(p.folder, route, channel, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file+".new", []byte(text), 0o644), os.Rename(file+".new", file))
		if err != nil {
			return err
		}
	}
	return nil
}

// run writes what is new and deletes what is old, until ctx ends.
func (p *packager) run(ctx context.Context) {
	const interval, kept = 500 * time.Millisecond, 10 * segmentWindow * segmentDuration
	for ctx.Err() == nil {
		if p.write(ctx) == nil {
			p.deleteBefore(time.Now().Add(-kept))
		}
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

func (p *packager) deleteBefore(oldest time.Time) {
	files, _ := filepath.Glob(filepath.Join(p.folder, "*", "*", "*.ts")) // the pattern is right
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().Before(oldest) {
			_ = os.Remove(file)
			delete(p.written, filepath.Base(filepath.Dir(file))+filepath.Base(file))
		}
	}
}

// newNginx returns the origin's nginx, and writes its settings.
func newNginx(ctx context.Context, h *netns.Host, folder string) (*server, error) {
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxSettings, folder), 0o600); err != nil {
		return nil, err
	}
	client := clientOf(h)
	return &server{
		host:    h,
		command: func() *exec.Cmd { return h.Command(ctx, "nginx", "-e", filepath.Join(folder, "error.log"), "-c", file) },
		serves: func(ctx context.Context) error {
			_, _, err := fetch(ctx, client, "http://127.0.0.1:8000/play/ch1/index.m3u8", nil)
			return err
		},
	}, nil
}
