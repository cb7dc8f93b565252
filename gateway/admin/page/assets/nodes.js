// The nodes of the cluster.

import * as api from "./api.js";
import { badge, cells, h, setBadge, setText, table, updateRows } from "./dom.js";
import { age, ago, count } from "./format.js";
import { paced } from "./paced.js";

export function nodes() {
  const columns = ["Node", "State", "Sessions", "Address", "Version", "Up for", "Last heartbeat"];
  const list = table("Nodes", columns), summary = h("p", { class: "summary", role: "status" }, "Reading…");
  const element = h("div", null, h("h1", null, "Nodes"), summary, h("div", { class: "scroll" }, list.element));
  let isClosed = false;

  function build() {
    const row = cells(columns);
    row.children[1].append(badge("alive"));
    return row;
  }

  const refresh = paced(async () => {
    try {
      const found = await api.get("nodes"), all = found.nodes ?? [];
      if (isClosed) return;
      const when = found.incomplete ? " – Redis is unavailable: as this node saw them last" : "";
      setText(summary, `${count(all.filter((n) => n.alive).length)} alive of ${count(all.length)}${when}`);
      updateRows(list.body, all, (n) => n.id, build, (row, n) => {
        setText(row.children[0], (n.name || "this node") + (n.self && n.name ? " (this one)" : ""));
        setBadge(row.children[1].firstChild, !n.alive ? "silent" : n.draining ? "draining" : "alive");
        [count(n.sessions), n.address || "–", n.version || "–", age(n.started), ago(n.last_seen)].forEach((text, i) => setText(row.children[i + 2], text));
      });
    } catch (failure) {
      setText(summary, failure.message);
    }
  });
  refresh.now();
  return { element, onOverview: refresh, close: () => { isClosed = true; } };
}
