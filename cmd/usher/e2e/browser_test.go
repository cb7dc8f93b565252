package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"usher/bench/stage"
)

// playersPage plays any number of sources with hls.js and records what happens. Its origin is not the gateway's, as with
// operators' pages, so the gateway must allow it by CORS.
const playersPage = `<!doctype html><meta charset="utf-8"><title>players</title>
<script src="/player/hls.min.js"></script><body><script>
const players = {};
function play(name, source, options) {
  const video = document.createElement("video");
  video.muted = true;
  document.body.append(video);
  const hls = new Hls({ enableWorker: false, ...options });
  const player = players[name] = { video, hls, errors: [], fatal: 0, fragments: 0, parts: 0, stalls: 0, behind: [] };
  hls.on(Hls.Events.ERROR, (_, e) => {
    player.errors.push([e.type, e.details, e.response?.code ?? "", e.error?.message ?? ""].join(" "));
    if (e.fatal) player.fatal++;
    if (e.details === "bufferStalledError") player.stalls++;
  });
  hls.on(Hls.Events.FRAG_LOADED, (_, e) => { e.part ? player.parts++ : player.fragments++; });
  hls.loadSource(source);
  hls.attachMedia(video);
  video.play().catch((e) => player.errors.push(String(e)));
}
function played(video) {
  let sum = 0;
  for (let i = 0; i < video.played.length; i++) sum += video.played.end(i) - video.played.start(i);
  return sum;
}
function startOver() {
  for (const [name, p] of Object.entries(players)) {
    p.hls.destroy();
    p.video.remove();
    delete players[name];
  }
  clearInterval(sampling);
}
let sampling = 0;
// sample records how far each picture is behind the clock, once all players have played for that long.
function sample(settle) {
  sampling = setInterval(() => {
    const all = Object.values(players);
    if (!all.every((p) => played(p.video) >= settle && p.hls.playingDate)) return;
    for (const p of all) p.behind.push(Date.now() - p.hls.playingDate.getTime());
  }, 100);
}
function facts() {
  return Object.fromEntries(Object.entries(players).map(([name, p]) => [name, {
    played: played(p.video), errors: p.errors, fatal: p.fatal, fragments: p.fragments, parts: p.parts,
    stalls: p.stalls, behind: p.behind, width: p.video.videoWidth,
  }]));
}
</script>`

// playerFacts is the record of one player. Behind is in milliseconds.
type playerFacts struct {
	Played    float64   `json:"played"`
	Errors    []string  `json:"errors"`
	Fatal     int       `json:"fatal"`
	Fragments int       `json:"fragments"`
	Parts     int       `json:"parts"`
	Stalls    int       `json:"stalls"`
	Behind    []float64 `json:"behind"`
	Width     int       `json:"width"`
}

// playTimeout bounds the wait for players. Only a failing test reaches it.
const playTimeout = 3 * time.Minute

// page is a page of players in a real browser.
type page struct{ ctx context.Context }

// openPage opens an empty page of players in a new tab.
func openPage(t *testing.T) page {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/player/", stage.Player())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(playersPage))
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	ctx := chromium.Tab(t, 1280, 800)
	if err := chromedp.Do(ctx, chromedp.Navigate(site.URL+"/")); err != nil {
		t.Fatalf("open the page: %v", err)
	}
	return page{ctx}
}

// call calls a function of the page.
func (p page) call(t *testing.T, function string, args ...any) {
	t.Helper()
	list := make([]string, len(args))
	for i, arg := range args {
		text, err := json.Marshal(arg)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = string(text)
	}
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](function+"("+strings.Join(list, ",")+"), true")); err != nil {
		t.Fatalf("call %s in the page: %v", function, err)
	}
}

// facts returns the record of each player.
func (p page) facts(t *testing.T) map[string]playerFacts {
	t.Helper()
	facts, err := chromedp.Run(p.ctx, chromedp.Evaluate[map[string]playerFacts]("facts()"))
	if err != nil {
		t.Fatalf("read the page's facts: %v", err)
	}
	return facts
}

// awaitPlayed waits until every player has played that many seconds of media.
func (p page) awaitPlayed(t *testing.T, seconds float64) map[string]playerFacts {
	t.Helper()
	var facts map[string]playerFacts
	eventually(t, playTimeout, fmt.Sprintf("every player plays %.0f s", seconds), func() error {
		facts = p.facts(t)
		for name, f := range facts {
			if f.Fatal > 0 {
				t.Fatalf("hls.js gave up on %s: %q", name, f.Errors)
			}
			if f.Played < seconds {
				return fmt.Errorf("%s: %.1f s; errors %q", name, f.Played, f.Errors)
			}
		}
		return nil
	})
	return facts
}

// playByBrowser plays all channels in one page, each for at least ten seconds.
func playByBrowser(t *testing.T, origin *liveOrigin, n *node, channels []string) {
	t.Helper()
	rec := origin.record(t, n)
	p := openPage(t)
	for _, channel := range channels {
		p.call(t, "play", channel, rec.url+"/play/"+channel+"/index.m3u8?token=good-browser", map[string]any{})
	}
	for channel, f := range p.awaitPlayed(t, 10) {
		if f.Width != 160 {
			t.Errorf("the picture of %s is %d wide, want 160", channel, f.Width)
		}
	}
	for _, channel := range channels {
		t.Run(channel, func(t *testing.T) {
			got := rec.list(func(e exchange) bool { return channelOf(e.path) == channel })
			origin.wantProtected(t, n, got, ticketFor(t, n, other(channel)))
		})
	}
}
