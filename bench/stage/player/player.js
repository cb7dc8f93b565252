// The page's start: joins the player, the gateway's status and the history strip.
import { Playback } from "./playback.js";
import { History } from "./history.js";
import { showStatus, showLost, showSwitchFailed, viewerOf } from "./panel.js";

const statusEvery = 1000;

const address = document.getElementById("src");
const playback = new Playback(document.getElementById("video"), document.getElementById("picture"));
const history = new History(document.getElementById("history"));
let status = null;

// What tests and the browser's console may read.
window.usherDemo = playback.facts;

function play(src) {
  address.value = src;
  playback.play(src);
}

function readAddress() {
  return new URLSearchParams(location.search).get("src");
}

document.getElementById("address").addEventListener("submit", (event) => {
  event.preventDefault();
  const src = address.value.trim();
  if (src === "") return;
  window.history.pushState(null, "", "?src=" + encodeURIComponent(src));
  play(src);
});
window.addEventListener("popstate", () => play(readAddress() ?? status?.src ?? ""));
document.getElementById("again").addEventListener("click", () => playback.play(playback.facts.src));

async function ask() {
  try {
    const response = await fetch("./status.json", { cache: "no-store", signal: AbortSignal.timeout(3000) });
    if (!response.ok) throw new Error("status " + response.status);
    status = await response.json();
    if (playback.facts.src === "" && status.src) play(status.src);
    showStatus(status, viewerOf(playback.facts.src), switchMiddleware);
  } catch {
    status = null;
    showLost();
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
    if (!response.ok) throw new Error("answered " + response.status);
    await ask();
  } catch (error) {
    showSwitchFailed(mode, error.message);
  }
}

async function everySecond() {
  const began = performance.now();
  await ask();
  setTimeout(everySecond, Math.max(100, statusEvery - (performance.now() - began)));
}

setInterval(() => {
  playback.show();
  history.add(playback.facts, status?.middleware?.mode);
}, 500);

const asked = readAddress();
if (asked) play(asked);
everySecond();
