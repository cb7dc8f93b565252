// One session: what is known of its viewer, and every check.

import * as api from "./api.js";
import { badge, cells, h, replace, setText, table, updateRows } from "./dom.js";
import { banDialog, kickDialog } from "./dialogs.js";
import { ago, bytes, count, milliseconds, time } from "./format.js";
import { paced } from "./paced.js";
import { name, unverified } from "./sessions.js";

export function session(app, id) {
  const heading = h("h1", null, "Session"), facts = h("dl", { class: "facts" }), actions = h("div", { class: "actions" });
  const trace = h("p"), note = h("p", { class: "hint", role: "status" }, "Reading the checks…");
  const columns = ["Time", "Trigger", "Verdict", "Source", "Backend", "Took", "Node", "Reason"];
  const checks = table("Checks, the newest first", columns);
  const element = h("div", null, h("p", null, h("a", { href: "#/sessions" }, "← Sessions")), heading, actions, h("section", { class: "card" }, facts),
    h("section", { class: "card" }, h("h2", null, "Timeline"), trace, note, h("div", { class: "scroll" }, checks.element)));
  checks.element.hidden = true;
  let current = null, isClosed = false, isAvailable = true;

  function show(s) {
    setText(heading, s.user || s.user_id || "Session");
    const lines = [
      ["Verdict", [badge(s.ended ? "ended" : unverified(s) ? s.source : s.verdict, s.ended ? "ended" : s.verdict), ` by ${s.source}`]],
      ["Reason", s.reason], ["Channel", s.channel], ["Route", s.route], ["Backend", s.backend], ["User", s.user], ["User id", s.user_id], ["Address", s.address],
      ["User-Agent", s.user_agent], ["Started", time(s.started)], ["Last seen", ago(s.last_seen)], ["Requests", count(s.requests)], ["Sent", bytes(s.bytes)],
      ["Nodes", s.nodes?.filter(Boolean).join(", ")], ["Session", h("code", null, s.id)],
    ];
    replace(facts, lines.filter(([, value]) => value).map(([title, value]) => h("div", null, h("dt", null, title), h("dd", null, value))));
    if (!current && app.canWrite) {
      replace(actions,
        h("button", { type: "button", onclick: () => kickDialog(app, current, refresh.now) }, "Kick"),
        h("button", { type: "button", onclick: () => banDialog(app, current, refresh.now) }, "Ban"));
    }
    current = s;
  }

  async function readSession() {
    const found = await api.get("sessions/lookup", { ids: id });
    if (isClosed) return;
    if (found.sessions.length) show(found.sessions[0]);
    else if (current) show({ ...current, ended: true });
    else {
      actions.replaceChildren();
      replace(facts, h("div", null, h("dt", null, "Session"), h("dd", null, h("code", null, id))), h("div", null, h("dt", null, "State"), h("dd", null,
        found.unreachable_nodes?.length ? `unknown: ${found.unreachable_nodes.join(", ")} did not respond` : "not live: it has ended, or never was")));
    }
  }

  function showChecks(t) {
    const newest = [...(t.checks ?? [])].reverse();
    checks.element.hidden = newest.length === 0;
    setText(note, newest.length ? `${count(newest.length)} checks, the newest first` : "No check is known of this session.");
    if (t.unreachable_nodes?.length) note.append(` – nodes that did not respond: ${t.unreachable_nodes.join(", ")}`);
    if (/^https?:\/\//.test(t.trace_url ?? "") && !trace.hasChildNodes()) {
      trace.append(h("a", { href: t.trace_url, target: "_blank", rel: "noreferrer noopener" }, "Open its trace in Jaeger ↗"));
    }
    updateRows(checks.body, newest, (c) => [c.time, c.node, c.trigger, c.verdict, c.source].join(" "), () => cells(columns), (row, c) => {
      const values = [time(c.time), c.trigger, badge(unverified(c) ? c.source : c.verdict, c.verdict), c.source, c.backend, milliseconds(c.duration_ms), c.node, c.error || c.reason];
      values.forEach((value, i) => replace(row.children[i], value || "–"));
    });
  }

  const refresh = paced(async () => {
    try {
      await readSession();
      if (isAvailable) showChecks(await api.get(`sessions/${encodeURIComponent(id)}/timeline`));
    } catch (failure) {
      if (isClosed) return;
      if (failure.status === 404) {
        isAvailable = !current;
        setText(note, "The timeline is not available.");
      } else setText(note, failure.message);
    }
  });
  refresh.now();
  return { element, onOverview: refresh, close: () => { isClosed = true; } };
}
