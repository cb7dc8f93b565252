// Connects the player, the status of the gateway and the history.
import { Playback } from "./playback.js";
import { History } from "./history.js";
import { showStatus, showDisconnected, showSwitchFailed, viewerOf } from "./panel.js";

const statusInterval = 1000; // ms

const sourceInput = document.getElementById("src");
const playback = new Playback(document.getElementById("video"), document.getElementById("picture"));
const history = new History(document.getElementById("history"));
let status = null;

// Tests and the browser's console read the facts.
window.usherDemo = playback.facts;

function play(src) {
  sourceInput.value = src;
  playback.play(src);
}

function sourceFromURL() {
  return new URLSearchParams(location.search).get("src");
}

document.getElementById("address").addEventListener("submit", (event) => {
  event.preventDefault();
  const src = sourceInput.value.trim();
  if (src === "") return;
  window.history.pushState(null, "", "?src=" + encodeURIComponent(src));
  play(src);
});
window.addEventListener("popstate", () => play(sourceFromURL() ?? status?.src ?? ""));
document.getElementById("retry").addEventListener("click", () => playback.play(playback.facts.src));

async function fetchStatus() {
  try {
    const response = await fetch("./status.json", { cache: "no-store", signal: AbortSignal.timeout(3000) });
    if (!response.ok) throw new Error("status " + response.status);
    status = await response.json();
    if (playback.facts.src === "" && status.src) play(status.src);
    showStatus(status, viewerOf(playback.facts.src), switchMiddleware);
  } catch {
    status = null;
    showDisconnected();
  }
}

async function switchMiddleware(mode) {
  try {
    const response = await fetch("./middleware", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ mode }),
      signal: AbortSignal.timeout(3000),
    });
    if (!response.ok) throw new Error("status " + response.status);
    await fetchStatus();
  } catch (error) {
    showSwitchFailed(mode, error.message);
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
