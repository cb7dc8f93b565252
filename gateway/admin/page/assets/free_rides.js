// What each outage cost: viewers who watched without an answer, and whom the backend then denied.

import * as api from "./api.js";
import { cells, h, setText, table, updateRows } from "./dom.js";
import { bytes, count, plural, seconds, time } from "./format.js";
import { paced } from "./paced.js";

// outage says how long the backend was away, and whether sessions still wait for its answer.
function outage(r) {
  if (!r.recovered) return r.running ? "goes on" : "ended";
  const away = `for ${seconds((new Date(r.recovered) - new Date(r.started)) / 1000)}`;
  return r.running ? `${away}; ${count(r.unverified)} still unverified` : away;
}

export function freeRides() {
  const columns = ["Backend", "Outage", "Unverified sessions", "Verified", "Free rides", "Free for", "Sent", "Unknown", "Nodes"];
  const list = table("Free rides by outage, the newest first", columns), summary = h("p", { class: "summary", role: "status" }, "Reading…");
  const csv = h("p", { class: "after", hidden: true }, h("a", { href: "/api/v1/free-rides?format=csv", download: "free-rides.csv" }, "Download as CSV"));
  const element = h("div", null, h("h1", null, "Free rides"),
    h("p", { class: "hint" }, "What each outage cost. A free ride is a session that was allowed without an answer, and that the backend denied afterwards."),
    summary, h("div", { class: "scroll" }, list.element), csv);
  list.element.hidden = true;
  let isClosed = false;

  const refresh = paced(async () => {
    try {
      const found = await api.get("free-rides");
      if (isClosed) return;
      const all = [...(found.reports ?? [])].sort((a, b) => (a.started < b.started ? 1 : -1));
      csv.hidden = list.element.hidden = all.length === 0;
      setText(summary, all.length ? plural(all.length, "outage", "outages") : "No outage is known.");
      if (found.incomplete) summary.append(" – Redis is unavailable: this is what one node saw");
      if (found.unreachable_nodes?.length) summary.append(` – nodes that did not respond: ${found.unreachable_nodes.join(", ")}`);
      updateRows(list.body, all, (r) => r.id, () => cells(columns), (row, r) => {
        const about = (n) => count(n, r.approximate);
        [r.backend, `${time(r.started)}, ${outage(r)}`, `${about(r.sessions)} for ${seconds(r.unverified_seconds)} together`, about(r.verified), about(r.free_rides),
          seconds(r.free_ride_seconds), bytes(r.bytes), about(r.unknown), (r.nodes ?? []).map((n) => n.node).filter(Boolean).join(", ") || "–"].forEach((text, i) => setText(row.children[i], text));
      });
    } catch (failure) {
      if (!isClosed) setText(summary, failure.message);
    }
  });
  refresh.now();
  return { element, onOverview: refresh, close: () => { isClosed = true; } };
}
