// Shows the status of the gateway. Data from outside is set as text, never as markup.

const byId = (id) => document.getElementById(id);
const set = (id, text) => { byId(id).textContent = text; };

// element creates an element with attributes and children; undefined ones are omitted.
function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined));
  return node;
}

const modes = {
  healthy: { label: "Healthy", tone: "good", state: "is healthy", note: "It responds to every check." },
  refuse: { label: "Refuse", tone: "bad", state: "refuses connections", note: "It refuses every connection, like a stopped process." },
  hang: { label: "Hang", tone: "bad", state: "hangs", note: "It accepts checks and never responds." },
  error: { label: "Error 500", tone: "bad", state: "responds with 500", note: "It responds to every check with an error." },
};
const mode = (name) => modes[name] ?? { label: name, tone: "warn", state: `is in mode “${name}”`, note: "" };

// viewerOf returns the channel and token of a source, to find the page's own session in the list.
export function viewerOf(src) {
  try {
    const url = new URL(src, location.href);
    const channel = url.pathname.split("/").filter((part) => !/^(~|%7e)/i.test(part))[2] ?? "";
    return { channel: decodeURIComponent(channel), user: url.searchParams.get("token") ?? "" };
  } catch {
    return { channel: "", user: "" };
  }
}

function ownSession(sessions, viewer) {
  const ofChannel = sessions.filter((s) => s.channel === viewer.channel);
  return ofChannel.find((s) => viewer.user && s.user === viewer.user) ?? (ofChannel.length === 1 ? ofChannel[0] : undefined);
}

function tone(session) {
  if (session.verdict === "denied") return "bad";
  if (session.verdict !== "allowed") return "idle";
  return ["fail-open", "cached", "ticket"].includes(session.source) ? "warn" : "good";
}

function badge(session, label = session.verdict === "allowed" ? session.source : `${session.verdict} · ${session.source}`) {
  return element("span", { class: "badge", "data-tone": tone(session) }, label);
}

export function showStatus(status, viewer, onSwitch) {
  const sessions = status.sessions ?? [];
  const own = ownSession(sessions, viewer);
  document.body.classList.remove("disconnected");
  showSummary(status, sessions);
  showModes(status.middleware ?? {}, onSwitch);
  showBreaker(status.breaker);
  showSessions(sessions, own);
  showEvents(status.events ?? []);
  byId("viewer").replaceChildren(...(own ? [own.user || "anonymous", " ", badge(own, own.verdict === "allowed" ? own.source : own.verdict)] : ["no session yet"]));
  set("session", own ? own.id : "–");
  byId("session").title = own ? own.id : "";
}

export function showDisconnected() {
  document.body.classList.add("disconnected");
  byId("summary").dataset.tone = "idle";
  set("headline", "The connection to the demo is lost.");
  set("detail", "The status below is out of date. Retrying every second.");
}

export function showSwitchFailed(name, reason) {
  byId("modes-note").dataset.tone = "bad";
  set("modes-note", `Could not switch to “${mode(name).label}”: ${reason}`);
}

function countSessions(sessions) {
  const allowed = sessions.filter((s) => s.verdict === "allowed");
  const bySource = (...sources) => allowed.filter((s) => sources.includes(s.source)).length;
  const unchecked = bySource("fail-open");
  const cached = bySource("cached", "ticket");
  const denied = sessions.filter((s) => s.verdict === "denied").length;
  return { watching: allowed.length, checked: allowed.length - unchecked - cached, cached, unchecked, denied };
}

const viewers = (n) => (n === 1 ? "1 viewer" : `${n} viewers`);
const are = (n) => (n === 1 ? "is" : "are");

// showSummary shows whether the viewers keep watching, and what the outage costs.
function showSummary(status, sessions) {
  const count = countSessions(sessions);
  for (const key of ["checked", "cached", "unchecked", "denied"]) {
    set(key, String(count[key]));
    byId(key).parentElement.toggleAttribute("data-some", count[key] > 0);
  }
  const current = mode(status.middleware?.mode);
  const isDown = current.tone === "bad";
  const unverified = count.cached + count.unchecked;
  byId("summary").dataset.tone = !isDown && unverified === 0 ? "good" : "warn";
  const watching = count.watching === 0 ? "No viewer is watching."
    : `${viewers(count.watching)} ${are(count.watching)} ${isDown ? "still " : ""}watching.`;
  set("headline", `The middleware ${current.state}. ${watching}`);
  set("detail", isDown ? outageDetail(count) : healthyDetail(count, unverified));
}

function healthyDetail(count, unverified) {
  if (count.watching === 0) return "The first playlist request opens a session.";
  if (unverified) return `${viewers(unverified)} will be re-checked shortly.`;
  return "The middleware has checked every viewer.";
}

function outageDetail(count) {
  if (count.unchecked) return `${viewers(count.unchecked)} ${count.unchecked === 1 ? "was" : "were"} admitted without a check.`;
  if (count.cached) return `${viewers(count.cached)} ${are(count.cached)} watching on the last decision. No viewer was admitted without a check.`;
  if (count.watching) return "No viewer has needed a new check yet.";
  return "New viewers will be admitted without a check until the middleware has recovered.";
}

function showModes(middleware, onSwitch) {
  set("calls", middleware.calls === undefined ? "" : `${middleware.calls.toLocaleString("en")} ${middleware.calls === 1 ? "check" : "checks"}`);
  const group = byId("modes");
  const names = middleware.modes ?? [];
  if (group.dataset.names !== names.join()) {
    group.dataset.names = names.join();
    group.replaceChildren(...names.map((name) => {
      const button = element("button", { type: "button", value: name, title: mode(name).note, "data-tone": mode(name).tone }, mode(name).label);
      button.addEventListener("click", async () => {
        delete byId("modes-note").dataset.tone;
        group.querySelectorAll("button").forEach((b) => { b.disabled = true; });
        await onSwitch(name);
        group.querySelectorAll("button").forEach((b) => { b.disabled = false; });
      });
      return button;
    }));
  }
  for (const button of group.children) button.setAttribute("aria-pressed", String(button.value === middleware.mode));
  if (!byId("modes-note").dataset.tone) set("modes-note", mode(middleware.mode).note || "Choose how the middleware behaves, and watch the picture.");
}

function showBreaker(state) {
  for (const item of byId("breaker").children) {
    if (item.dataset.state === state) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  }
}

// maxListed bounds the list. The page's own session comes first, then the unverified ones.
const maxListed = 100;

function showSessions(sessions, own) {
  set("session-count", sessions.length ? String(sessions.length) : "");
  if (sessions.length === 0) {
    byId("sessions").replaceChildren(element("tr", {}, element("td", { colspan: 4, class: "empty" }, "No sessions yet.")));
    return;
  }
  const rank = (s) => (s === own ? 0 : { warn: 1, bad: 2, idle: 3, good: 4 }[tone(s)]);
  const first = sessions.toSorted((a, b) => rank(a) - rank(b)).slice(0, maxListed);
  byId("sessions").replaceChildren(...first.map((s) => element("tr", { class: s === own ? "own" : undefined, title: s.id },
    element("td", { class: "viewer" }, element("b", {}, s.user || "anonymous"), element("span", {}, ` ${s.channel}`)),
    element("td", {}, badge(s)),
    element("td", { class: "number" }, age(s.since)),
    element("td", { class: "number" }, size(s.bytes)))));
}

function showEvents(events) {
  if (events.length === 0) {
    byId("events").replaceChildren(element("li", { class: "empty" }, "No events yet."));
    return;
  }
  const newest = events.toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, 50);
  byId("events").replaceChildren(...newest.map((e) => element("li", {},
    element("time", { datetime: e.at }, new Date(e.at).toTimeString().slice(0, 8)), element("span", {}, e.text))));
}

function age(since) {
  const s = Math.max(0, Math.round((Date.now() - Date.parse(since)) / 1000));
  if (Number.isNaN(s)) return "–";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  return `${Math.floor(s / 3600)} h`;
}

function size(bytes) {
  if (!(bytes >= 1000)) return `${bytes ?? 0} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
