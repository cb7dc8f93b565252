package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"usher/bench/stage"
)

// TestDemo_PrintedCommandsWork runs the commands that the demo prints.
func TestDemo_PrintedCommandsWork(t *testing.T) {
	t.Parallel()
	tool(t, "curl", "curl")
	demo, _ := startDemo(t)
	wantCurl(t, demo, "200", "HTTP/1.1 200 OK")
	wantCurl(t, demo, "403", "HTTP/1.1 403 Forbidden")

	link := regexp.MustCompile(`ffplay '([^']+)'`).FindStringSubmatch(demo.out.String())
	if link == nil {
		t.Fatalf("no ffplay line:\n%s", demo.out)
	}
	player := startFrames(t, link[1], "-t", "3")
	if code := player.wait(t); code != 0 || len(player.frames("video")) < 70 {
		t.Errorf("ffmpeg ended with %d after %d frames of %s:\n%s", code, len(player.frames("video")), link[1], player.errs)
	}

	wantCurl(t, demo, "hang", "middleware: hang")
	wantCurl(t, demo, "error", "middleware: error")
	wantCurl(t, demo, "stop", "middleware: refuse")
	eventually(t, waitTimeout, "mallory is admitted", func() error { return curl(demo, "403", "HTTP/1.1 200 OK") })
	wantCurl(t, demo, "start", "middleware: healthy")
	eventually(t, waitTimeout, "mallory is denied", func() error { return curl(demo, "403", "HTTP/1.1 403 Forbidden") })

	demo.signal(syscall.SIGINT)
	if code := demo.wait(t); code != 0 {
		t.Errorf("the demo ended with %d, want 0", code)
	}
}

// startDemo starts the demo and returns its address, once it has printed its commands.
func startDemo(t *testing.T, args ...string) (demo *process, address string) {
	t.Helper()
	listen := freePort(t)
	demo = start(t, binary(t), append([]string{"demo", "--listen", listen}, args...)...)
	eventually(t, waitTimeout, "the demo has printed its commands", func() error {
		if !strings.Contains(demo.out.String(), "Ctrl-C ends the demo.") {
			return fmt.Errorf("so far:\n%s%s", demo.out, demo.errs)
		}
		return nil
	})
	return demo, "http://" + listen
}

func TestDemo_OutagePolicy_IsPrinted(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]string{
		"allow": "mallory is admitted, unverified", "keep": "new viewers get 503", "deny": "new viewers at once",
	} {
		demo, address := startDemo(t, "--on-failure", policy, "--middleware", "refuse")
		if !strings.Contains(demo.out.String(), want) {
			t.Errorf("on_failure %s: not %q:\n%s", policy, want, demo.out)
		}
		status := map[string]int{"allow": 200, "keep": 503, "deny": 403}[policy]
		if got, body := demoRequest(t, http.MethodGet, address+"/play/a001/index.m3u8?token=mallory", "", nil); got != status {
			t.Errorf("on_failure %s: mallory got %d %q, want %d", policy, got, body, status)
		}
	}
}

// demoRequest returns the status and the body of a response.
func demoRequest(t *testing.T, method, address, body string, header http.Header) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(got)
}

// demoPage is the demo's page in a real browser.
type demoPage struct {
	*testing.T
	ctx     context.Context
	address string
}

func openDemo(t *testing.T) demoPage {
	t.Helper()
	_, address := startDemo(t)
	p := demoPage{t, chromium.Tab(t, 1280, 800), address}
	if err := chromedp.Do(p.ctx, chromedp.Navigate(address+"/")); err != nil {
		t.Fatalf("open the demo's page: %v", err)
	}
	return p
}

// status returns what the page is told of a source.
func (p demoPage) status(src string) (s stage.Status) {
	p.Helper()
	code, body := demoRequest(p.T, http.MethodGet, p.address+"/status.json?src="+url.QueryEscape(src), "", nil)
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK {
		p.Fatalf("status.json: %d %q: %v", code, body, err)
	}
	return s
}

// texts returns the text of each element that matches.
func (p demoPage) texts(selector string) []string {
	p.Helper()
	const script = `[...document.querySelectorAll(%q)].map((e) => e.innerText.trim().replace(/\s+/g, " "))`
	got, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](fmt.Sprintf(script, selector)))
	if err != nil {
		p.Fatalf("read %s: %v", selector, err)
	}
	return got
}

// await waits until the text of an element is want.
func (p demoPage) await(selector, want string) {
	p.Helper()
	eventually(p.T, playTimeout, selector+" shows "+want, func() error {
		if got := p.texts(selector); len(got) != 1 || got[0] != want {
			return fmt.Errorf("got %q; the page shows %q", got, p.texts("body"))
		}
		return nil
	})
}

// awaitState waits until the player is in a state.
func (p demoPage) awaitState(want string) {
	p.Helper()
	eventually(p.T, playTimeout, "the player is "+want, func() error {
		got, err := chromedp.Run(p.ctx, chromedp.Evaluate[string]("usherDemo.state"))
		if err != nil || got != want {
			return fmt.Errorf("it is %s: %w; the page shows %q", got, err, p.texts("body"))
		}
		return nil
	})
}

func (p demoPage) click(selector string) {
	p.Helper()
	clicking, cancel := context.WithTimeout(p.ctx, playTimeout)
	defer cancel()
	if err := chromedp.Do(clicking, chromedp.Click(chromedp.CSS(selector))); err != nil {
		p.Fatalf("click %s: %v", selector, err)
	}
}

// watchAs clicks the link of a viewer: alice, bob and mallory, in this order.
func (p demoPage) watchAs(number int) {
	p.Helper()
	p.click(fmt.Sprintf("#tokens a:nth-of-type(%d)", number))
}

// awaitEvent waits until the page lists an event that often.
func (p demoPage) awaitEvent(want string, times int) {
	p.Helper()
	eventually(p.T, playTimeout, fmt.Sprintf("%d × the event %q", times, want), func() error {
		events, count := p.texts("#events li span"), 0
		for _, event := range events {
			if event == want {
				count++
			}
		}
		if count != times {
			return fmt.Errorf("%d times in %q", count, events)
		}
		return nil
	})
}

func TestDemo_Page_ShowsOwnViewer(t *testing.T) {
	t.Parallel()
	p := openDemo(t)
	p.awaitState("playing")
	p.await("#viewer", "alice allowed by backend")
	alice := p.status("/play/a001/index.m3u8?token=alice").Own
	p.await("#session", alice)

	p.watchAs(2)
	p.awaitState("playing")
	p.await("#viewer", "bob allowed by backend")

	p.watchAs(3)
	p.awaitState("denied")
	p.await("#viewer", "mallory denied by backend")
	p.await("#overlay-text", "The gateway refused mallory with 403: “denied by backend”. Decided by the middleware: backend answered 403.")
	p.await("#sessions tr.own th .name", "mallory you")
	p.await("#sessions tr.own th small:nth-of-type(1)", "/play/a001")
	const denied, ended = "mallory on /play/a001: denied by backend, backend answered 403", "mallory on /play/a001: session ended"
	p.awaitEvent(denied, 1)

	// The gateway forgets the denial, which the screen still shows.
	p.awaitEvent(ended, 1)
	p.await("#opened", "ended")
	p.await("#viewer", "mallory denied by backend")
	p.await("#denied", "1")
	p.click("#retry")
	p.awaitEvent(denied, 2)

	_, playlist := demoRequest(t, http.MethodGet, p.address+"/play/a001/index.m3u8?token=alice", "", nil)
	lines := strings.Split(strings.TrimSpace(playlist), "\n")
	for src, want := range map[string]string{
		lines[len(lines)-1]: alice, strings.Replace(lines[len(lines)-1], "~", "%7E", 1): alice,
		"/play/a001/high.m3u8?token=%61lice": alice, "/play/a001/index.m3u8?token=nobody": "", "/play/a002/index.m3u8?token=alice": "",
		"/ll/a001/index.m3u8?token=alice": "", "": "", "/play/a001/index.m3u8": "", "%": "",
	} {
		if got := p.status(src).Own; got != want {
			t.Errorf("the session of %q: got %q, want %q", src, got, want)
		}
	}
}

func TestDemo_Page_Kick(t *testing.T) {
	t.Parallel()
	p := openDemo(t)
	p.awaitState("playing")
	p.await("#viewer", "alice allowed by backend")
	p.click(`[aria-label="Kick alice"]`)
	p.await("#sessions-note", "Kicked alice: 1 session ended.")
	p.awaitState("denied")
	p.await("#viewer", "alice denied by operator")
	p.await("#why", "ended by an operator: kicked on the demo's page")
	p.await("#overlay-text", "The gateway ended the session of alice with 403: “denied by operator”. "+
		"Decided by an operator: kicked on the demo's page. The refusal is over: try again.")
	p.click("#retry")
	p.awaitState("playing")
	p.await("#viewer", "alice allowed by backend")

	id := p.status("/play/a001/index.m3u8?token=alice").Own
	for name, test := range map[string]struct {
		body   string
		header http.Header
		want   int
	}{
		"no session":         {"{}", nil, 400},
		"no JSON":            {"x", nil, 400},
		"no id":              {`{"session":"../kick"}`, nil, 400},
		"an unknown session": {`{"session":"AAAAAAAAAAAAAAAAAAAAAA"}`, nil, 404},
		"another site":       {`{"session":"` + id + `"}`, http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"a live session":     {`{"session":"` + id + `"}`, nil, 200},
	} {
		if got, body := demoRequest(t, http.MethodPost, p.address+"/kick", test.body, test.header); got != test.want {
			t.Errorf("%s: got %d %q, want %d", name, got, body, test.want)
		}
	}
}

func TestDemo_Page_Outage(t *testing.T) {
	t.Parallel()
	p := openDemo(t)
	p.awaitState("playing")
	p.await("#viewer", "alice allowed by backend")
	p.click(`#modes button[value="hang"]`)
	const opened = "breaker opened: checks nobody, probes the middleware every 2s"
	p.awaitEvent(opened, 1)
	p.await("#viewer", "alice allowed by cached")

	p.watchAs(3)
	p.awaitState("playing")
	p.await("#viewer", "mallory allowed by fail-open")
	p.await("#unchecked", "1")
	for _, state := range []string{"half-open sends a probe", "open checks nobody"} {
		p.await("#breaker [aria-current]", state)
	}

	p.click(`#modes button[value="healthy"]`)
	p.awaitState("denied")
	p.await("#viewer", "mallory denied by backend")
	p.await("#overlay-text", "The gateway ended the session of mallory with 403: “denied by backend”. "+
		"Decided by the middleware: backend answered 403.")
	p.awaitEvent("breaker closed: viewers are checked again", 1)
	p.awaitEvent(opened, 1) // its probes are no events
	p.awaitEvent("mallory on /play/a001: denied by backend, backend answered 403", 1)
}

// wantCurl runs the command that the demo printed with a label, and checks the beginning of its output.
func wantCurl(t *testing.T, demo *process, label, want string) {
	t.Helper()
	if err := curl(demo, label, want); err != nil {
		t.Error(err)
	}
}

func curl(demo *process, label, want string) error {
	line := regexp.MustCompile(`(?m)^  ` + label + ` +(curl .*?)(?: {3,}or .*)?$`).FindStringSubmatch(demo.out.String())
	if line == nil {
		return fmt.Errorf("the demo printed no curl line for %q:\n%s", label, demo.out)
	}
	out, err := exec.Command("sh", "-c", line[1]+" --silent --show-error").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), want) {
		return fmt.Errorf("%s: %w\n%.300s\nwant %s", line[1], err, out, want)
	}
	return nil
}
