// What each outage cost: viewers who watched without an answer, and whom the backend then denied.

import * as api from "./api.js";
import { cells, h, setText, table, updateRows } from "./dom.js";
import { bytes, count, seconds, time } from "./format.js";
import { paced } from "./paced.js";

export function freeRides() {
  const columns = ["Backend", "Outage", "Sessions", "Unverified for", "Free rides", "Free for", "Sent", "Nodes"];
  const list = table("Free rides by outage, the newest first", columns), summary = h("p", { class: "summary", role: "status" }, "Reading…");
  const csv = h("p", { hidden: true }, h("a", { href: "/api/v1/free-rides?format=csv", download: "free-rides.csv" }, "Download as CSV"));
  const element = h("div", null, h("h1", null, "Free rides"),
    h("p", { class: "hint" }, "Viewers who were admitted without an answer while a backend was unavailable, and whom it denied afterwards."),
    summary, h("div", { class: "scroll" }, list.element), csv);
  list.element.hidden = true;
  let isClosed = false, isAvailable = true;

  const refresh = paced(async () => {
    if (!isAvailable) return;
    try {
      const found = await api.get("free-rides");
      if (isClosed) return;
      const all = [...(found.reports ?? [])].sort((a, b) => (a.started < b.started ? 1 : -1));
      csv.hidden = list.element.hidden = all.length === 0;
      setText(summary, all.length ? `${count(all.length)} outages` : "No outage is known.");
      if (found.unreachable_nodes?.length) summary.append(` – nodes that did not respond: ${found.unreachable_nodes.join(", ")}`);
      updateRows(list.body, all, (r) => r.id, () => cells(columns), (row, r) => {
        [r.backend, `${time(r.started)} – ${r.ended ? time(r.ended) : "now"}`, count(r.sessions), seconds(r.unverified_seconds ?? 0), count(r.free_rides),
          seconds(r.free_ride_seconds ?? 0), bytes(r.bytes), (r.nodes ?? []).filter(Boolean).join(", ") || "–"].forEach((text, i) => setText(row.children[i], text));
      });
    } catch (failure) {
      if (isClosed) return;
      isAvailable = failure.status !== 404;
      setText(summary, isAvailable ? failure.message : "The report is not available on this node.");
    }
  });
  refresh.now();
  return { element, onOverview: refresh, close: () => { isClosed = true; } };
}
