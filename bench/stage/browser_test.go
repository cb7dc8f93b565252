package stage

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"usher/backends/backendtest/testbrowser"
)

// tab is a page in a real browser, and the test that looks at it.
type tab struct {
	*testing.T
	ctx context.Context
}

// chromium is the browser of all tests.
var chromium testbrowser.Browser

// browser opens a tab of that size in a real one.
func browser(t *testing.T, width, height int64) *tab {
	t.Helper()
	return &tab{t, chromium.Tab(t, width, height)}
}

// untilTimeout is how long a page may take to get anywhere. It is only met by one that never will.
const untilTimeout = 2 * time.Minute

// until waits, in the page, for JavaScript to be true. (chromedp.Poll makes a function of a string, which the page's
// content security policy forbids.)
func until(b *tab, expression string) {
	b.Helper()
	const every = `new Promise((done) => {
		const timer = setInterval(() => { if (%) { clearInterval(timer); done(true); } }, 100);
	})`
	waiting, cancel := context.WithTimeout(b.ctx, untilTimeout)
	defer cancel()
	wait := chromedp.Evaluate[bool](strings.Replace(every, "%", expression, 1), chromedp.EvalAwaitPromise)
	if _, err := chromedp.Run(waiting, wait); err != nil {
		facts := evaluate[string](b, `JSON.stringify({...usherDemo, hls: undefined, video: undefined,
			at: usherDemo.video.currentTime}) + document.body.innerText`)
		b.Fatalf("wait for %s: %v\n%s", expression, err, facts)
	}
}

func evaluate[T any](b *tab, expression string) T {
	b.Helper()
	got, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("evaluate %s: %v", expression, err)
	}
	return got
}

func open(b *tab, demo *fakeDemo, src string) {
	b.Helper()
	address := demo.URL + "/demo/"
	if src != "" {
		address += "?src=" + url.QueryEscape(src)
	}
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil {
		b.Fatal(err)
	}
}

func text(b *tab, selector string) string {
	b.Helper()
	return evaluate[string](b, `document.querySelector("`+selector+`").innerText`)
}

// picture keeps what the page looks like, if somebody wants to look: STAGE_PICTURES names the folder.
func picture(b *tab, name string) {
	b.Helper()
	folder := os.Getenv("STAGE_PICTURES")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o644); err != nil {
		b.Fatal(err)
	}
}

func fatalErrors(b *tab) []string {
	b.Helper()
	return evaluate[[]string](b, `usherDemo.errors.filter((e) => e.endsWith("fatal"))`)
}

// advances waits until the picture has run for three seconds of its own time.
const advances = `usherDemo.state === "playing" && (window.beganAt ??= usherDemo.video.currentTime,
	usherDemo.video.currentTime >= window.beganAt + 3)`

func TestPlayer_PlaysEveryKindOfChannel(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ src, loaded string }{
		"two variants":   {"", "usherDemo.fragments >= 2"},
		"single variant": {"/single/a001/index.m3u8?token=alice", "usherDemo.fragments >= 2"},
		"low latency":    {"/ll/a001/index.m3u8?token=alice", "usherDemo.parts >= 10"},
	}
	demo := newFakeDemo(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := browser(t, 1280, 800)
			open(b, demo, test.src)
			until(b, advances)
			until(b, test.loaded)
			if errors := fatalErrors(b); len(errors) > 0 {
				t.Errorf("fatal errors of hls.js: %v", errors)
			}
			picture(b, "playing "+name)
		})
	}
}

func TestPlayer_LowLatency_ReloadsByDirectives(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := browser(t, 1280, 800)
	open(b, demo, "/ll/a001/index.m3u8?token=alice")
	until(b, advances)
	until(b, "usherDemo.latency > 0 && usherDemo.latency < 4")
	if got := demo.awaitDeltaReload(t); !strings.HasPrefix(got, "token=alice&_HLS_msn=") {
		t.Errorf("last blocking reload for a delta update: got query %q", got)
	}
	// A busy machine may stall; what must not happen is a refused or unreadable answer.
	if errors := evaluate[[]string](b, `usherDemo.errors.filter((e) => !e.startsWith("mediaError buffer"))`); len(errors) > 0 {
		t.Errorf("errors of hls.js: %v", errors)
	}
}

func TestPlayer_ShowsOutage(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := browser(t, 1280, 800)
	open(b, demo, "")
	until(b, advances)
	until(b, `document.querySelector("#summary").dataset.tone === "good"`)
	picture(b, "healthy")
	if got := text(b, "#sessions"); !strings.Contains(got, "<img src=x") {
		t.Errorf("the hostile name is not shown as it is: %q", got)
	}

	if err := chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(`#modes button[value="refuse"]`))); err != nil {
		t.Fatal(err)
	}
	until(b, `document.querySelector("#unchecked").textContent === "1"`)
	if got := demo.switches(); len(got) != 1 || got[0].Mode != "refuse" {
		t.Errorf("posted %v, want one switch to refuse", got)
	}
	if got := text(b, "#headline"); got != "The middleware refuses connections. 4 viewers are still watching." {
		t.Errorf("headline: got %q", got)
	}
	if got := text(b, "#detail"); got != "1 viewer was admitted without a check." {
		t.Errorf("detail: got %q", got)
	}
	if got := text(b, "#breaker [aria-current]"); !strings.HasPrefix(got, "open") {
		t.Errorf("breaker: got %q", got)
	}
	until(b, `(window.seenAt ??= usherDemo.video.currentTime, usherDemo.video.currentTime >= window.seenAt + 3)`)
	picture(b, "outage")

	demo.set("refuse", true)
	until(b, `document.querySelector("#headline").textContent === "The connection to the demo is lost."`)
	picture(b, "lost")
	if errors := fatalErrors(b); len(errors) > 0 {
		t.Errorf("fatal errors of hls.js: %v", errors)
	}
}

func TestPlayer_ShowsDenial(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := browser(t, 1280, 800)
	open(b, demo, "/play/a001/index.m3u8?token=mallory")
	until(b, `usherDemo.state === "denied" && document.querySelector("#viewer .badge") !== null`)
	if got := text(b, "#overlay"); !strings.Contains(got, "denied this viewer (403)") {
		t.Errorf("overlay: got %q", got)
	}
	if got := text(b, "#viewer"); got != "mallory denied" {
		t.Errorf("this viewer: got %q", got)
	}
	picture(b, "denied")

	open(b, demo, "https://elsewhere.example/index.m3u8")
	until(b, `usherDemo.state === "failed"`)
	if got := text(b, "#overlay-title"); got != "Not allowed" {
		t.Errorf("a source elsewhere: got %q", got)
	}
	picture(b, "elsewhere")
}

func TestPlayer_FitsPhone(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	demo.set("hang", false)
	b := browser(t, 390, 844)
	open(b, demo, "/ll/a001/index.m3u8?token=alice")
	until(b, advances)
	if overflow := evaluate[int](b, `document.documentElement.scrollWidth - innerWidth`); overflow > 0 {
		t.Errorf("the page is %d pixels wider than the screen", overflow)
	}
	picture(b, "phone")
	if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(390, 1500)); err != nil {
		t.Fatal(err)
	}
	picture(b, "phone, scrolled")
}
