package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"usher/backends/backendtest"
	"usher/backends/backendtest/testproc"
)

// readToken is a bearer token that may only read.
const readToken = "a dashboard's token"

// pageSessions is how many sessions the node has whose page is driven.
const pageSessions = 10_000

// adminPage is the live page in a browser.
type adminPage struct {
	ctx context.Context

	mu       sync.Mutex
	problems []string
	expected []string // parts of problems that are none
}

// openAdminPage opens the page in a new tab. The test fails if the console gets an error, also one of the content security
// policy.
func openAdminPage(t *testing.T, address string, width, height int64) *adminPage {
	t.Helper()
	p := &adminPage{ctx: chromium.Tab(t, width, height)}
	note := func(problem string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.problems = append(p.problems, problem)
	}
	err := chromedp.Listen(p.ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			note(e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			note("console: " + string(e.Type))
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.EntryLevelError {
				note(e.Entry.Text + " " + e.Entry.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, problem := range p.problems {
			if !slices.ContainsFunc(p.expected, func(part string) bool { return strings.Contains(problem, part) }) {
				t.Errorf("the console has an error: %s", problem)
			}
		}
	})
	if err := chromedp.Do(p.ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("open the page: %v", err)
	}
	return p
}

// await waits until an expression in the page is true.
func (p *adminPage) await(t *testing.T, expression string) {
	t.Helper()
	eventually(t, waitTimeout, expression, func() error {
		isTrue, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err != nil {
			t.Fatalf("evaluate %s: %v", expression, err)
		}
		if !isTrue {
			text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText.slice(0, 1500)"))
			return fmt.Errorf("the page shows:\n%s", text)
		}
		return nil
	})
}

// click clicks what the selector finds.
func (p *adminPage) click(t *testing.T, selector string) {
	t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		t.Fatalf("click %s: %v", selector, err)
	}
}

// write types text where the selector finds a field.
func (p *adminPage) write(t *testing.T, selector, text string) {
	t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.SendKeys(chromedp.CSS(selector), text)); err != nil {
		t.Fatalf("write into %s: %v", selector, err)
	}
}

// run runs statements in the page, and waits for what they await.
func (p *adminPage) run(t *testing.T, statements string) {
	t.Helper()
	script := "(async () => {" + statements + "; return true; })()"
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)); err != nil {
		t.Fatalf("run %s: %v", statements, err)
	}
}

// login logs in by the form.
func (p *adminPage) login(t *testing.T, token string) {
	t.Helper()
	p.await(t, `document.querySelector("#token")`)
	p.write(t, "#token", token)
	p.click(t, "form.login button")
	p.await(t, `document.querySelector("#live")?.textContent === "live" && document.querySelector(".lights [data-key]")`)
}

// show shows a view, and waits until it is filled.
func (p *adminPage) show(t *testing.T, hash, filled string) {
	t.Helper()
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](fmt.Sprintf("(location.hash = %q, true)", hash))); err != nil {
		t.Fatal(err)
	}
	p.await(t, filled)
}

// scheme has the browser prefer a colour scheme, without motion.
func (p *adminPage) scheme(t *testing.T, scheme string) {
	t.Helper()
	features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}
	err := chromedp.Do(p.ctx, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
}

// picture saves a screenshot into the folder PAGE_PICTURES, if that is set.
func (p *adminPage) picture(t *testing.T, name string) {
	t.Helper()
	folder := os.Getenv("PAGE_PICTURES")
	if folder == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// axe returns the script that looks for what keeps people from using a page.
func axe(t *testing.T) string {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.Command("../../../deploy/axe.sh")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := testproc.Run(cmd); err != nil {
		t.Fatalf("fetch axe-core: %v\n%s", err, errs.String())
	}
	script, err := os.ReadFile(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// issue is what axe-core found.
type issue struct {
	ID, Impact, Help string
	Nodes            []string
}

// wantAccessible fails for every serious or critical issue.
func (p *adminPage) wantAccessible(t *testing.T, script, where string) {
	t.Helper()
	const run = `axe.run(document, { resultTypes: ["violations"] }).then((r) => r.violations
		.filter((v) => ["serious", "critical"].includes(v.impact))
		.map((v) => ({ ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.map((n) => n.html + " " + n.failureSummary) })))`
	issues, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]issue](
		"(async () => { if (!window.axe) {"+script+"}\nreturn "+run+"; })()", chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: run axe-core: %v", where, err)
	}
	for _, i := range issues {
		t.Errorf("%s: %s (%s): %s\n%s", where, i.ID, i.Impact, i.Help, strings.Join(i.Nodes, "\n"))
	}
}

// openPageSessions opens that many sessions, each of a user and at an address of its own.
func openPageSessions(t *testing.T, n *node, first, count int) {
	t.Helper()
	client := newClient(t, "127.0.0.1")
	numbers := make(chan int)
	var openers sync.WaitGroup
	for range 16 {
		openers.Go(func() {
			for i := range numbers {
				status, err := openAs(t, client, n, i)
				for tries := 1; status == http.StatusServiceUnavailable && tries < 10; tries++ { // a busy machine; players retry as well
					status, err = openAs(t, client, n, i)
				}
				if err != nil || status != http.StatusOK {
					t.Errorf("open session %d: %d, %v", i, status, err)
				}
			}
		})
	}
	for i := range count {
		numbers <- first + i
	}
	close(numbers)
	openers.Wait()
}

// openAs requests the playlist of a user by number, as from an address of their own.
func openAs(t *testing.T, client *http.Client, n *node, number int) (status int, err error) {
	address := fmt.Sprintf("%s/play/a001/index.m3u8?token=good-viewer-%05d", n.public, number)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", number/250, 1+number%250))
	resp, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// startPageNode starts a node with many sessions, and its middleware.
func startPageNode(t *testing.T, count int) (*node, *backendtest.Server) {
	t.Helper()
	m := startMiddleware(t)
	n := startNode(t, setup{
		origin: startStage(t, nil), middleware: m.URL(), sessions: "idle_timeout: 10m",
		api: `trace_url: "http://jaeger.example/search?tag={session}", tokens: [ { name: grafana, token: "` + readToken + `", role: read } ]`,
	})
	openPageSessions(t, n, 0, count)
	return n, m
}

func TestNode_LivePage_SearchTimelineKick(t *testing.T) {
	t.Parallel()
	n, _ := startPageNode(t, pageSessions)
	p := openAdminPage(t, n.admin+"/", 1280, 900)
	p.login(t, adminToken)
	p.await(t, `document.querySelector(".figure .value").textContent === "10,000"`)
	p.show(t, "#/sessions", `document.querySelectorAll("tbody tr").length === 50`)
	p.await(t, `document.querySelector(".summary").textContent === "1–50 of 10,000 matching, 10,000 in all"`)
	const viewer = 7777
	p.write(t, "input[type=search]", fmt.Sprintf("good-viewer-%05d", viewer))
	p.await(t, `document.querySelectorAll("tbody tr").length === 1 && document.querySelector("tbody a").textContent === "good-viewer-07777"`)
	p.click(t, "tbody a")
	p.await(t, `document.querySelector("h1").textContent === "good-viewer-07777" && document.querySelector(".facts").textContent.includes("198.18.31.28")`)
	p.await(t, `document.querySelector("tbody tr")?.textContent.includes("openingallowedbackendportal")`)
	p.await(t, `document.querySelector("main a[target=_blank]").href === "http://jaeger.example/search?tag=" + location.hash.split("/")[2]`)
	p.show(t, "#/sessions", `document.querySelectorAll("tbody tr").length === 1`)

	client := newClient(t, "127.0.0.1")
	if status, err := openAs(t, client, n, viewer); err != nil || status != http.StatusOK {
		t.Fatalf("before the kick: %d, %v", status, err)
	}
	const loads = `performance.getEntriesByType("navigation").length === 1 && document.querySelector("tbody tr")`
	p.await(t, loads+".dataset.verdict === 'allowed'")
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`(window.isSamePage = true)`)); err != nil {
		t.Fatal(err)
	}
	p.click(t, "tbody button")
	p.await(t, `document.querySelector("dialog .impact").textContent.includes("Hits 1 session from 1 address.")`)
	p.write(t, "dialog [name=reason]", "shared account")
	p.click(t, "dialog .danger")
	kicked := time.Now()
	eventually(t, waitTimeout, "the player is refused", func() error {
		status, err := openAs(t, client, n, viewer)
		if err == nil && status != http.StatusForbidden {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
	t.Logf("from the click to the player's 403: %v", time.Since(kicked).Round(time.Millisecond))
	p.await(t, `window.isSamePage && document.querySelector("tbody tr").dataset.verdict === "denied"`)
	p.await(t, `document.querySelector("tbody a").textContent === "good-viewer-07777"`)
	t.Logf("from the click to the changed row: %v", time.Since(kicked).Round(time.Millisecond))
	p.await(t, `!document.querySelector("dialog")`)
	wantAudit(t, n, "login", "kick")

	// What another operator does shows, too.
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`(document.querySelector("input[type=search]").select(), true)`)); err != nil {
		t.Fatal(err)
	}
	p.write(t, "input[type=search]", "good-viewer-0777") // which finds ten, or nine once the kicked one has ended
	p.await(t, `document.querySelectorAll("tbody tr").length >= 9`)
	other := n.sessions(t, "user=good-viewer-07771")[0].ID
	n.post(t, "sessions/"+other+"/kick", `{"reason":"by another"}`)
	p.await(t, `window.isSamePage && document.querySelector("tr[data-key='`+other+`']").dataset.verdict === "denied"`)
	banned := n.sessions(t, "user=good-viewer-07772")[0].ID
	n.post(t, "bans", `{"user":"good-viewer-07772","duration":"1h"}`)
	p.await(t, `window.isSamePage && document.querySelector("tr[data-key='`+banned+`']").dataset.verdict === "denied"`)
	p.click(t, "#logout")
	p.await(t, `document.querySelector("#token") && document.querySelector("#top").hidden`)
}

// TestNode_LivePage_ListGrows has a page that is full, and further sessions open while it is shown.
func TestNode_LivePage_ListGrows(t *testing.T) {
	t.Parallel()
	const full = 50
	n, _ := startPageNode(t, full)
	p := openAdminPage(t, n.admin+"/", 1280, 900)
	p.login(t, readToken)
	p.show(t, "#/sessions", `document.querySelector(".summary").textContent === "1–50 of 50 matching, 50 in all"`)
	const next = `document.querySelector(".paging").lastElementChild`
	p.await(t, next+".disabled")
	openPageSessions(t, n, full, 3)
	p.await(t, `document.querySelector(".summary").textContent === "1–50 of 53 matching, 53 in all" && !`+next+".disabled")
	p.click(t, ".paging button:last-child")
	p.await(t, `document.querySelector(".summary").textContent.startsWith("51–") && document.querySelector("tbody tr") && `+next+".disabled")
}

// TestNode_LivePage_LoginInAnotherTab has other tabs of the browser log in, which changes the cookie of all.
func TestNode_LivePage_LoginInAnotherTab(t *testing.T) {
	t.Parallel()
	n, _ := startPageNode(t, 3)
	p := openAdminPage(t, n.admin+"/", 1280, 900)
	p.expected = []string{"the server responded with a status of 403"}
	loginElsewhere := func(token string) {
		t.Helper()
		p.run(t, fmt.Sprintf(`await fetch("/ui/login", { method: "POST", body: new URLSearchParams({ token: %q }) })`, token))
	}
	p.login(t, adminToken)
	p.show(t, "#/sessions", `document.querySelectorAll("tbody button").length === 6`)
	loginElsewhere(adminToken)
	p.click(t, "tbody button")
	p.await(t, `document.querySelector("dialog .impact").textContent.includes("Hits 1 session from 1 address.")`)
	p.click(t, "dialog .danger")
	p.await(t, `!document.querySelector("dialog") && document.querySelectorAll("tr[data-verdict=denied]").length === 1`)

	loginElsewhere(readToken)
	p.click(t, "tbody button")
	p.await(t, `document.querySelector("#who").textContent === "grafana (read only)"`)
	p.await(t, `document.querySelectorAll("tbody tr").length === 3 && !document.querySelector("tbody button")`)
	p.click(t, "dialog button[type=button]")

	loginElsewhere(readToken)
	p.run(t, `window.realFetch = fetch; window.fetch = async () => { throw new Error("cut off"); }`)
	p.click(t, "#logout")
	p.await(t, `document.querySelector(".notice.bad").textContent.includes("You are still logged in: cut off") && !document.querySelector("#top").hidden`)
	p.picture(t, "logout-failed")
	p.run(t, `window.fetch = window.realFetch`)
	p.click(t, "#logout")
	p.await(t, `document.querySelector("#token") && document.querySelector("#top").hidden`)
	p.run(t, `window.me = await (await fetch("/ui/me")).json()`)
	p.await(t, `!window.me.name`)
}

// TestNode_LivePage_ClicksAndFailures_RowsOfSearch clicks twice before a page has loaded, and has nodes not respond.
func TestNode_LivePage_ClicksAndFailures_RowsOfSearch(t *testing.T) {
	t.Parallel()
	n, _ := startPageNode(t, 120)
	p := openAdminPage(t, n.admin+"/", 1280, 900)
	p.login(t, readToken)
	showsPage := func(rows string) {
		t.Helper()
		p.await(t, `document.querySelector(".summary").textContent === "`+rows+` of 120 matching, 120 in all"`)
	}
	p.show(t, "#/sessions", `document.querySelectorAll("tbody tr").length === 50`)
	p.run(t, `const next = document.querySelector(".paging").lastElementChild; next.click(); next.click()`)
	showsPage("51–100")
	p.run(t, `const previous = document.querySelector(".paging").firstElementChild; previous.click(); previous.click()`)
	showsPage("1–50")

	p.run(t, `window.realFetch = fetch; window.fetch = async (url, options) => {
		if (window.answer && url.startsWith(window.cut)) return window.answer();
		return window.realFetch(url, options);
	}; window.cut = "/api/v1/sessions?"; window.answer = () => { window.answer = null; throw new Error("cut off"); }`)
	p.write(t, "input[type=search]", "good-viewer-0007")
	p.await(t, `window.answer === null && document.querySelectorAll("tbody tr").length === 10`)
	p.await(t, `[...document.querySelectorAll("tbody a")].every((a) => a.textContent.startsWith("good-viewer-0007"))`)

	p.click(t, "tbody a")
	p.await(t, `document.querySelector(".facts .badge")?.textContent === "allowed"`)
	p.run(t, `window.cut = "/api/v1/sessions/lookup"; window.answer = () => Response.json({ sessions: [], unreachable_nodes: ["n2"] })`)
	p.await(t, `document.querySelector("[role=status].hint").textContent.includes("n2 did not respond")`)
	p.await(t, `document.querySelector(".facts .badge").textContent === "allowed"`)
	p.picture(t, "session-unknown")
	p.run(t, `window.answer = () => Response.json({ sessions: [] })`)
	p.await(t, `document.querySelector(".facts .badge").textContent === "ended"`)
}

// TestNode_LivePage_CrowdGrows_Kicked kicks a user who begins to watch at more addresses while the dialog is open.
func TestNode_LivePage_CrowdGrows_Kicked(t *testing.T) {
	t.Parallel()
	n, _ := startPageNode(t, 0)
	client := newClient(t, "127.0.0.1")
	watch := func(first, count int) {
		t.Helper()
		for i := range count {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.public+"/play/a001/index.m3u8?token=good-crowd", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.18.1.%d", first+i))
			resp, err := client.Do(r)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("open session %d: %v, %v", i, resp, err)
			}
			resp.Body.Close()
		}
	}
	watch(1, 25)
	p := openAdminPage(t, n.admin+"/", 1280, 900)
	p.expected = []string{"the server responded with a status of 409"}
	p.login(t, adminToken)
	p.show(t, "#/sessions", `document.querySelectorAll("tbody tr").length === 25`)
	p.click(t, "tbody button")
	hits := func(count int) {
		t.Helper()
		p.await(t, fmt.Sprintf(`document.querySelector("dialog .impact").textContent.includes("Hits %d sessions") && !document.querySelector("dialog .danger").disabled`, count))
		p.click(t, "dialog [type=checkbox]")
	}
	hits(25)
	watch(26, 30)
	p.run(t, `window.realFetch = fetch; window.fetch = async (url, options) => {
		if (options?.body?.includes("dry_run")) throw new Error("cut off");
		return window.realFetch(url, options);
	}`)
	p.click(t, "dialog .danger") // which counts anew, and cannot
	p.await(t, `["nothing is done", "cut off"].every((reason) => document.querySelector("dialog [role=alert]").textContent.includes(reason))`)
	p.picture(t, "kick-uncounted")
	p.run(t, `window.fetch = window.realFetch`)
	p.click(t, "dialog button[type=button]")
	p.await(t, `!document.querySelector("dialog")`)

	p.click(t, "tbody button")
	hits(55)
	watch(56, 30)
	p.click(t, "dialog .danger")
	hits(85)
	p.await(t, `document.querySelector("dialog [role=alert]").textContent.endsWith("nothing is done.")`)
	p.picture(t, "kick-grown")
	watch(86, 1)
	p.click(t, "dialog .danger")
	p.await(t, `!document.querySelector("dialog") && document.querySelector("#notices").textContent.includes("Kicked 86 sessions")`)
}

// post calls an operation of the admin API.
func (n *node) post(t *testing.T, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.admin+"/api/v1/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := n.client.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %v", path, resp, err)
	}
	resp.Body.Close()
}

// focus is an element that has the focus of the keyboard.
type focus struct {
	Key     string // another one for each element
	Outline string
}

// focused returns what has the focus. Elements get keys in the order in which they had it.
const focused = `(() => {
	const e = document.activeElement, style = getComputedStyle(e);
	e.focusKey ??= String(window.focusKeys = (window.focusKeys ?? 0) + 1);
	return { Key: e === document.body ? "" : e.focusKey + " " + e.tagName, Outline: style.outlineStyle + " " + style.outlineWidth };
})()`

func TestNode_LivePage_Keyboard(t *testing.T) {
	t.Parallel()
	n, _ := startPageNode(t, 3)
	p := openAdminPage(t, n.admin+"/#/sessions", 1280, 900)
	press := func(keys string) {
		t.Helper()
		if err := chromedp.Do(p.ctx, chromedp.KeyEvent(keys)); err != nil {
			t.Fatal(err)
		}
	}
	p.await(t, `document.activeElement.id === "token"`)
	press(adminToken + "\r")
	p.await(t, `document.querySelectorAll("tbody tr").length === 3`)
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`(document.activeElement.blur(), document.querySelector(".skip").focus(), true)`)); err != nil {
		t.Fatal(err)
	}
	const reachable = `[...document.querySelectorAll("a, button, input, select")].filter((e) => e.checkVisibility() && !e.disabled).length`
	want, err := chromedp.Run(p.ctx, chromedp.Evaluate[int](reachable))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for {
		f, err := chromedp.Run(p.ctx, chromedp.Evaluate[focus](focused))
		if err != nil {
			t.Fatal(err)
		}
		if f.Key == "" || seen[f.Key] {
			break
		}
		if seen[f.Key] = true; !strings.HasPrefix(f.Outline, "solid 3px") {
			t.Errorf("%s has the outline %q", f.Key, f.Outline)
		}
		press("\t")
	}
	if len(seen) != want {
		t.Errorf("the key Tab reaches %d elements, want %d: %v", len(seen), want, seen)
	}
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`(document.querySelector("tbody button").focus(), true)`)); err != nil {
		t.Fatal(err)
	}
	press("\r")
	p.await(t, `document.querySelector("dialog[open] .impact")?.textContent.includes("Hits 1 session")`)
	press("\u001b") // Escape
	p.await(t, `!document.querySelector("dialog") && document.activeElement.textContent === "Kick"`)
	press("\r")
	p.await(t, `document.querySelector("dialog[open] .impact")?.textContent.includes("Hits 1 session")`)
	press("\t") // from the duration to the reason
	press("shared\r")
	p.await(t, `!document.querySelector("dialog") && document.querySelectorAll("tr[data-verdict=denied]").length === 1`)
}

func TestNode_LivePage_RoleRead_NoButtons(t *testing.T) {
	t.Parallel()
	n, _ := startPageNode(t, 3)
	p := openAdminPage(t, n.admin+"/", 1280, 900)
	p.login(t, readToken)
	p.await(t, `document.querySelector("#who").textContent === "grafana (read only)"`)
	id := n.sessions(t, "")[0].ID
	n.post(t, "bans", `{"user":"nobody","duration":"1h"}`)
	for hash, filled := range map[string]string{
		"#/sessions": `document.querySelectorAll("tbody tr").length === 3`, "#/sessions/" + id: `document.querySelector(".facts div")`,
		"#/backends": `document.querySelector(".backends .card")`, "#/bans": `document.querySelector("tbody tr")`,
	} {
		p.show(t, hash, filled)
		p.await(t, `[...document.querySelectorAll("main button")].every((b) => ["Search", "Previous", "Next"].includes(b.textContent))`)
	}
}

// wantAudit fails unless the log has an audit record of each action by the token "admin".
func wantAudit(t *testing.T, n *node, actions ...string) {
	t.Helper()
	for _, action := range actions {
		isFound := false
		for line := range strings.Lines(n.errs.String()) {
			var record struct{ Msg, Action, Actor, Result string }
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "audit" && record.Action == action {
				isFound = record.Actor == "admin" && record.Result == "done"
			}
		}
		if !isFound {
			t.Errorf("the log has no audit record of %s by admin", action)
		}
	}
	if strings.Contains(n.errs.String(), adminToken) {
		t.Error("the log has the token")
	}
}

func TestNode_LivePage_Accessible(t *testing.T) {
	t.Parallel()
	script := axe(t)
	n, m := startPageNode(t, 200)
	setMode(t, m, backendtest.Refuse())
	openPageSessions(t, n, 1000, 40) // an outage
	n.awaitBreaker(t, "open")
	n.post(t, "bans", `{"user":"good-viewer-00003","duration":"24h","reason":"shared account"}`)
	id := n.sessions(t, "user=good-viewer-00002")[0].ID
	views := []struct{ name, hash, filled string }{
		{"overview", "#/overview", `document.querySelector(".lights [data-key] svg rect")`},
		{"sessions", "#/sessions", `document.querySelectorAll("tbody tr").length === 50`},
		{"session", "#/sessions/" + id, `document.querySelector(".facts div")`},
		{"backends", "#/backends", `document.querySelector(".backends .badge")?.textContent !== "closed"`},
		{"nodes", "#/nodes", `document.querySelector("tbody tr")`},
		{"bans", "#/bans", `document.querySelector("tbody tr")`},
		{"free-rides", "#/free-rides", `document.querySelector("tbody tr")`},
	}
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1280, 900}, {"phone", 375, 812}} {
		p := openAdminPage(t, n.admin+"/", size.width, size.height)
		p.await(t, `document.querySelector("#token")`)
		for _, scheme := range []string{"light", "dark"} {
			p.scheme(t, scheme)
			p.wantAccessible(t, script, fmt.Sprintf("login, %s, %s", size.name, scheme))
			p.picture(t, fmt.Sprintf("login-%s-%s", size.name, scheme))
		}
		p.login(t, adminToken)
		for _, v := range views {
			p.show(t, v.hash, v.filled)
			for _, scheme := range []string{"light", "dark"} {
				p.scheme(t, scheme)
				p.wantAccessible(t, script, fmt.Sprintf("%s, %s, %s", v.name, size.name, scheme))
				p.await(t, "document.documentElement.scrollWidth <= innerWidth")
				p.await(t, `[...document.querySelectorAll(".facts dd")].every((value) => value.offsetWidth >= 100)`)
				p.picture(t, fmt.Sprintf("%s-%s-%s", v.name, size.name, scheme))
			}
		}
		p.show(t, "#/sessions", `document.querySelector("tbody button")`)
		for name, button := range map[string]string{"kick": "tbody button", "ban": "tbody button + button"} {
			p.click(t, button)
			p.await(t, `document.querySelector("dialog .impact").textContent.includes("Hits")`)
			for _, scheme := range []string{"light", "dark"} {
				p.scheme(t, scheme)
				p.wantAccessible(t, script, fmt.Sprintf("%s, %s, %s", name, size.name, scheme))
				p.picture(t, fmt.Sprintf("%s-%s-%s", name, size.name, scheme))
			}
			p.click(t, "dialog button[type=button]")
			p.await(t, `!document.querySelector("dialog")`)
		}
	}
}
