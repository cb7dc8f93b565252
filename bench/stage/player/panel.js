// Shows the status of the gateway: the summary, the middleware, the breaker and the events.
import { byId, set, element, plural } from "./page.js";
import { isIdle } from "./sessions.js";

const modes = {
  healthy: { label: "Healthy", tone: "good", state: "is healthy", note: "It responds to every check." },
  refuse: { label: "Refuse", tone: "bad", state: "refuses connections", note: "It refuses every connection, like a stopped process." },
  hang: { label: "Hang", tone: "bad", state: "hangs", note: "It accepts checks and never responds." },
  error: { label: "Error 500", tone: "bad", state: "responds with 500", note: "It responds to every check with an error." },
};
const mode = (name) => modes[name] ?? { label: name, tone: "warn", state: `is in mode “${name}”`, note: `It is in mode “${name}”.` };

export function showStatus(status, sessions, onSwitch) {
  document.body.classList.remove("disconnected");
  showSummary(status, sessions);
  showModes(status.middleware ?? {}, onSwitch);
  showBreaker(status);
  showEvents(status.events ?? []);
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

// kickedShownFor is how long the result of a kick is shown.
const kickedShownFor = 10000; // ms
let kickedTimer = 0;

export function showKicked(text, isFailure) {
  const note = byId("sessions-note");
  note.dataset.tone = isFailure ? "bad" : "idle";
  set("sessions-note", text);
  clearTimeout(kickedTimer);
  kickedTimer = setTimeout(() => set("sessions-note", ""), kickedShownFor);
}

// countSessions counts each session once, as checked, cached, unchecked, pending or denied.
function countSessions(sessions, now) {
  const count = { total: sessions.length, checked: 0, cached: 0, unchecked: 0, pending: 0, denied: 0, watching: 0, idle: 0 };
  for (const s of sessions) {
    if (s.verdict !== "allowed") count[s.verdict]++;
    else if (s.source === "cached") count.cached++;
    else if (s.source === "fail-open" || s.source === "ticket") count.unchecked++;
    else count.checked++;
    if (s.verdict === "allowed") count[isIdle(s, now) ? "idle" : "watching"]++;
  }
  return count;
}

const are = (n) => (n === 1 ? "is" : "are");

// showSummary shows whether the viewers keep watching, and what the outage costs.
function showSummary(status, sessions) {
  const count = countSessions(sessions, Date.parse(status.now));
  for (const key of ["total", "checked", "cached", "unchecked", "pending", "denied"]) {
    set(key, String(count[key]));
    byId(key).parentElement.toggleAttribute("data-some", count[key] > 0);
  }
  const current = mode(status.middleware?.mode);
  const isDown = current.tone === "bad";
  const unverified = count.cached + count.unchecked;
  byId("summary").dataset.tone = current.tone === "good" && unverified === 0 ? "good" : "warn";
  const watching = count.watching === 0 ? "No viewer is watching."
    : `${plural(count.watching, "viewer")} ${are(count.watching)} ${isDown ? "still " : ""}watching.`;
  set("headline", `The middleware ${current.state}. ${watching}`);
  const details = [isDown ? outageDetail(count, status) : healthyDetail(count, unverified)];
  if (count.idle > 0) details.push(`${plural(count.idle, "session")} ${are(count.idle)} idle (no request for 10 s).`);
  set("detail", details.filter(Boolean).join(" "));
}

function healthyDetail(count, unverified) {
  if (unverified) return `${plural(unverified, "session")} will be re-checked shortly.`;
  if (count.pending) return `${plural(count.pending, "session")} ${are(count.pending)} being checked.`;
  if (count.total === 0) return "The first playlist request opens a session.";
  return count.checked ? "The middleware has checked every session." : "";
}

// outageDetail says whether the outage admitted anyone, and what its policy does to viewers who are new.
function outageDetail(count, status) {
  const admitted = `${plural(count.unchecked, "session")} ${count.unchecked === 1 ? "was" : "were"} admitted without a check.`;
  if (status.on_failure === "deny") return "New viewers are denied.";
  if (status.on_failure === "keep") return "New viewers get 503 and may try again.";
  if (count.unchecked) return admitted;
  if (status.middleware.mode === "error" && status.breaker === "closed") return "New viewers get 503 until the breaker opens.";
  return "New viewers are admitted without a check.";
}

function showModes(middleware, onSwitch) {
  set("calls", middleware.calls === undefined ? "" : `${plural(middleware.calls, "check")} received`);
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
        button.focus();
      });
      return button;
    }));
  }
  for (const button of group.children) button.setAttribute("aria-pressed", String(button.value === middleware.mode));
  if (!byId("modes-note").dataset.tone) set("modes-note", mode(middleware.mode).note);
}

function showBreaker(status) {
  set("policy", status.on_failure ? `outage policy: ${status.on_failure}` : "");
  for (const item of byId("breaker").children) {
    if (item.dataset.state === status.breaker) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  }
}

function showEvents(events) {
  const list = byId("events");
  const text = JSON.stringify(events);
  if (list.shownEvents === text) return;
  list.shownEvents = text;
  if (events.length === 0) {
    list.replaceChildren(element("li", { class: "empty" }, "No events yet."));
    return;
  }
  const newest = events.toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, 50);
  list.replaceChildren(...newest.map((e) => element("li", {},
    element("time", { datetime: e.at }, new Date(e.at).toTimeString().slice(0, 8)), element("span", {}, e.text),
    e.count > 1 ? element("b", {}, `× ${e.count}`) : undefined)));
}
