// Shows what the gateway says. Whatever comes from outside is set as text, never as markup.

const byId = (id) => document.getElementById(id);
const set = (id, text) => { byId(id).textContent = text; };

// element makes an element of text and children; undefined ones are left out.
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

const modes = {
  healthy: { label: "Healthy", tone: "good", says: "answers", note: "It answers every question." },
  refuse: { label: "Refuse", tone: "bad", says: "refuses connections", note: "Every connection is refused: the process is dead." },
  hang: { label: "Hang", tone: "bad", says: "hangs", note: "It takes questions and never answers." },
  error: { label: "Error 500", tone: "bad", says: "answers 500", note: "It answers every question with an error." },
};
const mode = (name) => modes[name] ?? { label: name, tone: "warn", says: `is in mode “${name}”`, note: "" };

// viewerOf reads channel and token from a source, to find the page's own session in the list.
export function viewerOf(src) {
  try {
    const url = new URL(src, location.href);
    const channel = url.pathname.split("/").filter((part) => !/^(~|%7e)/i.test(part))[2] ?? "";
    return { channel: decodeURIComponent(channel), user: url.searchParams.get("token") ?? "" };
  } catch {
    return { channel: "", user: "" };
  }
}

function mine(sessions, viewer) {
  const here = sessions.filter((s) => s.channel === viewer.channel);
  return here.find((s) => viewer.user && s.user === viewer.user) ?? (here.length === 1 ? here[0] : undefined);
}

function tone(session) {
  if (session.verdict === "denied") return "bad";
  if (session.verdict !== "allowed") return "idle";
  return ["fail-open", "cached", "ticket"].includes(session.source) ? "warn" : "good";
}

function badge(session, said = session.verdict === "allowed" ? session.source : `${session.verdict} · ${session.source}`) {
  return element("span", { class: "badge", "data-tone": tone(session) }, said);
}

export function showStatus(status, viewer, onSwitch) {
  const sessions = status.sessions ?? [];
  const me = mine(sessions, viewer);
  document.body.classList.remove("lost");
  showAnswer(status, sessions);
  showModes(status.middleware ?? {}, onSwitch);
  showBreaker(status.breaker);
  showSessions(sessions, me);
  showEvents(status.events ?? []);
  byId("mine").replaceChildren(...(me ? [me.user || "unnamed", " ", badge(me, me.verdict === "allowed" ? me.source : me.verdict)] : ["no session yet"]));
  set("session", me ? me.id : "–");
  byId("session").title = me ? me.id : "";
}

export function showLost() {
  document.body.classList.add("lost");
  byId("answer").dataset.tone = "idle";
  set("headline", "Lost contact with the demo.");
  set("price", "Its status cannot be read. What stands below is old; asking again each second.");
}

export function showSwitchFailed(name, why) {
  byId("modes-note").dataset.tone = "bad";
  set("modes-note", `Could not switch to “${mode(name).label}”: ${why}`);
}

function tally(sessions) {
  const allowed = sessions.filter((s) => s.verdict === "allowed");
  const by = (...sources) => allowed.filter((s) => sources.includes(s.source)).length;
  const free = by("fail-open");
  const kept = by("cached", "ticket");
  const refused = sessions.filter((s) => s.verdict === "denied").length;
  return { watching: allowed.length, checked: allowed.length - free - kept, kept, free, refused };
}

const people = (n) => (n === 1 ? "1 viewer" : `${n} viewers`);

// showAnswer answers the operator's question: do my viewers keep watching, and what does it cost?
function showAnswer(status, sessions) {
  const count = tally(sessions);
  for (const key of ["checked", "kept", "free", "refused"]) {
    set(key, String(count[key]));
    byId(key).parentElement.toggleAttribute("data-some", count[key] > 0);
  }
  const now = mode(status.middleware?.mode);
  const dead = now.tone === "bad";
  const unsure = count.kept + count.free;
  byId("answer").dataset.tone = !dead && unsure === 0 ? "good" : "warn";
  if (!dead) {
    set("headline", `The middleware answers. ${count.watching ? people(count.watching) + (count.watching === 1 ? " watches." : " watch.") : "Nobody watches yet."}`);
    set("price", unsure ? `${people(unsure)} of the outage will be asked about again in a moment.` : "Every one of them was checked. Nobody rides for free.");
    if (count.watching === 0) set("price", "The first playlist that is asked for opens a session.");
    return;
  }
  set("headline", `The middleware ${now.says}. ${count.watching ? people(count.watching) + (count.watching === 1 ? " keeps watching." : " keep watching.") : "Nobody watches."}`);
  set("price", price(count));
}

function price(count) {
  if (count.free) return `The price so far: ${people(count.free)} let in whom nobody could check.`;
  if (count.kept) return "The price so far: nothing. Those who watch were let in by the middleware's last answer.";
  if (count.watching) return "The price so far: nothing. Nobody has come up for a new check yet.";
  return "New viewers will be let in unchecked until it is back.";
}

function showModes(middleware, onSwitch) {
  set("calls", middleware.calls === undefined ? "" : `asked ${middleware.calls.toLocaleString("en")} times`);
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
  if (!byId("modes-note").dataset.tone) set("modes-note", mode(middleware.mode).note || "Break it and watch the picture.");
}

function showBreaker(state) {
  for (const item of byId("breaker").children) {
    if (item.dataset.state === state) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  }
}

// listed bounds the list; the page's own session comes first, then those that nobody has checked.
const listed = 100;

function showSessions(sessions, me) {
  set("session-count", sessions.length ? String(sessions.length) : "");
  if (sessions.length === 0) {
    byId("sessions").replaceChildren(element("tr", {}, element("td", { colspan: 4, class: "empty" }, "Nobody has asked for a playlist yet.")));
    return;
  }
  const rank = (s) => (s === me ? 0 : { warn: 1, bad: 2, idle: 3, good: 4 }[tone(s)]);
  const first = sessions.toSorted((a, b) => rank(a) - rank(b)).slice(0, listed);
  byId("sessions").replaceChildren(...first.map((s) => element("tr", { class: s === me ? "me" : undefined, title: s.id },
    element("td", { class: "viewer" }, element("b", {}, s.user || "unnamed"), element("span", {}, ` ${s.channel}`)),
    element("td", {}, badge(s)),
    element("td", { class: "number" }, age(s.since)),
    element("td", { class: "number" }, size(s.bytes)))));
}

function showEvents(events) {
  if (events.length === 0) {
    byId("events").replaceChildren(element("li", { class: "empty" }, "Nothing has happened yet."));
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
