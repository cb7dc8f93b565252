package stage

import (
	"fmt"
	"strings"
	"testing"
)

// widths are of a small phone, a phone, a tablet and a desktop.
func widths() []int64 { return []int64{320, 390, 768, 1024, 1280} }

// layoutFaults lists what is wider than its box. Text that ends in an ellipsis has the whole of it as its title.
const layoutFaults = `(() => {
	const faults = [];
	if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is " + document.documentElement.scrollWidth + " pixels wide");
	for (const e of document.querySelectorAll("body *:not(.unseen, .scroll)")) {
		if (!e.checkVisibility() || e.tagName === "INPUT" || e.scrollWidth <= e.clientWidth + 1) continue;
		const style = getComputedStyle(e);
		if (style.display === "inline" || style.textOverflow === "ellipsis" && (e.title || e.querySelector("[title]"))) continue;
		faults.push([e.tagName, e.id, e.className, e.textContent.slice(0, 40), e.scrollWidth + " > " + e.clientWidth].join(" "));
	}
	return faults;
})()`

// smallTargets lists the controls that are hard to touch.
const smallTargets = `[...document.querySelectorAll("a, button, input")].filter((e) => e.checkVisibility())
	.map((e) => [e, e.getBoundingClientRect()]).filter(([, r]) => r.width < 44 || r.height < 44)
	.map(([e, r]) => (e.id || e.getAttribute("aria-label") || e.textContent) + " " + r.width + " × " + r.height)`

func TestPlayer_FitsEveryWidth(t *testing.T) {
	t.Parallel()
	for _, width := range widths() {
		for _, token := range []string{"alice", longToken + longToken} {
			t.Run(fmt.Sprintf("%d %.5s", width, token), func(t *testing.T) {
				t.Parallel()
				demo := newFakeDemo(t)
				demo.setRefusal(longToken+longToken, "denied by backend, which says so in a sentence of more than a few words")
				demo.setMode("hang", false)
				b := openTab(t, width, 844)
				openPage(b, demo, viewerSource(token))
				waitUntil(b, `["playing", "denied"].includes(usherDemo.state) && document.querySelector("#sessions .badge") !== null`)
				waitStatuses(b, 1)
				if faults := evaluate[[]string](b, layoutFaults); len(faults) > 0 {
					t.Errorf("too wide:\n%s", strings.Join(faults, "\n"))
				}
				if small := evaluate[[]string](b, smallTargets); width < 900 && len(small) > 0 {
					t.Errorf("smaller than 44 × 44 pixels:\n%s", strings.Join(small, "\n"))
				}
				if token != "alice" {
					const cut = `(() => { const button = document.querySelector("#retry").getBoundingClientRect();
						return button.bottom - document.querySelector("#picture").getBoundingClientRect().bottom; })()`
					if below := evaluate[float64](b, cut); below > 0 {
						t.Errorf("the button is cut by %v pixels", below)
					}
				}
				saveScreenshot(b, fmt.Sprintf("width %d, %.5s", width, token))
			})
		}
	}
}

// faintTexts lists the texts whose contrast is below 4.5, and the borders of controls below 3, with WCAG's formula.
const faintTexts = `(() => {
	const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
	const pixel = () => [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
	const fill = (colour) => { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); };
	const paint = (node) => {
		if (node.parentElement) paint(node.parentElement);
		fill(getComputedStyle(node).backgroundColor);
	};
	const luminance = (rgb) => rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const contrast = (behind, colour) => {
		paint(behind);
		const back = luminance(pixel());
		fill(colour);
		const front = luminance(pixel());
		return (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
	};
	const faults = [];
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement;
		if (!texts.currentNode.data.trim() || !e.checkVisibility() || e.closest(":disabled, .unseen")) continue;
		const c = contrast(e, getComputedStyle(e).color);
		if (c < 4.5) faults.push(c.toFixed(1) + " " + texts.currentNode.data);
	}
	for (const e of document.querySelectorAll("a, button:enabled, input")) {
		const c = e.checkVisibility() ? contrast(e.parentElement, getComputedStyle(e).borderTopColor) : 3;
		if (c < 3) faults.push(c.toFixed(1) + " border of " + (e.id || e.textContent));
	}
	return faults;
})()`

func TestPlayer_HasContrast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ mode, token string }{
		"healthy": {"healthy", "alice"}, "outage": {"refuse", "alice"}, "denied": {"healthy", "mallory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demo := newFakeDemo(t)
			demo.setMode(test.mode, false)
			b := openTab(t, 1280, 800)
			openPage(b, demo, viewerSource(test.token))
			waitUntil(b, `["playing", "denied"].includes(usherDemo.state)`)
			waitStatuses(b, 1)
			if faint := evaluate[[]string](b, faintTexts); len(faint) > 0 {
				t.Errorf("faint:\n%s", strings.Join(faint, "\n"))
			}
		})
	}
}

// unnamed lists what a screen reader or a keyboard reaches and cannot name.
const unnamed = `[...document.querySelectorAll("a, button, input, video, canvas, [role=group], [role=region], [tabindex], main section")]
	.filter((e) => e.checkVisibility()).filter((e) => {
		const labels = [...(e.labels ?? [])].filter((l) => l.checkVisibility());
		const by = (e.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => id && document.getElementById(id)?.textContent);
		const own = ["A", "BUTTON"].includes(e.tagName) ? e.textContent : "";
		return !(e.getAttribute("aria-label") || by.join("") || labels.map((l) => l.textContent).join("") || own).trim();
	}).map((e) => e.outerHTML.slice(0, 80))`

// watchLiveRegions has window.writes list what is written from now on where screen readers read it out.
const watchLiveRegions = `(() => {
	window.writes = [];
	const observer = new MutationObserver((all) => writes.push(...all.map((m) => (m.target.id || m.target.parentElement?.id) + m.type)));
	for (const live of document.querySelectorAll("[aria-live], [role=status]"))
		observer.observe(live, { childList: true, characterData: true, subtree: true });
	return true;
})()`

func TestPlayer_ScreenReaderAndKeyboard(t *testing.T) {
	t.Parallel()
	for _, width := range widths() {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			demo := newFakeDemo(t)
			b := openTab(t, width, 844)
			openPage(b, demo, viewerSource("alice"))
			waitUntil(b, `usherDemo.state === "playing" && document.querySelector("#sessions tr.own") !== null`)
			waitStatuses(b, 1)
			if got := evaluate[[]string](b, unnamed); len(got) > 0 {
				t.Errorf("without a name:\n%s", strings.Join(got, "\n"))
			}
			if got := evaluate[int](b, `document.querySelectorAll("#sessions th[scope=row]").length`); got != 5 {
				t.Errorf("%d rows have a header, want 5", got)
			}
			// A live region that is written is read out, and a button that is replaced loses the focus.
			evaluate[bool](b, watchLiveRegions)
			evaluate[bool](b, `(document.querySelector('[aria-label="Kick bob"]').focus(), true)`)
			waitStatuses(b, 3)
			if got := evaluate[[]string](b, "writes"); len(got) > 0 {
				t.Errorf("read out without a change: %q", got)
			}
			if got := evaluate[string](b, `document.activeElement.getAttribute("aria-label") ?? document.activeElement.tagName`); got != "Kick bob" {
				t.Errorf("the focus is on %s", got)
			}
			demo.setMode("refuse", false)
			waitUntil(b, `writes.some((w) => w.startsWith("headline")) && writes.some((w) => w.startsWith("announcement"))`)
		})
	}
}
