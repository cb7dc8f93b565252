package stage

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// viewerSource is the source of a viewer on the default channel.
func viewerSource(token string) string { return "/play/a001/index.m3u8?token=" + token }

// wantText compares the text of an element.
func wantText(b *tab, selector, want string) {
	b.Helper()
	if got := innerText(b, selector); got != want {
		b.Errorf("%s: got %q, want %q", selector, got, want)
	}
}

// wantTallies checks that the numbers of sessions are those of the rows, and that each row counts once.
func wantTallies(b *tab) {
	b.Helper()
	const rows = `[...document.querySelectorAll("#sessions tr")].filter((r) => !r.querySelector(".empty"))`
	verdicts := texts(b, "#sessions tr .badge")
	number := func(id string) int { return evaluate[int](b, `Number(document.querySelector("#`+id+`").textContent)`) }
	count := func(verdict string) (n int) {
		for _, v := range verdicts {
			if v == verdict {
				n++
			}
		}
		return n
	}
	got := map[string]int{
		"total": number("total"), "allowed": number("checked") + number("cached") + number("unchecked"),
		"pending": number("pending"), "denied": number("denied"), "rows": evaluate[int](b, rows+".length"),
	}
	want := map[string]int{
		"total": len(verdicts), "allowed": count("allowed"), "pending": count("being checked"), "denied": count("denied"),
		"rows": len(verdicts),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.Errorf("the tallies differ from the rows (-rows +tallies):\n%s", diff)
	}
}

func TestPlayer_Refused_SaysWhoAndWhy(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("mallory"))
	waitUntil(b, `usherDemo.state === "denied" && document.querySelector("#overlay-text").innerText.includes("Decided")`)
	wantText(b, "#overlay-text", "The gateway refused mallory with 403: “denied by backend”. Decided by the middleware: backend answered 403.")
	wantText(b, "#viewer", "mallory denied by backend")
	wantText(b, "#why", "backend answered 403")
	wantText(b, "#session", mallorysDenial)
	wantText(b, "#announcement", "mallory: denied by backend, backend answered 403")
	wantText(b, "#sessions tr.own .name", "mallory you")
	wantTallies(b)
	if got := evaluate[string](b, "document.title"); got != "mallory: denied by backend – Usher demo" {
		t.Errorf("title: got %q", got)
	}
	saveScreenshot(b, "denied")

	// The gateway forgets the denial, which the screen still shows.
	demo.setChange(withoutSession(mallorysDenial))
	waitUntil(b, `document.querySelector("#opened").innerText === "ended"`)
	wantText(b, "#viewer", "mallory denied by backend")
	wantText(b, "#denied", "1")
	wantText(b, "#sessions tr.own .badge", "denied")
	wantTallies(b)

	demo.setRefusal("mallory", "")
	demo.setChange(nil)
	click(b, "#retry")
	waitUntil(b, advances)
}

func TestPlayer_RefusedWithoutSession_ShowsAnswer(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	demo.setRefusal("nobody", "no ticket; open the playlist first")
	demo.setRefusal("", "no ticket; open the playlist first")
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("nobody"))
	waitUntil(b, `usherDemo.state === "denied" && document.querySelector("#sessions tr.own") !== null`)
	wantText(b, "#viewer", "nobody denied by gateway")
	wantText(b, "#why", "no ticket; open the playlist first")
	wantText(b, "#overlay-text", "The gateway refused nobody with 403: “no ticket; open the playlist first”.")
	wantText(b, "#session-count", "5 live, 1 ended")
	wantTallies(b)
	openPage(b, demo, "/play/a001/index.m3u8")
	waitUntil(b, `usherDemo.state === "denied" && document.querySelector("#sessions tr.own") !== null`)
	wantText(b, "#viewer", "no token denied by gateway")
	wantText(b, "#overlay-text", "The gateway refused a viewer without a token with 403: “no ticket; open the playlist first”.")
}

func TestPlayer_RefusedAndForgotten_ShowsDecider(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	demo.setChange(withoutSession(mallorysDenial)) // before the page could see it
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("mallory"))
	waitUntil(b, `document.querySelector("#sessions tr.own .badge") !== null`)
	wantText(b, "#viewer", "mallory denied by backend")
	wantText(b, "#opened", "none")
	wantText(b, "#overlay-text", "The gateway refused mallory with 403: “denied by backend”. Decided by the middleware.")
}

func TestPlayer_OneSessionOnChannel_IsNotTakenForOwn(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	demo.setChange(func(s *Status) { s.Sessions = s.Sessions[:1] }) // alice's
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("mallory"))
	waitUntil(b, `usherDemo.state === "denied"`)
	waitStatuses(b, 2)
	if got := innerText(b, "#viewer"); !strings.HasPrefix(got, "mallory") {
		t.Errorf("this viewer: got %q, want mallory", got)
	}
	if got := texts(b, "#sessions .name"); !slices.Equal(got, []string{"mallory you", "alice"}) {
		t.Errorf("rows: got %q", got)
	}
}

func TestPlayer_TalliesEqualRows(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"healthy", "refuse"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			demo := newFakeDemo(t)
			demo.setMode(mode, false)
			b := openTab(t, 1280, 800)
			openPage(b, demo, viewerSource("alice"))
			waitUntil(b, `document.querySelector("#sessions tr.own") !== null`)
			wantTallies(b)
			demo.setChange(func(s *Status) { s.Sessions = nil })
			waitUntil(b, `document.querySelector("#sessions .empty") !== null`)
			wantTallies(b)
			wantText(b, "#headline", map[string]string{
				"healthy": "The middleware is healthy. No viewer is watching.",
				"refuse":  "The middleware refuses connections. No viewer is watching.",
			}[mode])
		})
	}
}

func TestPlayer_Sessions_ShowRouteAddressAndReason(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("alice"))
	waitUntil(b, `document.querySelector("#sessions tr.own") !== null`)
	want := []string{
		"alice you /play/a001 192.0.2.7 | allowed by backend | 1 s ago 1 min, 2.6 MB | Kick",
		"bob /play/a002 2001:db8:1234:5678:9abc:def0:1234:5678 | allowed by backend | 25 s ago 3 h, 288.0 MB | Kick",
		markup + " /single/a001 192.0.2.8 | allowed by backend | 8 min ago 9 min, 15.4 MB | Kick",
		"mallory /play/a001 192.0.2.9 | denied by backend backend answered 403 | 2 s ago 2 s, 0 B | Kick",
		longToken + " /ll/a-channel-with-a-name-that-is-too-long-for-any-column 192.0.2.8 | being checked | 0 s ago 0 s, 0 B | Kick",
	}
	const rows = `[...document.querySelectorAll("#sessions tr")].map((r) =>
		[...r.children].map((c) => c.innerText.trim().replace(/\s+/g, " ")).join(" | "))`
	if diff := cmp.Diff(want, evaluate[[]string](b, rows)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	wantText(b, "#headline", "The middleware is healthy. 1 viewer is watching.") // bob and another have left
	if got := texts(b, "#events li"); len(got) != 2 || !strings.HasSuffix(got[1], " alice on /play/a001: allowed by backend × 3") {
		t.Errorf("events: got %q", got)
	}
}

func TestPlayer_WatchAs_SwitchesViewer(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, "/single/a001/index.m3u8?token=alice&x=1")
	waitUntil(b, `usherDemo.state === "playing" && document.querySelectorAll("#tokens a").length === 3`)
	if got := texts(b, "#tokens a"); !slices.Equal(got, []string{"alice", "bob", "mallory"}) {
		t.Fatalf("links: got %q", got)
	}
	wantText(b, "#tokens [aria-current=true]", "alice")
	click(b, "#tokens a:nth-of-type(3)")
	waitUntil(b, `usherDemo.state === "denied"`)
	wantText(b, "#tokens [aria-current=true]", "mallory")
	if got := evaluate[string](b, "usherDemo.src"); got != "/single/a001/index.m3u8?token=mallory&x=1" {
		t.Errorf("as mallory: plays %q", got)
	}
	click(b, "#tokens a:nth-of-type(2)")
	waitUntil(b, advances)
	if got := evaluate[string](b, `new URLSearchParams(location.search).get("src")`); got != "/single/a001/index.m3u8?token=bob&x=1" {
		t.Errorf("as bob: the page's address plays %q", got)
	}
	if err := chromedp.Do(b.ctx, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	waitUntil(b, `usherDemo.state === "denied" && usherDemo.src.includes("mallory")`)
}

func TestPlayer_Kick(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("alice"))
	waitUntil(b, `usherDemo.state === "playing" && document.querySelector("#sessions tr.own") !== null`)
	click(b, `[aria-label="Kick bob"]`)
	waitUntil(b, `document.querySelector("#sessions-note").innerText !== ""`)
	wantText(b, "#sessions-note", "Kicked bob: 2 sessions ended.")
	if got := demo.kicked(); !slices.Equal(got, []Kick{{Session: bobsSession}}) {
		t.Errorf("kicks: got %v", got)
	}
	if !evaluate[bool](b, `document.querySelector('[aria-label="Kick mallory"]').disabled`) {
		t.Error("a denied viewer can be kicked")
	}
	click(b, `[aria-label="Kick alice"]`)
	waitUntil(b, `document.querySelector("#sessions-note").innerText.startsWith("Could not")`)
	wantText(b, "#sessions-note", "Could not kick alice: session: not found")
}

func TestPlayer_Kicked_SaysForHowLong(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("alice"))
	waitUntil(b, advances)
	denied := func(left time.Duration) func(*Status) {
		return func(s *Status) {
			s.Sessions[0].Verdict, s.Sessions[0].Source = "denied", "operator"
			s.Sessions[0].Reason = "ended by an operator: kicked on the demo's page"
			s.Sessions[0].RefusedUntil = s.Now.Add(left)
		}
	}
	demo.setRefusal("", "denied by operator") // the origin's URIs have no token
	demo.setChange(denied(7 * time.Second))
	waitUntil(b, `usherDemo.state === "denied" && document.querySelector("#overlay-text").innerText.includes("Decided")`)
	wantText(b, "#overlay-text", "The gateway ended the session of alice with 403: “denied by operator”. "+
		"Decided by an operator: kicked on the demo's page. Refused for 7 s more.")
	wantText(b, "#viewer", "alice denied by operator")
	wantText(b, "#sessions tr.own td", "denied by operator ended by an operator: kicked on the demo's page for 7 s more")
	saveScreenshot(b, "kicked")
	demo.setChange(denied(-time.Second))
	waitUntil(b, `document.querySelector("#overlay-text").innerText.endsWith("The refusal is over: try again.")`)
	demo.setChange(nil)
	waitUntil(b, `document.querySelector("#overlay-text").innerText.endsWith("They are allowed by backend now: try again.")`)
	wantText(b, "#viewer", "alice allowed by backend")
}

func TestPlayer_Failed_SaysWhy(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ src, want string }{
		"elsewhere":     {"https://elsewhere.example/index.m3u8", "Not allowed This page plays only playlists of its own host."},
		"no route":      {"/none/a001/index.m3u8?token=alice", "Playback stopped The gateway responded with 404: “no route serves this path and host”."},
		"no playlist":   {"/demo/player.css", "Playback stopped This is no playlist that the page can play."},
		"retried later": {viewerSource("late"), "Playback stopped The gateway responded with 503: “no answer yet”. Retrying automatically."},
	}
	demo := newFakeDemo(t)
	demo.setRefusal("late", "503 no answer yet")
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openTab(t, 1280, 800)
			openPage(b, demo, test.src)
			waitUntil(b, `usherDemo.state === "failed"`)
			if got := innerText(b, "#overlay-title") + " " + innerText(b, "#overlay-text"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if !strings.Contains(test.want, "Retrying") {
				return
			}
			waitUntil(b, `document.querySelector("#viewer").innerText.includes("503")`)
			wantText(b, "#viewer", "late got 503")
			wantText(b, "#why", "no answer yet")
			evaluate[bool](b, watchLiveRegions)
			waitUntil(b, fmt.Sprintf("usherDemo.fatal >= %d", evaluate[int](b, "usherDemo.fatal")+2))
			if got := evaluate[[]string](b, "writes"); len(got) > 0 {
				t.Errorf("a retry that fails as before is read out: %q", got)
			}
			demo.setRefusal("late", "")
			waitUntil(b, advances)
		})
	}
}

func TestPlayer_BrowsersOwnPlayer_SaysWhy(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	demo.isNative = true
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("mallory"))
	waitUntil(b, `usherDemo.state === "denied" && document.querySelector("#overlay-text").innerText.includes("Decided")`)
	wantText(b, "#overlay-text", "The gateway refused mallory with 403: “denied by backend”. Decided by the middleware: backend answered 403.")
	openPage(b, demo, "/none/a001/index.m3u8?token=alice")
	waitUntil(b, `usherDemo.state === "failed"`)
	wantText(b, "#overlay-text", "The gateway responded with 404: “no route serves this path and host”.")
}

func TestPlayer_Outage_SaysWhatPolicyDoes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ mode, onFailure, breaker, want string }{
		"allow":                      {"refuse", "allow", "open", "New viewers are admitted without a check."},
		"allow, errors, closed":      {"error", "allow", "closed", "New viewers get 503 until the breaker opens."},
		"keep":                       {"refuse", "keep", "open", "New viewers get 503 and may try again."},
		"deny":                       {"hang", "deny", "open", "New viewers are denied."},
		"healthy, and being checked": {"healthy", "allow", "closed", "The middleware has checked every session."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demo := newFakeDemo(t)
			demo.setMode(test.mode, false)
			demo.setChange(func(s *Status) {
				s.OnFailure, s.Breaker, s.Sessions = test.onFailure, test.breaker, s.Sessions[:1]
			})
			b := openTab(t, 1280, 800)
			openPage(b, demo, viewerSource("alice"))
			waitUntil(b, "usherDemo.statuses >= 1")
			wantText(b, "#detail", test.want)
			wantText(b, "#policy", "outage policy: "+test.onFailure)
		})
	}
}

func TestPlayer_BufferStrip_HasUnits(t *testing.T) {
	t.Parallel()
	demo := newFakeDemo(t)
	b := openTab(t, 1280, 800)
	openPage(b, demo, viewerSource("alice"))
	waitUntil(b, advances)
	wantText(b, "#strip figcaption", "buffer in seconds middleware healthy not healthy stall")
	wantText(b, "#plot-bottom", "0 s")
	wantText(b, "#plot-left", "2 min ago")
	wantText(b, "#plot-right", "now")
	scale := evaluate[float64](b, `parseFloat(document.querySelector("#plot-top").innerText)`)
	if buffer := evaluate[float64](b, `parseFloat(document.querySelector("#buffer").innerText)`); buffer <= 0 || buffer > scale {
		t.Errorf("a buffer of %v s, on a scale of %v s", buffer, scale)
	}
}
