// Package testbrowser shares one Chromium among the tests of a test binary.
//
// Invariants:
//   - Each test has a tab with cookies, cache and connections of its own, which closes with the test.
//   - The browser dies with the test binary, also when that is killed: chromedp starts it so.
//
// Decided: the first test that needs the browser starts it, since most runs are of a few tests. Refused: skipping tests
// where there is no Chromium; they are about a real player.
package testbrowser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"usher/backends/backendtest/testflags"
)

// life ends a tab that hangs, with a message instead of the whole run.
const life = 5 * time.Minute

// closeTimeout bounds the wait for the browser's end. Only a browser that hangs reaches it.
const closeTimeout = 30 * time.Second

// Browser is a Chromium that starts when its first tab is opened. The zero value is ready. It is safe for concurrent use.
type Browser struct {
	mu    sync.Mutex
	ctx   context.Context // of the browser; nil before there is one
	close func() error
}

// Tab opens a tab of that size in pixels. It closes with the test.
func (b *Browser) Tab(t testing.TB, width, height int64) context.Context {
	t.Helper()
	browser, err := b.start()
	if err != nil {
		t.Fatalf("start Chromium, from the Debian package chromium: %v", err)
	}
	ctx, cancel := context.WithTimeout(browser, life)
	ctx, cancelTab := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the tab: %v", err)
		}
		cancelTab()
		cancel()
	})
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, height)); err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	return ctx
}

// start starts the browser if there is none, or if it has ended.
func (b *Browser) start() (context.Context, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx != nil && b.ctx.Err() == nil {
		return b.ctx, nil
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := append(
		chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("mute-audio", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.Flag("ignore-certificate-errors", true), // of servers that tests start
	)
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancelBrowser := chromedp.NewContext(ctx)
	if err := chromedp.Do(ctx); err != nil {
		cancelBrowser()
		cancelAllocator()
		return nil, err
	}
	b.ctx = ctx
	b.close = func() error {
		closing, cancel := context.WithTimeout(ctx, closeTimeout)
		err := chromedp.Cancel(closing)
		cancel()
		cancelBrowser()
		cancelAllocator()
		return err
	}
	return ctx, nil
}

// Close ends the browser, if it was started. A TestMain calls it after its tests, which [Browser.Run] does.
func (b *Browser) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil {
		return nil
	}
	err := b.close()
	b.ctx, b.close = nil, nil
	if err != nil && !errors.Is(err, context.Canceled) { // canceled: it had ended before
		return fmt.Errorf("close Chromium: %w", err)
	}
	return nil
}

// testsAtOnce is how many tests run at once by default: they mostly wait for media to be played.
const testsAtOnce = 4

// Run runs the tests, closes the browser and returns the exit code.
func (b *Browser) Run(m interface{ Run() int }) int {
	testflags.SetParallel(testsAtOnce)
	code := m.Run()
	if err := b.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}
