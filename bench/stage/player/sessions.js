// Shows the list of sessions. Rows are kept while their sessions live, so that a click on a button meets the button.
import { byId, set, setText, element, duration, size } from "./page.js";
import { badge, tone, verdictOf, reasonOf } from "./viewer.js";

// maxListed bounds the list. The page's own session comes first, then the oldest.
const maxListed = 100;

// idleAfter is how long a viewer may ask for nothing and still count as watching.
const idleAfter = 10000; // ms

export const isIdle = (session, now) => now - Date.parse(session.last_seen) > idleAfter;

const rows = new Map();

export function showSessions(sessions, own, now, onKick) {
  const shown = sessions.toSorted((a, b) => (b === own) - (a === own) || Date.parse(a.since) - Date.parse(b.since) || a.id?.localeCompare(b.id))
    .slice(0, maxListed);
  const ended = sessions.filter((s) => s.isEnded).length;
  const count = ended ? `${sessions.length - ended} live, ${ended} ended` : String(sessions.length);
  set("session-count", shown.length < sessions.length ? `${count}; ${shown.length} shown` : count);
  const body = byId("sessions");
  if (shown.length === 0) {
    rows.clear();
    body.replaceChildren(element("tr", {}, element("td", { colspan: 4, class: "empty" }, "No sessions.")));
    return;
  }
  const current = shown.map((s) => {
    const key = s.id ?? "";
    if (!rows.has(key)) rows.set(key, newRow());
    const row = rows.get(key);
    row.show(s, s === own, now, onKick);
    return row.node;
  });
  for (const [key, row] of rows) if (!current.includes(row.node)) rows.delete(key);
  if (current.length !== body.children.length || current.some((node, i) => node !== body.children[i])) body.replaceChildren(...current);
}

function newRow() {
  const name = element("bdi", {});
  const you = element("span", { class: "you" }, "you");
  const place = element("small", {});
  const address = element("small", {});
  const decision = element("td", {});
  const seen = element("span", {});
  const sent = element("small", {});
  const button = element("button", { type: "button" }, "Kick");
  const node = element("tr", {},
    element("th", { scope: "row" }, element("span", { class: "name" }, name, you), place, address), decision,
    element("td", { class: "number" }, seen, sent), element("td", { class: "action" }, button));
  return {
    node,
    show(s, isOwn, now, onKick) {
      node.className = isOwn ? "own" : "";
      node.toggleAttribute("data-idle", Boolean(s.isEnded) || isIdle(s, now));
      node.title = s.id ?? "";
      setText(name, s.name);
      name.title = s.name;
      you.hidden = !isOwn;
      setText(place, s.place);
      setText(address, s.address ?? "");
      showDecision(decision, s, now);
      setText(seen, s.isEnded ? "ended" : duration(now - Date.parse(s.last_seen)) + " ago");
      setText(sent, s.isEnded ? "" : `${duration(now - Date.parse(s.since))}, ${size(s.bytes)}`);
      button.disabled = s.verdict === "denied";
      button.setAttribute("aria-label", `Kick ${s.name}`);
      button.onclick = () => onKick(s);
    },
  };
}

function showDecision(cell, s, now) {
  const left = Date.parse(s.refused_until) - now;
  const lines = [verdictOf(s), s.verdict === "pending" ? "" : `by ${s.source}`, reasonOf(s), left > 0 ? `for ${duration(left)} more` : ""];
  if (cell.dataset.lines === lines.join("\n")) return;
  cell.dataset.lines = lines.join("\n");
  cell.dataset.tone = tone(s);
  cell.replaceChildren(badge(s, lines[0]), ...lines.slice(1).filter(Boolean).map((line) => element("small", {}, line)));
}
