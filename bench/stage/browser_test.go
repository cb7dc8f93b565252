package stage

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"usher/backends/backendtest/testbrowser"
)

// tab is a page in a real browser, and its test.
type tab struct {
	*testing.T
	ctx context.Context
}

// chromium is the browser that all tests share.
var chromium testbrowser.Browser

// openTab opens a tab of the given size.
func openTab(t *testing.T, width, height int64) *tab {
	t.Helper()
	return &tab{t, chromium.Tab(t, width, height)}
}

// untilTimeout bounds the wait for a condition of a page. Only a broken page reaches it.
const untilTimeout = 2 * time.Minute

// waitUntil waits in the page until a JavaScript expression is true. (chromedp.Poll builds a function from a string, which the
// page's content security policy forbids.)
func waitUntil(b *tab, expression string) {
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

func openPage(b *tab, demo *fakeDemo, src string) {
	b.Helper()
	address := demo.URL + "/demo/"
	if src != "" {
		address += "?src=" + url.QueryEscape(src)
	}
	if err := chromedp.Do(b.ctx, chromedp.Navigate(address)); err != nil {
		b.Fatal(err)
	}
}

func innerText(b *tab, selector string) string {
	b.Helper()
	return evaluate[string](b, `document.querySelector("`+selector+`").innerText.trim().replace(/\s+/g, " ")`)
}

// texts returns the text of each element that matches.
func texts(b *tab, selector string) []string {
	b.Helper()
	return evaluate[[]string](b, `[...document.querySelectorAll("`+selector+`")].map((e) => e.innerText.trim().replace(/\s+/g, " "))`)
}

func click(b *tab, selector string) {
	b.Helper()
	clicking, cancel := context.WithTimeout(b.ctx, untilTimeout)
	defer cancel()
	if err := chromedp.Do(clicking, chromedp.Click(chromedp.CSS(selector))); err != nil {
		b.Fatalf("click %s: %v", selector, err)
	}
}

// waitStatuses waits until the page has fetched and shown the status as often again.
func waitStatuses(b *tab, count int) {
	b.Helper()
	shown := evaluate[int](b, "usherDemo.statuses")
	waitUntil(b, fmt.Sprintf("usherDemo.statuses >= %d", shown+count))
}

// saveScreenshot writes a screenshot into the folder STAGE_PICTURES, if that is set.
func saveScreenshot(b *tab, name string) {
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

// advances is true once the video has played for three seconds.
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
			b := openTab(t, 1280, 800)
			openPage(b, demo, test.src)
			waitUntil(b, advances)
			waitUntil(b, test.loaded)
			if errors := fatalErrors(b); len(errors) > 0 {
				t.Errorf("fatal errors of hls.js: %v", errors)
			}
			saveScreenshot(b, "playing "+name)
		})
	}
}

// TestPlayer_LowLatency_ReloadsByDirectives runs alone, because it measures a player's latency: other tabs take the time that keeps
// it low.
func TestPlayer_LowLatency_ReloadsByDirectives(t *testing.T) {
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, "/ll/a001/index.m3u8?token=alice")
	waitUntil(b, advances)
	waitUntil(b, "usherDemo.latency > 0 && usherDemo.latency < 4")
	if got := demo.awaitDeltaReload(t); !strings.HasPrefix(got, "token=alice&_HLS_msn=") {
		t.Errorf("last blocking reload for a delta update: got query %q", got)
	}
	// A busy machine may stall; a rejected or unreadable response is an error.
	if errors := evaluate[[]string](b, `usherDemo.errors.filter((e) => !e.startsWith("mediaError buffer"))`); len(errors) > 0 {
		t.Errorf("errors of hls.js: %v", errors)
	}
}

func TestPlayer_ShowsOutage(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, "")
	waitUntil(b, advances)
	waitUntil(b, `document.querySelector("#summary").dataset.tone === "good"`)
	saveScreenshot(b, "healthy")
	if got := innerText(b, "#sessions"); !strings.Contains(got, "<img src=x") {
		t.Errorf("the hostile name is not shown as it is: %q", got)
	}

	click(b, `#modes button[value="refuse"]`)
	waitUntil(b, `document.querySelector("#unchecked").textContent === "1"`)
	if got := demo.switches(); len(got) != 1 || got[0].Mode != "refuse" {
		t.Errorf("posted %v, want one switch to refuse", got)
	}
	if got := innerText(b, "#headline"); got != "The middleware refuses connections. 2 viewers are still watching." {
		t.Errorf("headline: got %q", got)
	}
	if got := innerText(b, "#detail"); got != "1 session was admitted without a check. 2 sessions are idle (no request for 10 s)." {
		t.Errorf("detail: got %q", got)
	}
	if got := innerText(b, "#viewer"); got != "alice allowed by cached" {
		t.Errorf("this viewer: got %q", got)
	}
	if got := innerText(b, "#breaker [aria-current]"); !strings.HasPrefix(got, "open") {
		t.Errorf("breaker: got %q", got)
	}
	waitUntil(b, `(window.seenAt ??= usherDemo.video.currentTime, usherDemo.video.currentTime >= window.seenAt + 3)`)
	saveScreenshot(b, "outage")

	demo.setMode("refuse", true)
	waitUntil(b, `document.querySelector("#headline").textContent === "The connection to the demo is lost."`)
	saveScreenshot(b, "lost")
	if errors := fatalErrors(b); len(errors) > 0 {
		t.Errorf("fatal errors of hls.js: %v", errors)
	}
}
