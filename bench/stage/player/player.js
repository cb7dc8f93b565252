// Connects the player, the status of the gateway and the history.
import { byId, element, plural } from "./page.js";
import { Playback } from "./playback.js";
import { History } from "./history.js";
import { Viewer } from "./viewer.js";
import { showSessions } from "./sessions.js";
import { showStatus, showDisconnected, showSwitchFailed, showKicked } from "./panel.js";

const statusInterval = 1000; // ms

const sourceInput = byId("src");
const playback = new Playback(byId("video"), byId("picture"));
const history = new History(byId("history"));
const viewer = new Viewer();
let status = null;

// Tests and the browser's console read the facts.
window.usherDemo = playback.facts;

playback.onRefused = fetchStatus; // which says by whom and why

function play(src) {
  sourceInput.value = src;
  playback.play(src);
  if (status) status.own = ""; // it is the session of the source before
  show();
}

// visit plays a source and makes it the page's address.
function visit(src) {
  window.history.pushState(null, "", "?src=" + encodeURIComponent(src));
  play(src);
}

function sourceFromURL() {
  return new URLSearchParams(location.search).get("src");
}

byId("address").addEventListener("submit", (event) => {
  event.preventDefault();
  const src = sourceInput.value.trim();
  if (src !== "") visit(src);
});
window.addEventListener("popstate", () => play(sourceFromURL() ?? status?.src ?? ""));
byId("retry").addEventListener("click", () => play(playback.facts.src));

// withToken returns the source with another viewer's token. A ticket belongs to one viewer, so the default replaces it.
function withToken(src, token) {
  let url;
  try {
    url = new URL(src, location.href);
  } catch {
    url = null;
  }
  if (!url || url.origin !== location.origin || /^\/(~|%7e)/i.test(url.pathname)) url = new URL(status.src, location.href);
  url.searchParams.set("token", token);
  return url.pathname + url.search;
}

// showTokens shows a link for each viewer that the page offers to watch as.
function showTokens() {
  const group = byId("tokens");
  const tokens = status.tokens ?? [];
  if (group.dataset.names !== tokens.join()) {
    group.dataset.names = tokens.join();
    group.querySelectorAll("a").forEach((link) => link.remove());
    group.append(...tokens.map((token) => {
      const link = element("a", {}, token);
      link.addEventListener("click", (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return; // opens a tab
        event.preventDefault();
        visit(withToken(playback.facts.src, token));
      });
      return link;
    }));
  }
  const present = new URLSearchParams(playback.facts.src.split("?")[1]).get("token");
  group.querySelectorAll("a").forEach((link, i) => {
    link.href = "?src=" + encodeURIComponent(withToken(playback.facts.src, tokens[i]));
    if (tokens[i] === present) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
}

// show writes the last status and the state of the playback to the page.
function show() {
  if (!status) return;
  const sessions = viewer.update(status, playback.facts);
  viewer.show(playback.facts);
  showTokens();
  showSessions(sessions, viewer.session, viewer.now, kick);
  showStatus(status, sessions, switchMiddleware);
}

async function fetchStatus() {
  const src = playback.facts.src;
  try {
    const response = await fetch("./status.json?src=" + encodeURIComponent(src), { cache: "no-store", signal: AbortSignal.timeout(3000) });
    if (!response.ok) throw new Error("status " + response.status);
    const fetched = await response.json();
    if (src !== playback.facts.src) return fetchStatus(); // another source plays by now
    if (status && Date.parse(fetched.now) < Date.parse(status.now)) return; // another request was faster
    status = fetched;
    if (src === "" && status.src) play(status.src);
    else show();
    playback.facts.statuses++;
  } catch {
    status = null;
    showDisconnected();
  }
}

// post sends a command to the demo and returns the body of its response.
async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(3000),
  });
  const text = (await response.text()).trim();
  if (!response.ok) throw new Error(text || "status " + response.status);
  return text;
}

async function switchMiddleware(mode) {
  try {
    await post("./middleware", { mode });
    await fetchStatus();
  } catch (error) {
    showSwitchFailed(mode, error.message);
  }
}

async function kick(session) {
  try {
    const done = JSON.parse(await post("./kick", { session: session.id }));
    showKicked(`Kicked ${session.name}: ${plural(done.kicked, "session")} ended.`);
    await fetchStatus();
  } catch (error) {
    showKicked(`Could not kick ${session.name}: ${error.message}`, true);
  }
}

async function pollStatus() {
  const startedAt = performance.now();
  await fetchStatus();
  setTimeout(pollStatus, Math.max(100, statusInterval - (performance.now() - startedAt)));
}

setInterval(() => {
  playback.showMeasurements();
  history.add(playback.facts, status?.middleware?.mode);
}, 500);

const source = sourceFromURL();
if (source) play(source);
pollStatus();
