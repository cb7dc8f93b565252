package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// liveOrigin is a live origin: nginx serves the segments that ffmpeg makes.
type liveOrigin struct {
	folder string // the server's root
	url    string
}

// liveChannels returns the ffmpeg options of each channel. Each is packaged in another way, and served at
// /play/<channel>/index.m3u8.
func liveChannels(origin string) map[string][]string {
	segments := func(name string) []string { return []string{"-hls_segment_filename", name} }
	return map[string][]string{
		"ts": segments("seg%05d.ts"),
		"fmp4": append(segments("seg%05d.m4s"),
			"-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4"),
		"aes": append(segments("seg%05d.ts"), "-hls_key_info_file", "keyinfo"),
		"audio": append(segments("%v-%05d.ts"), "-master_pl_name", "index.m3u8",
			"-var_stream_map", "v:0,agroup:sound,name:video a:0,agroup:sound,default:yes,name:sound"),
		"root":     append(segments("seg%05d.ts"), "-hls_base_url", "/play/root/"),
		"absolute": append(segments("seg%05d.ts"), "-hls_base_url", origin+"/play/absolute/"),
	}
}

// startLive runs an origin with all channels.
func startLive(t *testing.T) *liveOrigin {
	t.Helper()
	ffmpeg, nginx := tool(t, "ffmpeg", "ffmpeg"), tool(t, "nginx", "nginx")
	address := freePort(t)
	l := &liveOrigin{folder: t.TempDir(), url: "http://" + address}
	start(t, ffmpeg, l.encoder(t)...)
	config := filepath.Join(t.TempDir(), "nginx.conf")
	if err := os.WriteFile(config, []byte(nginxConfig(address, l.folder, filepath.Dir(config))), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, nginx, "-p", filepath.Dir(config), "-c", config, "-e", "stderr")
	l.await(t)
	return l
}

// nginxConfig returns the configuration of an nginx that serves root with one process, and keeps its own files in own.
func nginxConfig(listen, root, own string) string {
	return fmt.Sprintf(`
daemon off;
master_process off;
pid %[3]s/nginx.pid;
error_log stderr crit;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[3]s/body;
	proxy_temp_path %[3]s/proxy;
	fastcgi_temp_path %[3]s/fastcgi;
	uwsgi_temp_path %[3]s/uwsgi;
	scgi_temp_path %[3]s/scgi;
	types {
		application/vnd.apple.mpegurl m3u8;
		video/mp2t ts;
		video/mp4 mp4 m4s;
	}
	server {
		listen %[1]s;
		root %[2]s;
	}
}
`, listen, root, own)
}

// encoder returns ffmpeg's arguments: one picture and one tone, packaged in every way. Segments stay for a minute after they
// leave the playlist, so that a player on a busy machine finds them.
func (l *liveOrigin) encoder(t *testing.T) []string {
	t.Helper()
	args := []string{
		"-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10",
		"-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:beep_factor=4",
	}
	for channel, options := range liveChannels(l.url) {
		folder := filepath.Join(l.folder, "play", channel)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-map", "0:v", "-map", "1:a",
			"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", "100k",
			"-g", "10", "-keyint_min", "10", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "48k", "-ac", "1",
			"-f", "hls", "-hls_time", "1", "-hls_list_size", "12", "-hls_delete_threshold", "60",
			"-hls_flags", "delete_segments+program_date_time+temp_file+independent_segments")
		playlist := "index.m3u8"
		for i, option := range options {
			switch option {
			case "-hls_segment_filename":
				options[i+1] = filepath.Join(folder, options[i+1])
			case "-hls_key_info_file":
				options[i+1] = writeKey(t, folder)
			case "-var_stream_map":
				playlist = "%v.m3u8"
			}
		}
		args = append(append(args, options...), filepath.Join(folder, playlist))
	}
	return args
}

// writeKey writes the key of an encrypted channel, and returns ffmpeg's key info file.
func writeKey(t *testing.T, folder string) string {
	t.Helper()
	key := filepath.Join(folder, "key.bin")
	if err := os.WriteFile(key, []byte("sixteen bytes 16"), 0o600); err != nil {
		t.Fatal(err)
	}
	info := filepath.Join(t.TempDir(), "keyinfo")
	if err := os.WriteFile(info, []byte("key.bin\n"+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return info
}

// await waits until every playlist has some segments.
func (l *liveOrigin) await(t *testing.T) {
	t.Helper()
	client := newClient(t, "")
	for channel := range liveChannels(l.url) {
		address := l.url + "/play/" + channel + "/index.m3u8"
		v := &viewer{source: address, client: client}
		eventually(t, waitTimeout, channel+" is on air", func() error {
			media, err := v.load(t.Context())
			if err == nil && len(media.list) < startBack+1 {
				err = fmt.Errorf("%d segments so far", len(media.list))
			}
			return err
		})
	}
}

// record runs a recorder that compares bodies with the origin's files.
func (l *liveOrigin) record(t *testing.T, n *node) *recorder {
	t.Helper()
	return startComparingRecorder(t, n.public, func(path string) string {
		body, err := os.ReadFile(l.fileAt(path))
		if err != nil {
			return err.Error()
		}
		sum := sha256.Sum256(body)
		return hex.EncodeToString(sum[:])
	})
}

// fileAt returns the origin's file at a viewer's path. What has a reference is in the folder of the path or in one beside it.
func (l *liveOrigin) fileAt(path string) string {
	folder, name := filepath.Split(filepath.Clean(filepath.FromSlash(path)))
	above, reference := filepath.Split(filepath.Clean(folder))
	if !strings.HasPrefix(reference, "~") {
		return filepath.Join(l.folder, folder, name)
	}
	files, _ := filepath.Glob(filepath.Join(l.folder, above, name))
	beside, _ := filepath.Glob(filepath.Join(l.folder, above, "..", "*", name))
	if files = append(files, beside...); len(files) == 0 {
		return filepath.Join(l.folder, path) // which the error names
	}
	return files[0]
}

// wantProtected checks a player's exchanges on a channel. Every segment, key and init section was requested with a ticket and
// equals the origin's. The gateway refuses each without the ticket, or with another channel's.
func (l *liveOrigin) wantProtected(t *testing.T, n *node, got []exchange, otherTicket string) {
	t.Helper()
	whole := map[string]bool{}
	for _, e := range got {
		if isPlaylist(e.path) {
			continue
		}
		ticket, path := splitTicket(e.path)
		switch {
		case ticket == "":
			t.Errorf("without a ticket: %s", e)
		case !e.served():
			t.Errorf("not served: %s", e)
		case !e.whole: // the player stopped
		case e.sum != e.original:
			t.Errorf("%s\nwith the SHA-256 %s, the origin's has %s", e, e.sum, e.original)
		default:
			whole[path] = true
		}
	}
	if len(whole) < 5 {
		t.Errorf("the player got %d different bodies whole, want five at least", len(whole))
	}
	for path := range whole {
		l.wantRefused(t, n, path, otherTicket)
	}
}

// wantRefused requests a path without a ticket, with credentials, and with another channel's ticket.
func (l *liveOrigin) wantRefused(t *testing.T, n *node, path, otherTicket string) {
	t.Helper()
	for _, address := range []string{n.public + path, n.public + path + "?token=good", n.public + "/~" + otherTicket + path} {
		status, _, err := fetch(n.client, address)
		if err != nil || status != http.StatusForbidden {
			t.Errorf("%s: %d, %v; want 403", address, status, err)
		}
	}
}
