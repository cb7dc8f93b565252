package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// addEntries adds a channel tv with two entries, whose multivariant playlists are in folders of their own. Both list the same
// streams, in a folder beside them.
func (l *liveOrigin) addEntries(t *testing.T) {
	t.Helper()
	tv := filepath.Join(l.folder, "play", "tv")
	master, err := os.ReadFile(filepath.Join(l.folder, "play", "audio", "index.m3u8"))
	if err != nil {
		t.Fatal(err)
	}
	list := strings.NewReplacer(`URI="sound.m3u8"`, `URI="../streams/sound.m3u8"`, "\nvideo.m3u8", "\n../streams/video.m3u8").Replace(string(master))
	if strings.Count(list, "../streams/") != 2 {
		t.Fatalf("the encoder's playlist has changed:\n%s", master)
	}
	for _, entry := range []string{"travel", "premium"} {
		if err := os.MkdirAll(filepath.Join(tv, entry), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tv, entry, "index.m3u8"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../audio", filepath.Join(tv, "streams")); err != nil {
		t.Fatal(err)
	}
}

// TestPlayers_EntryFolders plays an entry whose streams are in another folder of its channel, with ffmpeg and with hls.js. Its
// ticket opens no other folder, unless a playlist lists what is in there. It runs alone, because it measures the times of players.
func TestPlayers_EntryFolders(t *testing.T) {
	origin := startLive(t)
	origin.addEntries(t)
	n := startNode(t, setup{origin: origin.url, middleware: startMiddleware(t).URL()})
	ticket := ticketFor(t, n, "tv/travel")
	for path, want := range map[string]int{
		"/play/tv/travel/index.m3u8": http.StatusOK, "/play/tv/streams/sound.m3u8": http.StatusForbidden,
		"/play/tv/premium/index.m3u8": http.StatusForbidden, "/play/tv/index.m3u8": http.StatusForbidden,
	} {
		if status, body, err := fetch(n.client, n.public+"/~"+ticket+path); err != nil || status != want ||
			status == http.StatusForbidden && !strings.Contains(string(body), "another entry") {
			t.Errorf("a ticket of the entry on %s: %d %q, %v; want %d", path, status, body, err, want)
		}
	}
	t.Run("by ffmpeg", func(t *testing.T) {
		t.Parallel()
		playByFFmpeg(t, origin, n, "tv/travel")
	})
	t.Run("by hls.js", func(t *testing.T) {
		t.Parallel()
		rec := origin.record(t, n)
		p := openPage(t)
		p.call(t, "play", "tv", rec.url+"/play/tv/travel/index.m3u8?token=good-browser", map[string]any{})
		if f := p.awaitPlayed(t, 5)["tv"]; f.Width != 160 {
			t.Errorf("the picture is %d wide, want 160", f.Width)
		}
		origin.wantProtected(t, n, rec.list(nil), ticketFor(t, n, "ts"))
	})
}
