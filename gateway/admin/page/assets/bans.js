// The bans, with those of kicks.

import * as api from "./api.js";
import { cells, h, replace, setText, table, updateRows } from "./dom.js";
import { confirmDialog, later } from "./dialogs.js";
import { count, time, until } from "./format.js";
import { paced } from "./paced.js";

// MOST is how many bans are shown.
const MOST = 500;

function subject(b) {
  const on = b.channel ? ` on ${b.channel}` : "";
  if (b.user) return `user ${b.user}${on}`;
  if (b.session) return `session ${b.session}${on}`;
  if (b.address) return `address ${b.address}${on}`;
  if (b.viewers) return `the viewers of ${count(b.viewers)} sessions${on}`;
  return `credentials${on}`;
}

export function bans(app) {
  const columns = ["Subject", "Kind", "Until", "Reason", "Id", "Actions"];
  const list = table("Bans", columns), summary = h("p", { class: "summary", role: "status" }, "Reading…");
  const element = h("div", null, h("h1", null, "Bans"), summary, h("div", { class: "scroll" }, list.element));
  let isClosed = false;

  const unban = (b) => confirmDialog({
    title: `End the ${b.kick ? "kick" : "ban"}`, text: `Readmits ${subject(b)}.`, action: "End it",
    async submit() {
      const result = await api.write("DELETE", `bans/${encodeURIComponent(b.id)}`);
      app.notify(`Ended.${later(result)}`);
      refresh.now();
    },
  });

  function build(b) {
    const row = cells(columns), end = row.lastChild;
    if (app.canWrite) end.append(h("button", { type: "button", class: "small", "aria-label": `Unban ${subject(b)}`, onclick: () => unban(b) }, "Unban"));
    else end.append("–");
    replace(row.children[4], h("code", null, b.id));
    return row;
  }

  const refresh = paced(async () => {
    try {
      const all = (await api.get("bans")).bans;
      if (isClosed) return;
      setText(summary, all.length ? `${count(all.length)} active${all.length > MOST ? `, the first ${MOST} are shown` : ""}` : "There is no ban.");
      list.element.hidden = all.length === 0;
      updateRows(list.body, all.slice(0, MOST), (b) => b.id, build, (row, b) => {
        [subject(b), b.kick ? "kick" : "ban", `${time(b.until)} (${until(b.until)})`, b.reason || "–"].forEach((text, i) => setText(row.children[i], text));
      });
    } catch (failure) {
      setText(summary, failure.message);
    }
  });
  refresh.now();
  return { element, onOverview: refresh, close: () => { isClosed = true; } };
}
