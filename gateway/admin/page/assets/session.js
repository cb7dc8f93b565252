// One session: what is known of its viewer, and what has decided on it.

import * as api from "./api.js";
import { badge, cells, h, replace, setText, table, updateRows } from "./dom.js";
import { banDialog, kickDialog } from "./dialogs.js";
import { ago, bytes, count, milliseconds, plural, time } from "./format.js";
import { paced } from "./paced.js";
import { unverified, withUser } from "./sessions.js";

export function session(app, id) {
  const heading = h("h1", null, "Session"), facts = h("dl", { class: "facts" }), actions = h("div", { class: "actions" });
  const trace = h("p"), note = h("p", { class: "hint", role: "status" }, "Reading…");
  const columns = ["Time", "Trigger", "Verdict", "Source", "Backend", "Took", "Node", "Reason"];
  const checks = table("What decided on the session, the newest first", columns);
  const element = h("div", null, h("p", null, h("a", { href: "#/sessions" }, "← Sessions")), heading, actions, h("section", { class: "card" }, facts),
    h("section", { class: "card" }, h("h2", null, "Timeline"), trace, note, h("div", { class: "scroll" }, checks.element)));
  checks.element.hidden = true;
  let current = null, isClosed = false;

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

  // readSession shows the session, and what was known of it while a node that may hold it is silent.
  async function readSession() {
    const found = await api.get("sessions/lookup", { ids: id }), silent = found.unreachable_nodes?.join(", ");
    if (isClosed) return;
    if (found.sessions.length) show(withUser(found.sessions[0], current ?? {}));
    else if (current && silent) throw new Error(`Whether it is live is unknown: ${silent} did not respond`);
    else if (current) show({ ...current, ended: true });
    else {
      actions.replaceChildren();
      replace(facts, h("div", null, h("dt", null, "Session"), h("dd", null, h("code", null, id))), h("div", null, h("dt", null, "State"), h("dd", null,
        silent ? `unknown: ${silent} did not respond` : "not live: it has ended, or never was")));
    }
  }

  // reason says why a check had its result, and what it stands for.
  function reason(c) {
    const parts = [c.error || c.reason];
    if (c.count > 1) parts.push(`${count(c.count)} times since ${time(c.since)}`);
    if (c.omitted) parts.push(`${count(c.omitted)} before it are left out`);
    return parts.filter(Boolean).join("; ");
  }

  function showChecks(t) {
    const newest = [...(t.checks ?? [])].reverse();
    checks.element.hidden = newest.length === 0;
    setText(note, newest.length ? `${plural(newest.length, "event", "events")}, the newest first` : "Nothing has decided on this session yet.");
    if (t.unreachable_nodes?.length) note.append(` – nodes that did not respond: ${t.unreachable_nodes.join(", ")}`);
    if (/^https?:\/\//.test(t.trace_url ?? "") && !trace.hasChildNodes()) {
      trace.append(h("a", { href: t.trace_url, target: "_blank", rel: "noreferrer noopener" }, "Open its traces ↗"));
    }
    updateRows(checks.body, newest, (c) => [c.since ?? c.time, c.node, c.trigger, c.verdict, c.source].join(" "), () => cells(columns), (row, c) => {
      const values = [time(c.time), c.trigger, badge(unverified(c) ? c.source : c.verdict, c.verdict), c.source, c.backend, milliseconds(c.duration_ms), c.node, reason(c)];
      values.forEach((value, i) => replace(row.children[i], value || "–"));
    });
  }

  const refresh = paced(async () => {
    try {
      await readSession();
      if (isClosed) return;
      if (current && !current.ended) showChecks(await api.get(`sessions/${encodeURIComponent(id)}/timeline`));
      else if (!current) setText(note, "Only a live session has a timeline.");
    } catch (failure) {
      if (!isClosed) setText(note, failure.message);
    }
  });
  refresh.now();
  return { element, onOverview: refresh, close: () => { isClosed = true; } };
}
