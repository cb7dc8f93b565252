package testbrowser

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

var chromium Browser

// tests closes the browser before leaks are looked for.
type tests struct{ *testing.M }

func (r tests) Run() int { return chromium.Run(r.M) }

func TestMain(m *testing.M) { goleak.VerifyTestMain(tests{m}) }

func TestBrowser_Tab_Isolated(t *testing.T) {
	t.Parallel()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<!doctype html><title>page</title>")
	}))
	t.Cleanup(site.Close)
	cookies := func(ctx context.Context, expression string) string {
		if err := chromedp.Do(ctx, chromedp.Navigate(site.URL)); err != nil {
			t.Fatal(err)
		}
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first, second := chromium.Tab(t, 640, 480), chromium.Tab(t, 800, 600)
	if got := cookies(first, `document.cookie = "a=1", document.cookie + " " + innerWidth`); got != "a=1 640" {
		t.Errorf("cookies and width in the first tab: %q", got)
	}
	if got := cookies(second, `document.cookie + " " + innerWidth + " " + document.visibilityState`); got != " 800 visible" {
		t.Errorf("cookies, width and visibility in the second tab: %q", got)
	}
	if a, b := chromedp.FromContext(first).Browser, chromedp.FromContext(second).Browser; a != b {
		t.Error("two tabs are in two browsers, want one")
	}
}

func TestBrowser_Ended_StartsAnew(t *testing.T) {
	t.Parallel()
	var b Browser
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	for range 2 {
		t.Run("", func(t *testing.T) { b.Tab(t, 640, 480) })
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}
